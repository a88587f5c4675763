"""An HTTP proxy on loopback between the fleet and its object store. The proxy injects network faults.

    python -m simulation.chaos.proxy PORT UPSTREAM_PORT LATENCY_S PROFILE_FILE POISON_PATH MARK

The proxy sends SIGKILL to each process that requests POISON_PATH, as if the process ran out of memory on a hostile
video. It kills only processes whose environment variable CHAOS_RUN is MARK.
"""

import os
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from signal import SIGKILL
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import NamedTuple

import psutil

from simulation.chaos.network_faults import NetworkFault, draw_network_fault, read_profile
from validation.domain import Seconds
from validation.local.service import HOST

RUN_MARKER = "CHAOS_RUN"
"""Name of an environment variable that every process of a run has. Its value is unique to the run."""
UPSTREAM_TIMEOUT_S: Seconds = 30.0
DELAY_S: tuple[Seconds, Seconds] = (0.5, 3.0)
MAX_LOOKUPS = 10
LOOKUP_PAUSE_S: Seconds = 0.1
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with zero seconds. With it, ``close`` sends a TCP reset instead of an orderly shutdown."""


class Response(NamedTuple):
    """A response of the object store."""

    status: int
    headers: Mapping[str, str]
    length: str
    body: bytes


class FaultyProxy(ThreadingHTTPServer):
    """The proxy server, with one thread per connection. Faults are drawn in the order of the requests."""

    daemon_threads = True

    def __init__(
        self, port: int, upstream_port: int, *, latency_s: Seconds, profile_file: Path, poison_path: str, mark: str
    ) -> None:
        super().__init__((HOST, port), Relay)
        self.upstream_port, self.latency_s, self.profile_file = upstream_port, latency_s, profile_file
        self.poison_path, self.mark = poison_path, mark
        self.random = Random(0)  # noqa: S311 - faults, not secrets

    def shutdown_request(self, request: object) -> None:
        """Close the socket without an orderly shutdown, which would prevent a TCP reset."""
        assert isinstance(request, socket)  # noqa: S101 - a TCP server has only sockets
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of connections, because clients are killed during a run."""


class Relay(BaseHTTPRequestHandler):
    """Forwards requests to the object store, and sends the responses back."""

    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def relay(self) -> None:
        payload = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.partition("?")[0] == self.server.poison_path:
            kill_client(self.connection, self.server.mark)
        time.sleep(self.server.latency_s)
        fault = draw_network_fault(read_profile(self.server.profile_file), self.server.random)
        if fault is NetworkFault.RESET:
            self._reset_connection()
        elif fault is NetworkFault.UNAVAILABLE:
            self._respond(Response(503, {}, "0", b""))
        else:
            if fault is NetworkFault.DELAY:
                time.sleep(self.server.random.uniform(*DELAY_S))
            self._serve(payload, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay  # noqa: N815 - names of the standard library

    def _serve(self, payload: bytes, fault: NetworkFault | None) -> None:
        try:
            response = self._forward(payload)
        except (OSError, HTTPException):
            self._reset_connection()
            return
        if fault is NetworkFault.TRUNCATED_RESPONSE:
            self._respond(response._replace(body=response.body[: len(response.body) // 2]))
        if fault in {NetworkFault.LOST_RESPONSE, NetworkFault.TRUNCATED_RESPONSE}:
            self._reset_connection()
        else:
            self._respond(response)

    def _forward(self, payload: bytes) -> Response:
        connection = HTTPConnection(HOST, self.server.upstream_port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.request(self.command, self.path, payload or None, dict(self.headers.items()))
            reply = connection.getresponse()
            body = reply.read()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP}
            # The response to a HEAD request has a Content-Length but no body.
            return Response(reply.status, headers, reply.getheader("Content-Length") or str(len(body)), body)
        finally:
            connection.close()

    def _respond(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", response.length)
        self.end_headers()
        self.wfile.write(response.body)

    def _reset_connection(self) -> None:
        self.connection.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Log nothing, because a run has thousands of requests."""


def kill_client(connection: socket, mark: str) -> None:
    """Send SIGKILL to the process at the other end of a connection, if the process belongs to the run."""
    with suppress(psutil.Error, ProcessLookupError):
        pid = find_client(connection)
        if pid is not None and psutil.Process(pid).environ().get(RUN_MARKER) == mark:
            os.kill(pid, SIGKILL)


def find_client(connection: socket) -> int | None:
    """Return the process id at the other end of a loopback connection; None if no process is found.

    Both addresses are compared, because another or a closed connection may have the same port. The lookup is repeated,
    because the kernel's table of connections changes while it is read, so an entry can be missed.
    """
    ends = (connection.getpeername(), connection.getsockname())
    for _ in range(MAX_LOOKUPS):
        for found in psutil.net_connections("tcp4"):
            if found.pid is not None and (found.laddr, found.raddr) == ends:
                return int(found.pid)
        time.sleep(LOOKUP_PAUSE_S)
    return None


def main() -> None:
    port, upstream_port, latency_s, profile_file, poison_path, mark = sys.argv[1:7]
    FaultyProxy(
        int(port),
        int(upstream_port),
        latency_s=float(latency_s),
        profile_file=Path(profile_file),
        poison_path=poison_path,
        mark=mark,
    ).serve_forever()


if __name__ == "__main__":
    main()
