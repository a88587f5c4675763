"""A fake Prefect Cloud: a workspace behind TLS and an API key, without a version, in front of a Prefect server."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx

from tests.support.certificates import make_certificate

KEY = "pnu_of_a_service_account"
WORKSPACE = "/api/accounts/0a/workspaces/0b"


@contextmanager
def serve_prefect_cloud(api_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Serve a workspace; yields the environment of its clients. A request without the key gets a 401."""
    certificate, key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), make_handler(api_url)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        root = f"https://127.0.0.1:{server.server_port}/api"
        yield {
            "PREFECT_CLOUD_API_URL": root,
            "PREFECT_API_URL": root.removesuffix("/api") + WORKSPACE,
            "PREFECT_API_KEY": KEY,
            "PREFECT_API_SSL_CERT_FILE": str(certificate),
        }
        server.shutdown()
        serving.join()


def make_handler(api_url: str) -> type[BaseHTTPRequestHandler]:
    """The request handler, which forwards requests with the key to the Prefect server at ``api_url``."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                self.respond(401, b'{"detail": "Unauthorized"}')
            elif not self.path.startswith(WORKSPACE) or self.path.endswith("/admin/version"):
                self.respond(404, b'{"detail": "Not Found"}')
            else:
                headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
                url = api_url + self.path.removeprefix(WORKSPACE)
                reply = httpx.request(self.command, url, content=body, headers=headers, timeout=30, trust_env=False)
                self.respond(reply.status_code, reply.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the base class

        def respond(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    return Handler
