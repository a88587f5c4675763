"""Prefect's server, as it shows itself to this machine's credentials. Asked over HTTP: the core imports no Prefect."""

import json
import os
import ssl
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import httpx

from validation.domain import Seconds
from validation.errors import BadInput, Unreachable
from validation.gateway.tokens import find_tokens
from validation.settings import Settings

POOL = "vast-gpu"
ANSWER_WITHIN_S: Seconds = 20.0


class PrefectRefused(BadInput):
    """The server answers, and does not let us in."""

    def __init__(self, address: str, status: int) -> None:
        self.address, self.status = address, status
        super().__init__(
            f"the Prefect server at {address} refuses this machine (status {status}): its token has been revoked or "
            "mistyped; check PREFECT_CLIENT_CUSTOM_HEADERS on a box (`vfleet gateway token add`), PREFECT_API_KEY for "
            "Prefect Cloud, PREFECT_API_AUTH_STRING otherwise"
        )


def check_prefect(_settings: Settings) -> str:
    """The server answers, lets us in, and is of the version that we speak."""
    found, ours = str(_ask("/admin/version")), version("prefect")
    if found != ours:
        raise BadInput(f"the Prefect server is of version {found}, this machine of {ours}: install {ours} on both")
    return f"version {found} at {_address()}"


def check_pool(_settings: Settings) -> str:
    """The pool for boxes is there, of our type, and takes runs."""
    pool = _ask(f"/work_pools/{POOL}")
    if pool is None:
        raise BadInput(f"there is no work pool {POOL} on this Prefect server: run `vfleet bootstrap`")
    if pool["type"] != POOL or not pool["base_job_template"]:
        raise BadInput(f"work pool {POOL} was not made for our workers (type {pool['type']}): run `vfleet bootstrap`")
    if pool["is_paused"]:
        raise BadInput(f"work pool {POOL} is paused, so no run would come: `prefect work-pool resume {POOL}`")
    return f"{POOL}, {pool['status']}"


def check_tokens(settings: Settings) -> str | None:
    """Machines that are rented can be let in by the gateway, and shut out."""
    tokens = find_tokens(settings)
    if tokens is None:
        return None
    tokens.require_changeable()
    return f"{len(tokens.read())} machines may pass, by {tokens.path}"


def _ask(path: str, environment: Mapping[str, str] = os.environ) -> Any:
    """Ask the API. Returns None where it says that there is no such thing.

    Raises:
        BadInput: PREFECT_API_URL is missing or no address.
        PrefectRefused, Unreachable: no answer.
    """
    address, options = _address(environment), _credentials(environment)
    try:
        answer = httpx.get(f"{address}{path}", timeout=ANSWER_WITHIN_S, **options)
    except (httpx.HTTPError, ssl.SSLError, OSError) as error:
        check = "check PREFECT_API_URL, PREFECT_API_SSL_CERT_FILE and that the server is up"
        raise Unreachable("the Prefect server", address, check, error) from None
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise PrefectRefused(address, answer.status_code)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if not answer.is_success:
        raise Unreachable("the Prefect server", address, "look at its log", f"status {answer.status_code}")
    return answer.json()


def _address(environment: Mapping[str, str] = os.environ) -> str:
    url = environment.get("PREFECT_API_URL", "")
    is_api = url.rstrip("/").endswith("/api") or "/accounts/" in url  # a server's own, or a workspace of Prefect Cloud
    if not (url.startswith(("http://", "https://")) and is_api):
        raise BadInput(f"PREFECT_API_URL is {url!r}: give the Prefect server's address, as https://HOST/api")
    return url.rstrip("/")


def _credentials(environment: Mapping[str, str]) -> dict[str, Any]:
    """What Prefect's own client would present."""
    headers: dict[str, str] = {}
    options: dict[str, Any] = {"headers": headers}
    if key := environment.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    if password := environment.get("PREFECT_API_AUTH_STRING"):
        options["auth"] = tuple(password.split(":", 1))
    if custom := environment.get("PREFECT_CLIENT_CUSTOM_HEADERS"):
        try:
            headers |= json.loads(custom)
        except (ValueError, TypeError):
            raise BadInput("PREFECT_CLIENT_CUSTOM_HEADERS is not a JSON object: `vfleet gateway token add`") from None
    if authority := environment.get("PREFECT_API_SSL_CERT_FILE"):
        options["verify"] = ssl.create_default_context(cafile=authority)
    return options
