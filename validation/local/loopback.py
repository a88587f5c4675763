"""Ports of 127.0.0.1, the only address that the embedded stack uses, and plain questions to them."""

import socket
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from random import SystemRandom

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Below the range that kernels give to outgoing connections, so that no client takes a port between its
choice and the moment, up to half a minute later, at which a slow server binds it."""


def is_free(port: int) -> bool:
    """Tell whether a server could bind this port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(candidate, port)


def free_port() -> int:
    """Choose a port for a server, at random; on Linux no other call, of any process, chooses it too.

    It stays reserved while this process lives, by a socket that is bound and never listens: nobody gets an
    answer from it, any server with SO_REUSEADDR (they all set it) may bind the port beside it, and a second
    socket without cannot.

    Raises:
        OSError: a thousand ports were tried and all were taken.
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
    """Send one request; say what is wrong with the answer, or None if the status is 200.

    Proxies that the environment names are not used: they would be asked for their own 127.0.0.1.
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
