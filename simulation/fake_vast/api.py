"""The fake's API: the vendor's paths, words and quirks, over a `Cloud`."""

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from simulation.fake_vast import listing, rental_api, search
from simulation.fake_vast.account import Throttle
from simulation.fake_vast.cloud import ACCOUNT_KEY, Cloud
from simulation.fake_vast.failures import FailureMix
from simulation.fake_vast.market import describe_market
from simulation.fake_vast.transport import Faults, Reply, Request
from validation.domain import Seconds

Handler = Callable[["FakeVast", Request, int], Reply]


class FakeVast:
    """Answers requests as the vendor would. Not for several threads at once."""

    def __init__(self, cloud: Cloud | None = None, *, strict: bool = False, seed: int = 0) -> None:
        self.cloud = cloud or Cloud(seed=seed)
        self.throttle = Throttle(strict=strict)
        self.faults = Faults(random.Random(seed + 1))  # noqa: S311 - a simulation
        self.requests: list[tuple[str, str]] = []
        self._leak = random.Random(seed + 2)  # noqa: S311 - a simulation
        self.mix = FailureMix()
        """Of it, what a request itself is subject to; `play` sets all of it."""

    def play(self, mix: FailureMix) -> None:
        """Let go wrong what this mix says, and nothing else."""
        self.mix, self.throttle.strict, self.cloud.fates = mix, mix.strict, mix.fates
        self.cloud.outbids_per_hour, self.cloud.takings_per_hour = mix.outbids_per_hour, mix.takings_per_hour
        self.faults.set_all(mix.transport)

    def leaks(self) -> bool:
        """Whether a search lets one more offer through that it should not."""
        return self._leak.random() < self.mix.leaky_share

    def advance(self, seconds: Seconds) -> None:
        self.cloud.advance(seconds)

    def handle(self, request: Request) -> Reply:
        """Answer one request, throttled and spoiled as told."""
        self.cloud.settle()
        self.requests.append((request.method, request.path))
        path = request.path.rstrip("/") + "/"
        if request.method == "GET" and request.path == "/api/v0/users/current/":
            return Reply(301, "", {"Location": "/api/v0/users/current"})
        for method, pattern, kind, handler in ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, path)):
                number = int(found[1]) if found.groups() else 0
                return self._serve(request, kind, lambda: handler(self, request, number), number)  # noqa: B023 - at once
        return Reply(404, {"success": False, "error": "not_found", "msg": f"no such path {request.path}"})

    def _serve(self, request: Request, kind: str, serve: Callable[[], Reply], number: int) -> Reply:
        if kind == "open":
            return serve()
        if not self._may(request, kind, number):
            return self._forbid(request)
        if refusal := self.throttle.refuse(kind, request.key, self.cloud.now):
            return Reply(429, *refusal)
        return self.faults.spoil(kind, serve)

    def _forbid(self, request: Request) -> Reply:
        """A machine's own key opens nothing else; any other key is unknown."""
        if any(contract.key == request.key for contract in self.cloud.contracts.values()):
            return rental_api.refusal(403, "forbidden", "This key may not do that")
        return rental_api.refusal(self.mix.auth_status, "auth_error", "Invalid user key")

    def _may(self, request: Request, kind: str, number: int) -> bool:
        contract = self.cloud.contracts.get(number)
        own = contract is not None and request.key == contract.key and kind in {"show", "update", "destroy"}
        return request.key == ACCOUNT_KEY or own


def search_offers(fake: FakeVast, request: Request, _: int) -> Reply:
    return _search(fake, request.body)


def search_asks(fake: FakeVast, request: Request, _: int) -> Reply:
    return _search(fake, request.body.get("q") or {})


def _search(fake: FakeVast, query: Mapping[str, Any]) -> Reply:
    try:
        found = search.search(fake.cloud.offers.values(), query, fake.cloud.now, fake.leaks)
    except search.UnknownOperator as unknown:
        return rental_api.refusal(400, "invalid_request", f"{unknown} is not a valid search op")
    if quota := fake.throttle.count_rows(len(found), fake.cloud.now):
        return Reply(429, quota, {"X-RateLimit-Reset": str(quota["retry_after"])})
    return Reply(200, {"success": True, "offers": found})


def read_account(fake: FakeVast, _: Request, __: int) -> Reply:
    credit = round(fake.cloud.credit_usd, 6)
    return Reply(
        200,
        {"id": 1, "email": "somebody@example.com", "username": "somebody", "credit": credit, "balance": 0.0,
         "host_agreement_accepted": False, "api_key": ACCOUNT_KEY, "success": True},
    )  # fmt: skip


def name_gpus(_: FakeVast, __: Request, ___: int) -> Reply:
    return Reply(200, {"success": True, "gpu_names": ["RTX 3090", "RTX 4090"]})


def read_metrics(fake: FakeVast, _: Request, __: int) -> Reply:
    """Supply and prices by card: what an account may ask for nothing."""
    return Reply(200, {"success": True, "gpus": describe_market(fake.cloud.offers)})


ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("POST", r"/api/v0/bundles/", "search", search_offers),
    ("PUT", r"/api/v0/search/asks/", "search", search_asks),
    ("PUT", r"/api/v0/asks/(\d+)/", "create", rental_api.create),
    ("POST", r"/api/v0/asks/bulk/", "create", rental_api.create_many),
    ("GET", r"/api/v1/instances/", "list", listing.list_page),
    ("GET", r"/api/v0/instances/", "list", listing.refuse_old_listing),
    ("GET", r"/api/v0/instances/filters/", "show", listing.list_filters),
    ("GET", r"/api/v0/instances/(\d+)/", "show", listing.show_one),
    ("PUT", r"/api/v0/instances/(\d+)/", "update", rental_api.update),
    ("DELETE", r"/api/v0/instances/(\d+)/", "destroy", rental_api.destroy),
    ("PUT", r"/api/v0/instances/", "update", rental_api.update_many),
    ("DELETE", r"/api/v0/instances/", "destroy", rental_api.destroy_many),
    ("PUT", r"/api/v0/instances/bid_price/(\d+)/", "bid", rental_api.change_bid),
    ("PUT", r"/api/v0/instances/(?:reboot|recycle)/(\d+)/", "update", rental_api.reboot),
    ("PUT", r"/api/v0/instances/request_logs/(\d+)/", "update", listing.request_logs),
    ("GET", r"/logs/(\d+)/", "open", listing.read_logs),
    ("GET", r"/api/v0/users/current/", "account", read_account),
    ("GET", r"/api/v0/gpu_names/unique/", "open", name_gpus),
    ("GET", r"/api/v0/metrics/gpu/current/", "metrics", read_metrics),
)
