"""Ports of 127.0.0.1, the only address that the embedded stack uses, and plain HTTP requests to them."""

import socket
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from random import SystemRandom

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Below the kernel's range for outgoing connections, so that no client takes a port before a slow server binds it (up
to 30 s later)."""


def is_free(port: int) -> bool:
    """Whether a server could bind this port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(candidate, port)


def free_port() -> int:
    """Choose a random port for a server; on Linux no other call in any process returns the same port.

    The port is reserved while this process lives by a socket that is bound and never listens. Servers set SO_REUSEADDR
    and can bind the port beside it; a second call binds without SO_REUSEADDR and cannot.

    Raises:
        OSError: 1,000 ports were tried and all were taken.
    """
    for port in SystemRandom().sample(_PORTS, 1000):
        with socket.socket() as candidate:
            if _bind(candidate, port):
                if sys.platform == "linux":
                    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    candidate.detach()
                return port
    raise OSError(f"no free port on {HOST} among {_PORTS.start}-{_PORTS.stop - 1}")


def _bind(candidate: socket.socket, port: int) -> bool:
    try:
        candidate.bind((HOST, port))
    except OSError:
        return False
    return True


def ask_http(port: int, method: str, path: str) -> str | None:
    """Send one request. Returns what is wrong with the response, None if the status is 200.

    Proxies in the environment are not used: a proxy would connect to its own 127.0.0.1.
    """
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(method, path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{method} {path}: {error!r}"
    finally:
        connection.close()
    return None if status == HTTPStatus.OK else f"{method} {path}: status {status}"
