"""TLS in front of a Postgres that was built without: what a hosted one shows to the world."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@contextmanager
def front(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Serve Postgres's opening of TLS before a plain server; yields the port. Connections end with the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    threads: list[Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    threads.append(Thread(target=serve, args=(peer, port, context)))
                    threads[-1].start()

        accepting = Thread(target=accept)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join()


def serve(peer: socket.socket, port: int, context: ssl.SSLContext) -> None:
    """One client: plain if it asks for nothing, else TLS."""
    with peer, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
        if peer.recv(8, socket.MSG_PEEK) != _SSL_REQUEST:
            pump_both(peer, server)
            return
        peer.recv(8)
        peer.sendall(b"S")
        with context.wrap_socket(peer, server_side=True) as secured:
            pump_both(secured, server)


def pump_both(one: socket.socket, other: socket.socket) -> None:
    back = Thread(target=pump, args=(other, one))
    back.start()
    pump(one, other)
    back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
