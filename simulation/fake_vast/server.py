"""Serve the fake on a port: `python -m simulation.fake_vast.server PORT [SEED]`.

The server has the vendor's paths, and four paths for tests: `GET /__fake/state`, `GET /__fake/requests` (all requests
so far), `POST /__fake/advance` and `POST /__fake/scenario`. Virtual time follows real time, and `advance` adds to it.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from simulation.fake_vast.api import FakeVast
from simulation.fake_vast.failures import STANDARD, FailureMix
from simulation.fake_vast.transport import SLOW_S, Reply, Request
from validation.local.service import HOST


class FakeServer(ThreadingHTTPServer):
    """An HTTP server for one fake. A lock serialises the requests."""

    daemon_threads = True

    def __init__(self, port: int, fake: FakeVast) -> None:
        super().__init__((HOST, port), FakeHandler)
        self._fake, self._lock, self._read_at = fake, threading.Lock(), time.monotonic()

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self._follow_real_time()
            if request.path.startswith("/__fake/"):
                return self._control(request)
            host = f"http://{HOST}:{self.server_port}"
            return self._fake.handle(
                Request(request.method, request.path, {**request.query, "host": host}, request.key, request.body)
            )

    def _follow_real_time(self) -> None:
        now = time.monotonic()
        self._fake.advance(now - self._read_at)
        self._read_at = now

    def _control(self, request: Request) -> Reply:
        match request.path:
            case "/__fake/advance":
                self._fake.advance(float(request.body["seconds"]))
            case "/__fake/scenario":
                play_scenario(self._fake, request.body)
            case "/__fake/requests":
                return Reply(200, {"requests": self._fake.requests})
        return Reply(200, describe(self._fake))


def play_scenario(fake: FakeVast, scenario: Mapping[str, Any]) -> None:
    """Change the state of the fake.

    Args:
        fake: the fake to change.
        scenario: values by key; all keys are optional. `mix` is the word `standard` or a mapping with the fields of
            `FailureMix`. `credit_usd`, `strict` and `lifecycles` replace these values. `next` maps endpoints to the
            failures of their next requests, and `chances` maps endpoints to probabilities of failures. `stop` lists
            the ids of rentals to stop.
    """
    cloud = fake.cloud
    if (mix := scenario.get("mix")) is not None:
        fake.play(STANDARD if mix == "standard" else FailureMix(**mix))
    cloud.credit_usd = float(scenario.get("credit_usd", cloud.credit_usd))
    cloud.lifecycles = scenario.get("lifecycles", cloud.lifecycles)
    fake.throttle.strict = bool(scenario.get("strict", fake.throttle.strict))
    for endpoint, kinds in scenario.get("next", {}).items():
        fake.connection.play_next(endpoint, *kinds)
    for endpoint, chances in scenario.get("chances", {}).items():
        fake.connection.set_chances(endpoint, chances)
    for number in scenario.get("stop", []):
        cloud.stop(cloud.rentals[int(number)])


def describe(fake: FakeVast) -> dict[str, Any]:
    """Return the internal state of the fake: time, money, living rentals, peaks, and counts of injected failures."""
    cloud = fake.cloud
    living = [
        {"id": c.id, "label": c.label, "lifecycle": c.lifecycle, "status": c.status(cloud.now),
         "speed": c.speed(cloud.now), "gpu_name": c.offer["gpu_name"], "key": c.key,
         "env": dict(c.order.get("env") or {}), "usd_per_hour": c.usd_per_hour}
        for c in cloud.living()
    ]  # fmt: skip
    return {
        "now": cloud.now, "credit_usd": cloud.credit_usd, "billed_usd": cloud.billed_usd, "living": living,
        "rented": len(cloud.rentals), "peak_machines": cloud.peak_machines,
        "peak_usd_per_hour": cloud.peak_usd_per_hour, "requests": len(fake.requests),
        "failures": dict(fake.connection.played),
    }  # fmt: skip


class FakeHandler(BaseHTTPRequestHandler):
    """Reads requests from a connection, and writes the fake's replies."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def _answer(self) -> None:
        reply = self.server.answer(self._read())
        if reply.late:
            time.sleep(SLOW_S)
        if reply.lost:
            self.close_connection = True
            self.connection.close()
            return
        content, kind = reply.encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the base class looks for these

    def _read(self) -> Request:
        address = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(content) if content else {}
        except ValueError:
            body = {}
        query = dict(parse_qsl(address.query))
        key = self.headers.get("Authorization", "").removeprefix("Bearer ") or query.get("api_key", "")
        return Request(self.command, address.path, query, key, body if isinstance(body, dict) else {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing, because requests contain secrets."""


def main(arguments: list[str]) -> None:
    port, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    FakeServer(port, FakeVast(seed=seed)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
