"""A faulty line to an object store: an HTTP proxy on loopback that serves requests as badly as it is told to.

    python -m simulation.chaos.proxy PORT UPSTREAM_PORT LATENCY_S WEATHER_FILE POISON_PATH MARK

Whoever asks for POISON_PATH is killed, as the kernel kills a process that runs out of memory over one hostile video:
in the middle of its work, without a word. Only processes that carry MARK in their environment are.
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
from validation.local.loopback import HOST

MARK_VARIABLE = "CHAOS_RUN"
"""Every process that belongs to a run has it in its environment, with a value that is this run's alone."""
UPSTREAM_WITHIN_S: Seconds = 30.0
DELAY_S: tuple[Seconds, Seconds] = (0.5, 3.0)
LOOKS = 10
BETWEEN_LOOKS_S: Seconds = 0.1
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends a reset instead of an orderly end."""


class Answer(NamedTuple):
    """What the store said."""

    status: int
    headers: Mapping[str, str]
    length: str
    body: bytes


class FaultyProxy(ThreadingHTTPServer):
    """The proxy. One thread a connection; the mishaps are drawn in the order in which requests come."""

    daemon_threads = True

    def __init__(
        self, port: int, upstream_port: int, *, latency_s: Seconds, weather_file: Path, poison_path: str, mark: str
    ) -> None:
        super().__init__((HOST, port), Relay)
        self.upstream_port, self.latency_s, self.weather_file = upstream_port, latency_s, weather_file
        self.poison_path, self.mark = poison_path, mark
        self.random = Random(0)  # noqa: S311 - mishaps, not secrets

    def shutdown_request(self, request: object) -> None:
        """Close without the orderly farewell, which would hide a reset."""
        assert isinstance(request, socket)  # noqa: S101 - TCP has no other
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break off are part of the run."""


class Relay(BaseHTTPRequestHandler):
    """Passes requests on to the store, and its answers back."""

    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def relay(self) -> None:
        payload = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.partition("?")[0] == self.server.poison_path:
            kill_client(self.connection, self.server.mark)
        time.sleep(self.server.latency_s)
        mishap = draw_network_fault(read_profile(self.server.weather_file), self.server.random)
        if mishap is NetworkFault.RESET:
            self._break_off()
        elif mishap is NetworkFault.UNAVAILABLE:
            self._answer(Answer(503, {}, "0", b""))
        else:
            if mishap is NetworkFault.DELAY:
                time.sleep(self.server.random.uniform(*DELAY_S))
            self._serve(payload, mishap)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay  # noqa: N815 - names of the standard library

    def _serve(self, payload: bytes, mishap: NetworkFault | None) -> None:
        try:
            answer = self._ask(payload)
        except (OSError, HTTPException):
            self._break_off()
            return
        if mishap is NetworkFault.CUT_ANSWER:
            self._answer(answer._replace(body=answer.body[: len(answer.body) // 2]))
        if mishap in {NetworkFault.LOST_ANSWER, NetworkFault.CUT_ANSWER}:
            self._break_off()
        else:
            self._answer(answer)

    def _ask(self, payload: bytes) -> Answer:
        connection = HTTPConnection(HOST, self.server.upstream_port, timeout=UPSTREAM_WITHIN_S)
        try:
            connection.request(self.command, self.path, payload or None, dict(self.headers.items()))
            reply = connection.getresponse()
            body = reply.read()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP}
            # The answer to a HEAD tells the length of a body that does not come.
            return Answer(reply.status, headers, reply.getheader("Content-Length") or str(len(body)), body)
        finally:
            connection.close()

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", answer.length)
        self.end_headers()
        self.wfile.write(answer.body)

    def _break_off(self) -> None:
        self.connection.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Say nothing: there are thousands of requests."""


def kill_client(connection: socket, mark: str) -> None:
    """SIGKILL the process at the other end of a connection, if it belongs to the run."""
    with suppress(psutil.Error, ProcessLookupError):
        pid = find_client(connection)
        if pid is not None and psutil.Process(pid).environ().get(MARK_VARIABLE) == mark:
            os.kill(pid, SIGKILL)


def find_client(connection: socket) -> int | None:
    """Which process holds the other end of this connection over loopback; None if none is found.

    A port alone does not tell: another connection, or one just closed, may bear the same. And the kernel's table is
    read in pieces while others open and close, so that an end can be missed: it is looked for again.
    """
    ends = (connection.getpeername(), connection.getsockname())
    for _ in range(LOOKS):
        for found in psutil.net_connections("tcp4"):
            if found.pid is not None and (found.laddr, found.raddr) == ends:
                return int(found.pid)
        time.sleep(BETWEEN_LOOKS_S)
    return None


def main() -> None:
    port, upstream_port, latency_s, weather_file, poison_path, mark = sys.argv[1:7]
    FaultyProxy(
        int(port),
        int(upstream_port),
        latency_s=float(latency_s),
        weather_file=Path(weather_file),
        poison_path=poison_path,
        mark=mark,
    ).serve_forever()


if __name__ == "__main__":
    main()
