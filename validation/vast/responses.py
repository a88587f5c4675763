"""Read the vendor's answers: which of its many words for no was said?"""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from validation.errors import FleetError
from validation.vast.errors import (
    CreatedButFailed,
    CreditExhausted,
    OfferGone,
    OutcomeUnknown,
    RequestRefused,
    SearchQuotaExceeded,
    SpendLimited,
    Throttled,
    VastKeyRefused,
)

MESSAGE_CHARS = 200
"""How much of a foreign sentence is passed on."""


def parse_response(endpoint: str, response: httpx.Response) -> dict[str, Any]:
    """Return the body of a request that took effect.

    Raises:
        FleetError: one of ``faults``, chosen by the body. A 200 may say no, and what is not JSON from the API itself
            (a proxy's page, a cut body) says nothing at all about what took effect: OutcomeUnknown.
    """
    body = _parse(response)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise _throttled(endpoint, response, body or {})
    if body is None or response.is_server_error:
        raise OutcomeUnknown(endpoint, f"status {response.status_code}")
    if response.is_success and body.get("success", True):
        return body
    raise _refusal(endpoint, response.status_code, body)


def is_gone(error: RequestRefused) -> bool:
    """Whether the vendor says that an instance does not exist."""
    return error.error in {"no_such_instance", "not_found"}


def _parse(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _throttled(endpoint: str, response: httpx.Response, body: Mapping[str, Any]) -> FleetError:
    told = body.get("retry_after") or response.headers.get("Retry-After")
    try:
        wait_s = float(told) if told is not None else None
    except (TypeError, ValueError):
        wait_s = None
    if body.get("error") == "search_quota_exceeded":
        return SearchQuotaExceeded(wait_s)
    return Throttled(endpoint, wait_s)


def _refusal(endpoint: str, status: int, body: Mapping[str, Any]) -> FleetError:
    error = str(body.get("error") or body.get("detail") or "refused")
    message = str(body.get("msg") or body.get("message") or "")[:MESSAGE_CHARS]
    if isinstance(left := body.get("new_contract"), int):
        return CreatedButFailed(left, error)
    if "no_such_ask" in f"{error} {message}":
        return OfferGone(_first_number(body.get("ask_id"), endpoint))
    if "spend_rate_limit" in f"{error} {message}":
        return SpendLimited(message or error)
    if error == "insufficient_credit":
        return CreditExhausted(message or error)
    if error in {"auth_error", "unauthorized", "forbidden"} or status in {401, 403}:
        return VastKeyRefused(endpoint, message or error)
    return RequestRefused(endpoint, status, error, message)


def _first_number(*candidates: object) -> int:
    for candidate in candidates:
        if found := re.search(r"\d+(?=/?$)", str(candidate)):
            return int(found[0])
    return 0
