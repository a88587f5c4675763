"""The way to Vast.ai: the five calls that the fleet needs, paced, and never repeated where that could rent twice.

The vendor's own package is not used: it repeats creates whose answer was lost, and so rents twice.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import SecretStr

from validation.errors import FleetError, Transient, Unreachable
from validation.vast.errors import OutcomeUnknown, RequestRefused, Throttled, VastKeyMissing
from validation.vast.instances import Instance, Listing
from validation.vast.offers import Offer
from validation.vast.rate_limit import Clock, RateLimiter, WallClock
from validation.vast.responses import is_gone, parse_response

log = logging.getLogger("vfleet.vast")

PAGE = 25
"""Rows of a listing's page: the vendor's most."""
MAX_PAGES = 80
"""A listing that has not ended after 2,000 machines does not end."""
PATIENCE = 3
"""How often a request is repeated that may be: reads, and destroys, which have no effect the second time."""
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Created:
    """What a create that took effect returned."""

    instance_id: int


class VastClient:
    """One account. Use as a context manager; one process at a time may rent with it (the ledger's turn)."""

    def __init__(
        self,
        api_key: SecretStr,
        base_url: str,
        *,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Raises VastKeyMissing where the key is empty."""
        if not api_key.get_secret_value():
            raise VastKeyMissing
        self._base_url = base_url
        self._clock = clock or WallClock()
        self._pacer = RateLimiter(self._clock)
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key.get_secret_value()}"},
            timeout=TIMEOUT,
            follow_redirects=True,  # the account's address redirects
            transport=transport,
        )

    def search(self, query: Mapping[str, Any]) -> list[Offer]:
        """Read at most 64 offers; rows that cannot be read are left out.

        Raises:
            SearchQuotaExceeded, Throttled, Unreachable: later.
            VastKeyRefused, RequestRefused: not with this key or query.
        """
        body = self._repeat("search", "POST", "/api/v0/bundles/", json=dict(query))
        rows = body.get("offers")
        return [offer for row in rows or [] if isinstance(row, dict) and (offer := Offer.parse(row))]

    def create(self, offer_id: int, order: Mapping[str, Any]) -> Created:
        """Rent. Sent once, whatever happens.

        Raises:
            OfferGone, CreditExhausted, SpendLimited, VastKeyRefused, RequestRefused, Throttled: nothing was rented.
            CreatedButFailed: something was rented that must be destroyed.
            OutcomeUnknown: nobody knows. Only listings can tell.
        """
        path = f"/api/v0/asks/{offer_id}/"
        self._pacer.wait("create")
        try:
            body = parse_response(path, self._http.put(path, json=dict(order)))
        except httpx.ConnectError as error:  # never reached anybody
            raise self._unreachable(error) from error
        except httpx.TransportError as error:
            raise OutcomeUnknown(path, repr(error)) from error
        except Throttled as error:
            self._pacer.back_off("create", error.retry_after_s)
            raise
        if not isinstance(body.get("new_contract"), int):
            raise OutcomeUnknown(path, "success without an id")
        return Created(body["new_contract"])

    def list_instances(self) -> Listing:
        """List everything that the account rents, all pages, or say why that did not work.

        Raises:
            VastKeyRefused: no listing with this key.
        """
        rows: list[Instance] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            try:
                body = self._repeat("list", "GET", "/api/v1/instances/", params=_page(token))
                rows += [Instance.parse(row) for row in body["instances"]]
            except (Transient, RequestRefused) as error:
                return Listing(tuple(rows), str(error))
            except (KeyError, TypeError, ValueError) as error:
                return Listing(tuple(rows), f"a page of the listing makes no sense: {error!r}")
            if (token := body.get("next_token")) is None:
                return _complete(rows, body.get("total_instances"))
        return Listing(tuple(rows), f"the listing does not end after {MAX_PAGES} pages")

    def destroy(self, instance_id: int) -> None:
        """Give a machine back; one that does not exist is given back already. May be repeated.

        Raises:
            Throttled, Unreachable, OutcomeUnknown: send it again.
            VastKeyRefused, RequestRefused: the vendor keeps it; somebody must look.
        """
        try:
            self._repeat("destroy", "DELETE", f"/api/v0/instances/{instance_id}/", json={})
        except RequestRefused as error:
            if not is_gone(error):
                raise

    def read_credit(self) -> float:
        """Dollars that the account can still spend. Raises as ``search`` does."""
        body = self._repeat("account", "GET", "/api/v0/users/current")
        try:
            return float(body["credit"])
        except (KeyError, TypeError, ValueError):
            raise RequestRefused("/api/v0/users/current", 200, "no_credit_field", "the account shows none") from None

    def _repeat(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request that may be sent again; give up after ``PATIENCE`` failures that may heal."""
        for attempt in range(1, PATIENCE + 1):
            try:
                return self._send(endpoint, method, path, **options)
            except (Throttled, OutcomeUnknown, Unreachable) as error:
                log.warning("%s, attempt %d of %d: %s", endpoint, attempt, PATIENCE, error)
                told = error.retry_after_s if isinstance(error, Throttled) else None
                self._pacer.back_off(endpoint, told)
                if attempt == PATIENCE:
                    raise
        raise AssertionError("unreachable")

    def _send(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        self._pacer.wait(endpoint)
        try:
            return parse_response(path, self._http.request(method, path, **options))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> FleetError:
        return Unreachable("Vast.ai", self._base_url, "check the network and the vendor's status page", repr(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def _page(token: str | None) -> dict[str, str]:
    wanted = {"limit": str(PAGE), "order_by": json.dumps([{"col": "id", "dir": "asc"}])}
    return wanted if token is None else wanted | {"after_token": token}


def _complete(rows: list[Instance], total: object) -> Listing:
    """Believe a listing only if it holds as many machines as the vendor says there are, each once."""
    distinct = len({instance.id for instance in rows})
    if total != distinct or distinct != len(rows):
        return Listing(tuple(rows), f"{distinct} machines in {len(rows)} rows, where the vendor counts {total}")
    return Listing(tuple(rows))
