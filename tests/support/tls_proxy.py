"""A TLS proxy in serve_tls of a Postgres that was built without TLS."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@contextmanager
def serve_tls(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Answer Postgres's TLS request before a plain server; yields the port. Connections end with the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    threads: list[Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threads.append(Thread(target=serve_client, args=(client, port, context)))
                    threads[-1].start()

        accepting = Thread(target=accept)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join()


def serve_client(client: socket.socket, port: int, context: ssl.SSLContext) -> None:
    """Relay one client, through TLS if it asks for TLS."""
    with client, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
        if client.recv(8, socket.MSG_PEEK) != _SSL_REQUEST:
            relay_both_ways(client, server)
            return
        client.recv(8)
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secured:
            relay_both_ways(secured, server)


def relay_both_ways(one: socket.socket, other: socket.socket) -> None:
    """Relay two sockets until both ends have closed."""
    back = Thread(target=relay, args=(other, one))
    back.start()
    relay(one, other)
    back.join()


def relay(source: socket.socket, sink: socket.socket) -> None:
    """Relay one direction."""
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
