"""The API of the fake. It routes each request to a handler, and applies keys, rate limits and connection failures."""

import re
from collections.abc import Callable

from simulation.fake_vast.cloud import ACCOUNT_KEY
from simulation.fake_vast.router import ROUTES
from simulation.fake_vast.transport import Reply, Request, refusal
from simulation.fake_vast.vendor import Vendor


class FakeVast(Vendor):
    """Answers requests as the vendor does. The class is not thread-safe."""

    def handle(self, request: Request) -> Reply:
        """Answer one request, and count it in ``requests``."""
        self.cloud.catch_up()
        self.requests.append((request.method, request.path))
        path = request.path.rstrip("/") + "/"
        if request.method == "GET" and request.path == "/api/v0/users/current/":
            return Reply(301, "", {"Location": "/api/v0/users/current"})
        for method, pattern, kind, handler in ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, path)):
                number = int(found[1]) if found.groups() else 0
                return self._serve(request, kind, lambda: handler(self, request, number), number)  # noqa: B023 - at once
        return refusal(404, "not_found", f"no such path {request.path}")

    def _serve(self, request: Request, kind: str, serve: Callable[[], Reply], number: int) -> Reply:
        if kind == "open":
            return serve()
        if not self._is_allowed(request, kind, number):
            return self._forbid(request)
        if too_fast := self.throttle.refuse(kind, request.key, self.cloud.now):
            return Reply(429, *too_fast)
        return self.connection.corrupt(kind, serve)

    def _forbid(self, request: Request) -> Reply:
        """Refuse a request: with 403 if its key belongs to an instance, else with the status for a wrong key."""
        if any(rental.key == request.key for rental in self.cloud.rentals.values()):
            return refusal(403, "forbidden", "This key may not do that")
        return refusal(self.mix.auth_status, "auth_error", "Invalid user key")

    def _is_allowed(self, request: Request, kind: str, number: int) -> bool:
        rental = self.cloud.rentals.get(number)
        own = rental is not None and request.key == rental.key and kind in {"show", "update", "destroy"}
        return request.key == ACCOUNT_KEY or own
