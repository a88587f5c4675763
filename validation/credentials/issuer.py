"""Issue credentials of boxes: each box may read all tars, and read and write its own shards, and nothing else.

The Cloudflare API makes temporary R2 credentials for one bucket, one key prefix and some hours, as its reference says:
``POST /client/v4/accounts/{account}/r2/temp-access-credentials``. A credential stays valid until it expires, unless the
R2 token from which it was made is revoked. So the life of a credential is short.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx
from pydantic import SecretStr
from sqlalchemy import Engine

from validation.domain import StoreCredential
from validation.errors import BadInput, FleetError, Permanent, Transient
from validation.ledger.boxes import StoreName, read_credential_status, store_credential
from validation.settings import Settings
from validation.shards.naming import shard_folder
from validation.vendor_api import VendorApi


class CloudflareRefused(BadInput):
    """Cloudflare refuses a request, for example because it does not know the token or the token lacks a permission."""

    def __init__(self, bucket: str, reason: str) -> None:
        self.bucket, self.reason = bucket, reason
        super().__init__(
            f"Cloudflare refuses a credential for bucket {bucket} ({reason}): CLOUDFLARE_API_TOKEN and "
            "R2_ACCESS_KEY_ID must be of one R2 token with object read and write on the bucket, in account "
            "CLOUDFLARE_ACCOUNT_ID"
        )


class CloudflareThrottled(Transient):
    """Cloudflare refused a request because the account had sent too many requests (status 429)."""

    def __init__(self) -> None:
        super().__init__("Cloudflare throttles this account: its limit is 1,200 requests in five minutes")


class UnexpectedResponse(Permanent):
    """Cloudflare's response holds neither a credential nor an error in the documented form."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"Cloudflare answered {status} without a credential: has its API changed?")


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects that a credential gives access to, and the permitted operations."""

    bucket: str
    permission: Literal["object-read-only", "object-read-write"]
    prefix: str
    """Prefix of the accessible keys, ending with a slash; empty for the whole bucket."""

    def to_json(self) -> dict[str, Any]:
        scope = {"bucket": self.bucket, "permission": self.permission}
        return {**scope, "prefixes": [self.prefix]} if self.prefix else scope


class CloudflareClient(VendorApi):
    """HTTP client that makes temporary credentials from one R2 token. Use the client as a context manager."""

    def __init__(
        self,
        api_token: SecretStr,
        *,
        account_id: str,
        parent_access_key_id: SecretStr,
        base_url: str = "https://api.cloudflare.com",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__("Cloudflare", base_url, api_token, transport=transport)
        self._parent_access_key_id = parent_access_key_id
        self._path = f"/client/v4/accounts/{account_id}/r2/temp-access-credentials"

    def create_credential(self, scope: Scope, *, ttl_s: int) -> StoreCredential:
        """Create a credential for ``scope`` that is valid for ``ttl_s`` seconds. Each call creates a new credential.

        Raises:
            CloudflareRefused: Cloudflare returned an error, such as a missing permission of the token.
            CloudflareThrottled: the account sent too many requests; retry later.
            Unreachable: Cloudflare did not respond, or responded with status 5xx; retry later.
            UnexpectedResponse: the response holds no credential.
        """
        parent = self._parent_access_key_id.get_secret_value()
        body = {**scope.to_json(), "parentAccessKeyId": parent, "ttlSeconds": ttl_s}
        try:
            response = self._http.post(self._path, json=body)
        except httpx.TransportError as error:
            raise self._unreachable(repr(error)) from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise CloudflareThrottled
        if response.is_server_error:
            raise self._unreachable(f"status {response.status_code}")
        return _parse_credential(response, scope)


def _parse_credential(response: httpx.Response, scope: Scope) -> StoreCredential:
    try:
        match response.json():
            case {"success": True, "result": {"accessKeyId": str(key), "secretAccessKey": str(secret),
                                              "sessionToken": str(token)}}:  # fmt: skip
                return StoreCredential(key, secret, token)
            case {"success": False, "errors": [{"code": code, "message": message}, *_]}:
                raise CloudflareRefused(scope.bucket, f"{code} {message}")
    except ValueError:
        pass
    raise UnexpectedResponse(response.status_code)


TTL_S = 6 * 3600
"""Life of a credential in seconds, and so the longest use of a stolen credential. A credential is renewed when half of
its life is left, so boxes work on while the control machine is away for up to three hours."""


@dataclass(frozen=True, slots=True)
class CredentialIssuer:
    """Creates credentials and stores them in the ledger, from which each box reads its own."""

    engine: Engine
    client: CloudflareClient
    source_url: str
    results_url: str

    def create(self, worker_id: str) -> Mapping[StoreName, StoreCredential]:
        """Create the credentials of one box without storing them. Raises as ``CloudflareClient.create_credential``."""
        scopes = choose_scopes(worker_id, source_url=self.source_url, results_url=self.results_url)
        return {store: self.client.create_credential(scope, ttl_s=TTL_S) for store, scope in scopes.items()}

    def store(self, worker_id: str, credentials: Mapping[StoreName, StoreCredential]) -> None:
        """Store the credentials of one box in the ledger. For a box without a box key, store nothing."""
        for store, credential in credentials.items():
            store_credential(self.engine, worker_id, store, credential, ttl_s=TTL_S)

    def renew(self) -> list[str]:
        """Renew the credentials of each box whose credentials are due; stop at the first error.

        Returns:
            One sentence that describes the error; an empty list if there was no error.
        """
        for issued in read_credential_status(self.engine):
            if issued.is_due:
                try:
                    self.store(issued.worker_id, self.create(issued.worker_id))
                except FleetError as error:
                    return [f"credentials of boxes cannot be renewed: {error}"]  # further boxes would fail alike
        return []


def choose_scopes(worker_id: str, *, source_url: str, results_url: str) -> Mapping[StoreName, Scope]:
    """Return the scopes of one worker's credentials: read all tars, read and write the worker's own shards.

    Raises:
        BadInput: a URL is not an s3:// address.
    """
    (source, source_prefix), (results, results_prefix) = _split(source_url), _split(results_url)
    return {
        "source": Scope(source, "object-read-only", source_prefix),
        "results": Scope(results, "object-read-write", f"{results_prefix}{shard_folder(worker_id)}/"),
    }


@contextmanager
def open_issuer(engine: Engine, settings: Settings) -> Iterator[CredentialIssuer | None]:
    """Yield the issuer if the settings have an R2 token, else None.

    Without an issuer, boxes get object-store keys that the operator chooses.

    Raises:
        BadInput: the settings have a token, but lack the account id or the access key id.
    """
    token, parent = settings.cloudflare_api_token, settings.s3_access_key_id
    if token is None:
        yield None
        return
    if parent is None or not settings.cloudflare_account_id:
        raise BadInput("CLOUDFLARE_API_TOKEN needs CLOUDFLARE_ACCOUNT_ID and R2_ACCESS_KEY_ID beside it")
    with CloudflareClient(
        token,
        account_id=settings.cloudflare_account_id,
        parent_access_key_id=parent,
        base_url=settings.cloudflare_url,
    ) as client:
        yield CredentialIssuer(engine, client, settings.source_url, settings.results_url)


def _split(url: str) -> tuple[str, str]:
    """Return bucket and prefix of a store's URL; the prefix is empty or ends with a slash.

    Raises:
        BadInput: the URL is not an s3:// address.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise BadInput(f"credentials can be issued only for an s3:// store, not for {url}")
    prefix = unquote(parts.path).strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
