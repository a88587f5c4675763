"""An HTTP server whose responses a test scripts, also wrong ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Script:
    """The responses of a server, and the requests that it received."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    requests: list[BaseHTTPRequestHandler] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    """Set at the end of the test: a response that stalls waits for it."""
    url: str = ""


@contextmanager
def serve(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Script]:
    """Respond to every request on loopback by calling `answer`, until the test is over."""
    script = Script(answer)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            script.requests.append(self)
            self.close_connection = True
            script.answer(self)

        do_GET = do_HEAD = do_PUT = do_DELETE = respond  # noqa: N815 - the base class looks for these names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def respond(status: int, body: bytes = b"", **headers: object) -> Callable[[BaseHTTPRequestHandler], None]:
    """Respond to every request in the same way."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, status, body, **headers)

    return answer


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: object) -> None:
    """Send one response. `content_length` may be larger than `body`."""
    request.send_response(status)
    defaults = {"content_length": len(body), "etag": '"1"', "last_modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    for name, value in {**defaults, **headers}.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()
    request.wfile.write(body)
