"""The way to Prefect's API, read from the environment as Prefect's own client reads it. The core imports no Prefect."""

import base64
import json
import re
import ssl
from collections.abc import Mapping

import certifi

from validation.errors import BadInput

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
