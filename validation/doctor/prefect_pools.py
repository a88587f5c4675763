"""Prefect's server, as it shows itself to this machine's credentials. Asked over HTTP: the core imports no Prefect."""

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import httpx

from validation.doctor.prefect_access import (
    PrefectRefused,
    hide_password,
    is_cloud,
    read_address,
    read_authorities,
    read_headers,
)
from validation.domain import Seconds
from validation.errors import BadInput, Unreachable
from validation.gateway.tokens import find_tokens
from validation.settings import Settings

POOL = "vast-gpu"
ANSWER_WITHIN_S: Seconds = 20.0


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
    tokens.check_writable()
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
