"""Errors for the vendor's refusals, and the parser of responses that raises them.

The parser uses the body of a response, because the vendor's status codes mislead: a wrong key gives status 404.
"""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from validation.errors import BadInput, FleetError, Permanent, Transient

MAX_MESSAGE_CHARS = 200
"""Number of characters of the vendor's message that our error message quotes."""


class VastKeyMissing(BadInput):
    """The API key of Vast.ai is not set."""

    def __init__(self) -> None:
        super().__init__("VAST_API_KEY is not set: make a key in the Vast.ai console, nothing was rented")


class VastKeyRefused(BadInput):
    """The vendor does not know the key, or the key lacks a permission."""

    def __init__(self, endpoint: str, message: str) -> None:
        self.endpoint, self.message = endpoint, message
        super().__init__(f"Vast.ai refuses the key for {endpoint} ({message}): check VAST_API_KEY and its permissions")


class CreditExhausted(BadInput):
    """The account has no credit left."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(f"the Vast.ai account has no credit ({message}): top it up, nothing more is rented until then")


class SpendLimited(BadInput):
    """The account is at its limit of dollars per hour, which the vendor sets for new accounts regardless of credit."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(
            f"the Vast.ai account is at its spend rate limit ({message}): ask the vendor to raise it, nothing more is "
            "rented until then"
        )


class OfferGone(Permanent):
    """The offer was rented by another account, or never existed. The caller tries the next offer."""

    def __init__(self, offer_id: int) -> None:
        self.offer_id = offer_id
        super().__init__(f"offer {offer_id} is not available any more")


class SearchQuotaExceeded(Transient):
    """The account's searches have returned as many offers as the vendor allows per day."""

    def __init__(self, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        when = f"in {retry_after_s:.0f} s" if retry_after_s else "tomorrow (UTC)"
        super().__init__(f"the account's daily search quota is used up: offers can be read again {when}")


class Throttled(Transient):
    """The vendor rejects requests as too frequent, in spite of the client's pauses."""

    def __init__(self, endpoint: str, retry_after_s: float | None) -> None:
        self.endpoint, self.retry_after_s = endpoint, retry_after_s
        super().__init__(f"Vast.ai throttles {endpoint}: send fewer requests, or use one program per key")


class OutcomeUnknown(Transient):
    """The response was lost or unreadable, so the request may have taken effect. A create must not be repeated."""

    def __init__(self, endpoint: str, cause: str) -> None:
        self.endpoint, self.cause = endpoint, cause
        super().__init__(f"it is unknown whether {endpoint} took effect ({cause})")


class RequestRefused(Permanent):
    """The vendor refused a request with a code for which this module has no other error. Nothing took effect."""

    def __init__(self, endpoint: str, status: int, error: str, message: str) -> None:
        self.endpoint, self.status, self.error, self.message = endpoint, status, error, message
        super().__init__(f"Vast.ai refused {endpoint} with {status} {error}: {message}")


class CreatedButFailed(Permanent):
    """The vendor refused a create but left an instance that bills its disk. The instance must be destroyed."""

    def __init__(self, instance_id: int, error: str) -> None:
        self.instance_id, self.error = instance_id, error
        super().__init__(f"a refused create ({error}) left instance {instance_id}: it must be destroyed")


def parse_response(endpoint: str, response: httpx.Response) -> dict[str, Any]:
    """Return the body of a request that took effect.

    Raises:
        FleetError: an error of this module, chosen by the body, because a response of status 200 may be a refusal.
        OutcomeUnknown: the body is not a JSON object (a proxy's page, a truncated body), or the status is 5xx.
    """
    body = _parse_json(response)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise _throttled(endpoint, response, body or {})
    if body is None or response.is_server_error:
        raise OutcomeUnknown(endpoint, f"status {response.status_code}")
    if response.is_success and body.get("success", True):
        return body
    raise _refusal(endpoint, response.status_code, body)


def is_gone(error: RequestRefused) -> bool:
    """Return whether the vendor refused a request because the instance does not exist."""
    return error.error in {"no_such_instance", "not_found"}


def _parse_json(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object in the body of a response; None if the body is anything else."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _throttled(endpoint: str, response: httpx.Response, body: Mapping[str, Any]) -> FleetError:
    """Return the error for status 429: the daily search quota, or requests that were too frequent."""
    given = body.get("retry_after") or response.headers.get("Retry-After")
    try:
        retry_after_s = float(given) if given is not None else None
    except (TypeError, ValueError):
        retry_after_s = None
    if body.get("error") == "search_quota_exceeded":
        return SearchQuotaExceeded(retry_after_s)
    return Throttled(endpoint, retry_after_s)


def _refusal(endpoint: str, status: int, body: Mapping[str, Any]) -> FleetError:
    """Return the error for a refused request, chosen by the codes and texts in the body."""
    error = str(body.get("error") or body.get("detail") or "refused")
    message = str(body.get("msg") or body.get("message") or "")[:MAX_MESSAGE_CHARS]
    if isinstance(left := body.get("new_contract"), int):
        return CreatedButFailed(left, error)
    if "no_such_ask" in f"{error} {message}":
        return OfferGone(_trailing_number(body.get("ask_id"), endpoint))
    if "spend_rate_limit" in f"{error} {message}":
        return SpendLimited(message or error)
    if error == "insufficient_credit":
        return CreditExhausted(message or error)
    if error in {"auth_error", "unauthorized", "forbidden"} or status in {401, 403}:
        return VastKeyRefused(endpoint, message or error)
    return RequestRefused(endpoint, status, error, message)


def _trailing_number(*candidates: object) -> int:
    """Return the number at the end of the first candidate that ends in one; 0 if none does. A final / is ignored."""
    for candidate in candidates:
        if found := re.search(r"\d+(?=/?$)", str(candidate)):
            return int(found[0])
    return 0
