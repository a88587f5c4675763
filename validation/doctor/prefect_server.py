"""The Prefect server, asked over HTTP with this machine's credentials.

Prefect's own client is not used, because importing it takes seconds and the core does not import Prefect. The address,
the credentials and the certificates are read from the environment as Prefect's client reads them.
"""

import base64
import json
import os
import re
import ssl
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import certifi
import httpx

from validation.domain import Seconds
from validation.errors import BadInput, Unreachable
from validation.gateway.tokens import find_tokens
from validation.settings import Settings

POOL = "vast-gpu"
ANSWER_WITHIN_S: Seconds = 20.0
CLOUD = "https://api.prefect.cloud/api"
"""Where Prefect Cloud is, unless PREFECT_CLOUD_API_URL says otherwise."""
_PROTECTED = frozenset({"user-agent", "prefect-csrf-token", "prefect-csrf-client"})
"""What Prefect's client lets nobody set by PREFECT_CLIENT_CUSTOM_HEADERS."""
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})


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
    """The server answers, lets us in, and is of the version that we speak. Prefect Cloud tells none, and serves all."""
    url = read_address(os.environ)
    if is_cloud(url, os.environ):
        _ask(f"/work_pools/{POOL}")
        return f"Prefect Cloud, at {hide_password(url)}"
    found, ours = str(_ask("/admin/version")), version("prefect")
    if found != ours:
        raise BadInput(f"the Prefect server is of version {found}, this machine of {ours}: install {ours} on both")
    return f"version {found} at {hide_password(url)}"


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
    url = read_address(environment)
    address = hide_password(url)
    headers, authorities = read_headers(environment), read_authorities(environment)
    try:
        answer = httpx.get(f"{url}{path}", timeout=ANSWER_WITHIN_S, headers=headers, verify=authorities)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        check = "check PREFECT_API_URL, PREFECT_API_SSL_CERT_FILE and that the server is up"
        raise Unreachable("the Prefect server", address, check, error) from None
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise PrefectRefused(address, answer.status_code)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if not answer.is_success:
        raise Unreachable("the Prefect server", address, "look at its log", f"status {answer.status_code}")
    return answer.json()


def read_address(environment: Mapping[str, str]) -> str:
    """Where the API is. It may hold a password: show ``hide_password`` of it.

    Raises:
        BadInput: PREFECT_API_URL is missing or no address of an API.
    """
    url = environment.get("PREFECT_API_URL", "")
    is_api = url.rstrip("/").endswith("/api") or "/accounts/" in url  # a server's own, or a workspace of Prefect Cloud
    if not (url.startswith(("http://", "https://")) and is_api):
        raise BadInput(
            f"PREFECT_API_URL is {hide_password(url)!r}: give the Prefect server's address, as https://HOST/api"
        )
    return url.rstrip("/")


def is_cloud(address: str, environment: Mapping[str, str]) -> bool:
    """Whether Prefect itself runs this server, and keeps it fit for every client."""
    return address.startswith(environment.get("PREFECT_CLOUD_API_URL") or CLOUD)


def hide_password(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return re.sub(r"^(\w+://)?.*@", r"\1", url)


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """What is presented: a server's password, else a key of Prefect Cloud; a header of one's own goes before both.

    Raises:
        BadInput: PREFECT_CLIENT_CUSTOM_HEADERS cannot be read.
    """
    headers = {}
    if password := environment.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = "Basic " + base64.b64encode(password.encode()).decode()
    elif key := environment.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        custom = dict(json.loads(environment.get("PREFECT_CLIENT_CUSTOM_HEADERS") or "{}"))
    except (ValueError, TypeError):
        raise BadInput("PREFECT_CLIENT_CUSTOM_HEADERS is not a JSON object: `vfleet gateway token add`") from None
    return headers | {name: str(value) for name, value in custom.items() if name.lower() not in _PROTECTED}


def read_authorities(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Who must vouch for the server: PREFECT_API_SSL_CERT_FILE, else whom everybody trusts.

    Raises:
        BadInput: that file cannot be read.
    """
    authority = environment.get("PREFECT_API_SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authority or certifi.where())
    except OSError as error:
        raise BadInput(f"PREFECT_API_SSL_CERT_FILE is {authority!r}, and no certificate can be read there") from error
    if environment.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in _YES:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
