"""Checks of the Prefect server and of its pools, deployments and control worker, over HTTP.

Prefect's own client is not used, because its import takes seconds and the core does not import Prefect. The address,
the credentials and the certificates are read from the same environment variables that Prefect's client reads.
"""

import base64
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import certifi
import httpx

from validation.control.dispatch import CHUNK_DEPLOYMENT, CONTROL_DEPLOYMENT, CONTROL_DEPLOYMENTS
from validation.doctor.check import CheckWarning
from validation.domain import Seconds
from validation.errors import BadInput, Unreachable
from validation.gateway.tokens import find_token_file
from validation.settings import Settings

POOL = "vast-gpu"
SERVICE = "the Prefect server"
CHECK_ADDRESS = "check PREFECT_API_URL, PREFECT_API_SSL_CERT_FILE and that the server is up"
REQUEST_TIMEOUT_S: Seconds = 20.0
CLOUD = "https://api.prefect.cloud/api"
"""Address of Prefect Cloud, unless PREFECT_CLOUD_API_URL sets another one."""
_PROTECTED = frozenset({"user-agent", "prefect-csrf-token", "prefect-csrf-client"})
"""Headers that Prefect's client ignores in PREFECT_CLIENT_CUSTOM_HEADERS."""
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


class PrefectRefused(BadInput):
    """The Prefect server refuses the credentials of this machine."""

    def __init__(self, address: str, status: int) -> None:
        self.address, self.status = address, status
        super().__init__(
            f"the Prefect server at {address} refuses this machine (status {status}): its token was revoked "
            "or mistyped; check PREFECT_CLIENT_CUSTOM_HEADERS on a box (`vfleet gateway token add`), "
            "PREFECT_API_KEY for Prefect Cloud, PREFECT_API_AUTH_STRING otherwise"
        )


def check_prefect(_settings: Settings) -> str:
    """Check that the Prefect server accepts this machine and has the same version (except Prefect Cloud)."""
    url = read_address(os.environ)
    if is_cloud(url, os.environ):
        ask_prefect("GET", f"/work_pools/{POOL}")
        return f"Prefect Cloud, at {hide_password(url)}"
    found, ours = str(ask_prefect("GET", "/admin/version")), version("prefect")
    if found != ours:
        raise BadInput(f"the Prefect server has version {found}, this machine {ours}: install {ours} on both")
    return f"version {found} at {hide_password(url)}"


def check_pool(_settings: Settings) -> str:
    """Check that the work pool of the boxes exists, has the worker type of this project, and is not paused."""
    pool = ask_prefect("GET", f"/work_pools/{POOL}")
    if pool is None:
        raise BadInput(f"there is no work pool {POOL} on this Prefect server: run `vfleet bootstrap`")
    if pool["type"] != POOL or not pool["base_job_template"]:
        raise BadInput(f"work pool {POOL} was not made for these workers (type {pool['type']}): run `vfleet bootstrap`")
    if pool["is_paused"]:
        raise BadInput(f"work pool {POOL} is paused, so its workers get no run: `prefect work-pool resume {POOL}`")
    return f"{POOL}, {pool['status']}"


def check_tokens(settings: Settings) -> str | None:
    """Check that the token file of the gateway is writable, so that tokens of boxes can be added and revoked."""
    tokens = find_token_file(settings)
    if tokens is None:
        return None
    tokens.check_writable()
    return f"{len(tokens.read())} boxes may pass, by {tokens.path}"


def ask_prefect(method: str, path: str, body: object = None, *, environment: Mapping[str, str] = os.environ) -> Any:
    """Send a request to the API and return its answer; None for status 404.

    Raises:
        BadInput: PREFECT_API_URL is missing or no address of a Prefect API, the custom headers or the certificate
            cannot be read, or the answer is not JSON.
        PrefectRefused: the credentials are refused.
        Unreachable: the server does not answer, or answers with an error status.
    """
    url = read_address(environment)
    address = hide_password(url)
    headers, context = read_headers(environment), make_ssl_context(environment)
    try:
        response = httpx.request(
            method, f"{url}{path}", json=body, timeout=REQUEST_TIMEOUT_S, headers=headers, verify=context
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unreachable(SERVICE, address, CHECK_ADDRESS, error) from None
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise PrefectRefused(address, response.status_code)
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    if not response.is_success:
        raise Unreachable(SERVICE, address, "look at its log", f"status {response.status_code}")
    try:
        return response.json()
    except ValueError:  # the response comes from another program
        raise BadInput(f"{address} is not the API of a Prefect server: check PREFECT_API_URL") from None


def read_address(environment: Mapping[str, str]) -> str:
    """Return the URL of the API. The URL may contain a password: pass it through ``hide_password`` before showing it.

    Raises:
        BadInput: PREFECT_API_URL is missing or not the address of an API.
    """
    url = environment.get("PREFECT_API_URL", "")
    is_api = url.rstrip("/").endswith("/api") or "/accounts/" in url  # a server, or a workspace of Prefect Cloud
    if not (url.startswith(("http://", "https://")) and is_api):
        raise BadInput(
            f"PREFECT_API_URL is {hide_password(url)!r}: set it to the Prefect server's address, as https://HOST/api"
        )
    return url.rstrip("/")


def is_cloud(address: str, environment: Mapping[str, str]) -> bool:
    """Return whether an address belongs to Prefect Cloud."""
    return address.startswith(environment.get("PREFECT_CLOUD_API_URL") or CLOUD)


def hide_password(url: str) -> str:
    """Return a URL without its user name and password."""
    return re.sub(r"^(\w+://)?.*@", r"\1", url)


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request: a server's password or a key of Prefect Cloud, overridden by custom headers.

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


def make_ssl_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Return an SSL context that trusts PREFECT_API_SSL_CERT_FILE, or the public authorities if it is not set.

    PREFECT_API_TLS_INSECURE_SKIP_VERIFY turns the verification off.

    Raises:
        BadInput: PREFECT_API_SSL_CERT_FILE cannot be read.
    """
    authority = environment.get("PREFECT_API_SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authority or certifi.where())
    except OSError as error:
        raise BadInput(f"PREFECT_API_SSL_CERT_FILE is {authority!r}, from which no certificate can be read") from error
    if environment.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in _TRUE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


CONTROL_POOL = "control"
MAX_TICK_AGE = timedelta(minutes=15)
"""Age of the last tick above which the check warns. Ticks run every two minutes."""
_WORKING_DIRECTORY = "set_working_directory"
_FINAL = {"any_": ["COMPLETED", "FAILED", "CRASHED"]}


def check_control_worker(_settings: Settings) -> str:
    """Check that the work pool `control` exists, is not paused, and has an online worker."""
    pool = ask_prefect("GET", f"/work_pools/{CONTROL_POOL}")
    if pool is None:
        raise BadInput(f"there is no work pool {CONTROL_POOL} on this Prefect server: run `vfleet bootstrap`")
    if pool["is_paused"]:
        raise BadInput(f"work pool {CONTROL_POOL} is paused: `prefect work-pool resume {CONTROL_POOL}`")
    workers = ask_prefect("POST", f"/work_pools/{CONTROL_POOL}/workers/filter", {}) or []
    if online := [worker["name"] for worker in workers if worker["status"] == "ONLINE"]:
        return f"{', '.join(online)} polls the pool {CONTROL_POOL}"
    last = max((worker["last_heartbeat_time"] or "" for worker in workers), default="")
    since = f"since {_parse_time(last):%d %b %H:%M} UTC" if last else "ever"
    raise BadInput(
        f"no worker has polled the pool {CONTROL_POOL} {since}, so nothing is dispatched, swept or rented: start the "
        f"service vfleet-control, or `prefect worker start --pool {CONTROL_POOL}`"
    )


def check_deployments(_settings: Settings) -> str:
    """Check the deployments of the control flows and of ``validate-chunk``.

    Each deployment must exist and hold no literal ``{{ ... }}``, and this machine must have the code of the control
    flows. A paused ``operate-fleet`` is a warning.
    """
    found = {one["name"]: one for one in ask_prefect("POST", "/deployments/filter", {"limit": 200}) or []}
    if missing := [name for name in (*CONTROL_DEPLOYMENTS, CHUNK_DEPLOYMENT) if name not in found]:
        raise BadInput(f"there is no deployment {', '.join(missing)}: run `vfleet bootstrap`")
    _refuse_placeholders({name: found[name] for name in (*CONTROL_DEPLOYMENTS, CHUNK_DEPLOYMENT)})
    folders = {_check_code(found[name]) for name in CONTROL_DEPLOYMENTS}
    if found[CONTROL_DEPLOYMENT]["paused"]:
        raise CheckWarning(f"deployment {CONTROL_DEPLOYMENT} is paused, so nothing is dispatched, swept or rented")
    return f"{len(CONTROL_DEPLOYMENTS) + 1} deployments; the control flows run the code in {', '.join(folders)}"


def check_box_deployment(_settings: Settings) -> str:
    """Check that the deployment of the boxes' flow exists and holds no literal ``{{ ... }}``.

    This box must have the code of the flow.
    """
    found = ask_prefect("GET", f"/deployments/name/{CHUNK_DEPLOYMENT}/{CHUNK_DEPLOYMENT}")
    if found is None:
        raise BadInput(f"there is no deployment {CHUNK_DEPLOYMENT}: run `vfleet bootstrap` on the control machine")
    _refuse_placeholders({CHUNK_DEPLOYMENT: found})
    return f"the flow runs the code in {_check_code(found)}"


def check_last_tick(settings: Settings) -> str | None:
    """Check that the last run of ``operate-fleet`` ended within `MAX_TICK_AGE` and did not fail.

    Return None if no Vast.ai key is set.
    """
    if not settings.vast_api_key.get_secret_value():
        return None
    runs = ask_prefect(
        "POST",
        "/flow_runs/filter",
        {
            "sort": "END_TIME_DESC",
            "limit": 1,
            "deployments": {"name": {"any_": [CONTROL_DEPLOYMENT]}},
            "flow_runs": {"state": {"type": _FINAL}},
        },
    )
    if not runs:
        return "no tick has ended yet"
    (last,) = runs
    ended, message = _parse_time(last["end_time"]), last["state"].get("message") or last["state_name"]
    if last["state_type"] != "COMPLETED":
        raise CheckWarning(f"the last tick failed at {ended:%d %b %H:%M} UTC: {message}")
    if datetime.now(UTC) - ended > MAX_TICK_AGE:
        raise CheckWarning(
            f"the last tick ended at {ended:%d %b %H:%M} UTC, although one is due every two minutes: look at the "
            f"deployment {CONTROL_DEPLOYMENT} and at the control worker"
        )
    return f"the last tick ended at {ended:%H:%M} UTC: {message}"


def _refuse_placeholders(deployments: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a deployment with a literal `{{ ... }}`: its variable was not set when the deployment was created.

    Placeholders of Prefect itself (`prefect.`) are allowed.
    """
    for name, deployment in deployments.items():
        for step in _list_texts([deployment.get(part) for part in ("pull_steps", "job_variables", "path")]):
            if "{{" in step and "prefect." not in step:
                raise BadInput(f"deployment {name} holds the literal {step}: run `vfleet bootstrap`, which fills it in")


def _list_texts(value: Any) -> Iterator[str]:
    """Yield every string in a value of nested lists and mappings; keys of mappings are not yielded."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _list_texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _list_texts(each)


def _check_code(deployment: Mapping[str, Any]) -> str:
    """Return the folder of a deployment's code, after checking that the folder holds the file of the flow.

    Raises:
        BadInput: the file does not exist.
    """
    steps = deployment.get("pull_steps") or []
    folders = [inputs.get("directory") for step in steps for name, inputs in step.items() if _WORKING_DIRECTORY in name]
    folder = folders[0] if folders else deployment.get("path") or "."
    file = Path(folder) / str(deployment["entrypoint"]).partition(":")[0]
    if not file.is_file():
        raise BadInput(
            f"deployment {deployment['name']} runs {file}, which this machine does not have: install the project in "
            f"{folder}, or name its folder with `vfleet bootstrap --home FOLDER`"
        )
    return str(folder)


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
