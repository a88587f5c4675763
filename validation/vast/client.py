"""Client of the Vast.ai API: five rate-limited calls. A create is never retried, because a retry could rent twice.

The vendor's own package is not used, because it retries creates whose response was lost.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from validation.errors import Transient, Unreachable
from validation.vast.errors import (
    OutcomeUnknown,
    RequestRefused,
    Throttled,
    VastKeyMissing,
    is_gone,
    parse_response,
)
from validation.vast.listings import Instance, Listing, SearchResult
from validation.vast.rate_limit import Clock, RateLimiter, WallClock
from validation.vendor_api import VendorApi

log = logging.getLogger("vfleet.vast")

PAGE_ROWS = 25
"""Rows per page of a listing: the vendor's maximum."""
MAX_PAGES = 80
"""Maximum number of pages of a listing. A listing of more than 2,000 instances counts as an error of the paging."""
MAX_ATTEMPTS = 3
"""Number of attempts of a request that may be repeated: a read, or a destroy, which is idempotent."""
# After these errors a request that may be repeated is sent again.
RETRYABLE_ERRORS = (Throttled, OutcomeUnknown, Unreachable)


@dataclass(frozen=True, slots=True)
class CreatedInstance:
    """The response to a create that took effect."""

    instance_id: int


class VastClient(VendorApi):
    """Client of one Vast.ai account; a context manager. Only the holder of the fleet's lock may rent with it."""

    def __init__(
        self,
        api_key: SecretStr,
        base_url: str,
        *,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Create the client; no request is sent yet.

        Raises:
            VastKeyMissing: the key is empty.
        """
        if not api_key.get_secret_value():
            raise VastKeyMissing
        # The vendor redirects requests for the account.
        super().__init__("Vast.ai", base_url, api_key, follow_redirects=True, transport=transport)
        self._rate_limiter = RateLimiter(clock or WallClock())

    def search(self, query: Mapping[str, Any]) -> SearchResult:
        """Search for at most 64 offers. Unreadable rows are counted by the field that is missing or not valid.

        Raises:
            SearchQuotaExceeded, Throttled, Unreachable, OutcomeUnknown: retry later.
            VastKeyRefused, RequestRefused: the vendor refuses the key or the query.
        """
        body = self._send_with_retries("search", "POST", "/api/v0/bundles/", json=dict(query))
        return SearchResult.parse(body.get("offers") or [])

    def create(self, offer_id: int, request: Mapping[str, Any]) -> CreatedInstance:
        """Rent an offer. The request is never retried.

        Raises:
            OfferGone, CreditExhausted, SpendLimited, VastKeyRefused, RequestRefused, Throttled: nothing was rented.
            Unreachable: no connection was made; nothing was rented.
            CreatedButFailed: the vendor refused the create but left an instance, which must be destroyed.
            OutcomeUnknown: the response was lost. Only listings can show whether something was rented.
        """
        path = f"/api/v0/asks/{offer_id}/"
        self._rate_limiter.wait("create")
        try:
            body = parse_response(path, self._http.put(path, json=dict(request)))
        except httpx.ConnectError as error:  # the request was not sent
            raise self._unreachable(repr(error)) from error
        except httpx.TransportError as error:
            raise OutcomeUnknown(path, repr(error)) from error
        except Throttled as error:
            self._rate_limiter.back_off("create", error.retry_after_s)
            raise
        if not isinstance(body.get("new_contract"), int):
            raise OutcomeUnknown(path, "success without an id")
        return CreatedInstance(body["new_contract"])

    def list_instances(self) -> Listing:
        """List all instances of the account. An incomplete listing holds the reason why it is incomplete.

        Raises:
            VastKeyRefused: the key may not list instances.
        """
        rows: list[Instance] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            try:
                body = self._send_with_retries("list", "GET", "/api/v1/instances/", params=_page_parameters(token))
                rows += [Instance.parse(row) for row in body["instances"]]
            except (Transient, RequestRefused) as error:
                return Listing(tuple(rows), str(error))
            except (KeyError, TypeError, ValueError) as error:
                return Listing(tuple(rows), f"a page of the listing cannot be read: {error!r}")
            if (token := body.get("next_token")) is None:
                return _make_listing(rows, body.get("total_instances"))
        return Listing(tuple(rows), f"the listing does not end after {MAX_PAGES} pages")

    def destroy(self, instance_id: int) -> None:
        """Destroy an instance. An instance that does not exist counts as destroyed. The call may be repeated.

        Raises:
            Throttled, Unreachable, OutcomeUnknown: the destroy may have had no effect; repeat it later.
            VastKeyRefused, RequestRefused: the vendor keeps the instance; an operator must look at it.
        """
        try:
            self._send_with_retries("destroy", "DELETE", f"/api/v0/instances/{instance_id}/", json={})
        except RequestRefused as error:
            if not is_gone(error):
                raise

    def read_credit(self) -> float:
        """Return the dollars that the account can still spend. Raises as ``search`` does."""
        path = "/api/v0/users/current"
        body = self._send_with_retries("account", "GET", path)
        try:
            return float(body["credit"])
        except (KeyError, TypeError, ValueError):
            raise RequestRefused(path, 200, "no_credit_field", "the response holds no credit") from None

    def _send_with_retries(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request that may be repeated; give up after ``MAX_ATTEMPTS`` transient failures.

        The rate limiter pauses between attempts, at least for the time that the vendor requests.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(RETRYABLE_ERRORS),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            after=partial(self._back_off, endpoint),
            reraise=True,
        )
        return retrying(self._send, endpoint, method, path, **options)

    def _back_off(self, endpoint: str, attempt: RetryCallState) -> None:
        """Log a failed attempt, and delay the next request to the endpoint."""
        error = attempt.outcome.exception() if attempt.outcome else None
        log.warning("%s, attempt %d of %d: %s", endpoint, attempt.attempt_number, MAX_ATTEMPTS, error)
        self._rate_limiter.back_off(endpoint, error.retry_after_s if isinstance(error, Throttled) else None)

    def _send(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request when the rate limiter allows it, and return the body of its response."""
        self._rate_limiter.wait(endpoint)
        try:
            return parse_response(path, self._http.request(method, path, **options))
        except httpx.TransportError as error:
            raise self._unreachable(repr(error)) from error


def _page_parameters(token: str | None) -> dict[str, str]:
    """Return the query parameters of one page of the listing; ``token`` is None for the first page."""
    parameters = {"limit": str(PAGE_ROWS), "order_by": json.dumps([{"col": "id", "dir": "asc"}])}
    return parameters if token is None else parameters | {"after_token": token}


def _make_listing(rows: list[Instance], total: object) -> Listing:
    """Return the rows as a listing; it is complete only if each instance occurs once and the vendor's total agrees."""
    distinct = len({instance.id for instance in rows})
    if total != distinct or distinct != len(rows):
        return Listing(tuple(rows), f"{distinct} instances in {len(rows)} rows, where the vendor counts {total}")
    return Listing(tuple(rows))
