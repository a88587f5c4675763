"""The object store: S3 (R2), a folder or memory behind one set of functions, with our own errors.

Errors that every function here may raise:
    Unreachable: no connection, a time-out, a server error or throttling that outlasted the client's own retries.
    StoreRefused: a wrong bucket or credential; no video is to blame.
    CredentialRejected: the key is no possible name of an object.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from validation.domain import StoreCredential
from validation.errors import BadInput
from validation.settings import Settings
from validation.storage.errors import ObjectMissing, StoreRefused, name_address, store_errors
from validation.storage.stream import ObjectStream

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_PREFLIGHT_KEY = "vfleet-preflight"
"""An object that nobody writes: asking for it shows whether a store answers, at the price of one small read."""

_RETRY: "RetryConfig" = {
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""Bridges a dropped connection (a broken download resumes where it broke). Outages belong to the caller's retries."""

_CONNECT_TIMEOUT_S, _STALL_TIMEOUT_S, _REQUEST_TIMEOUT_S = 5, 30, 900
"""A request may take long (a gigabyte at 2 MB/s is 500 s) as long as bytes keep coming."""


CredentialSource: TypeAlias = Callable[[], StoreCredential]
"""Asked before the first request, and again from five minutes before what it gave ends. It should answer at once."""


def open_store(url: str, settings: Settings, credentials: CredentialSource | None = None) -> ObjectStore:
    """Open the store that ``url`` names. Sends nothing; ``check_store`` does.

    Args:
        url: ``s3://bucket/prefix``, ``file:///folder`` (which must exist), or ``memory://`` (a new, empty store).
        settings: the endpoint, region and credentials of every ``s3://`` address.
        credentials: for an ``s3://`` address, in place of the settings'.

    Raises:
        BadInput: the address is none of these, the folder is not there, or a setting that S3 needs is missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return _open_s3(parts, settings, credentials or _read_credentials(parts, settings))
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return _open_folder(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return MemoryStore()
    raise BadInput(f"object store address {url!r}: write s3://bucket/prefix, file:///folder or memory://")


def check_store(store: ObjectStore, folder: str = "") -> None:
    """Ask the store one cheap question, so that a wrong address is known before anything is claimed.

    Args:
        store: the store.
        folder: where to ask. A rented box may look into its own folder only.
    """
    if isinstance(store, LocalStore):
        if not Path(str(store.prefix)).is_dir():
            raise StoreRefused(name_address(store), "no such folder", "create it, or correct the address")
        return
    try:
        key = f"{folder}/{_PREFLIGHT_KEY}".strip("/")
        with store_errors(store, key):
            obstore.get(store, key)
    except ObjectMissing:
        return


def object_exists(store: ObjectStore, key: str) -> bool:
    """Tell whether the store holds an object of this name. False is never a wrong bucket: that raises."""
    try:
        with store_errors(store, key):
            obstore.head(store, key)
    except ObjectMissing:
        check_store(store)  # a HEAD has no body, so its 404 does not tell a missing object from a missing bucket
        return False
    return True


def stream_object(store: ObjectStore, key: str) -> ObjectStream:
    """Open an object for reading from its first byte to its last; nothing touches the disk. Close it after use.

    Raises:
        ObjectMissing: the store holds no such object.
    """
    return ObjectStream(store, key)


def get_bytes(store: ObjectStore, key: str) -> bytes:
    """Read a whole object.

    Raises:
        ObjectMissing: the store holds no such object.
    """
    with stream_object(store, key) as stream:
        return stream.readall()


def put_once(store: ObjectStore, key: str, payload: bytes) -> None:
    """Write an object where none is. Of any number of writers of one key, one succeeds.

    Raises:
        ObjectExists: the key is taken; what lies there was not touched.
    """
    with store_errors(store, key):
        obstore.put(store, key, payload, mode="create", use_multipart=False)  # one request, so the condition is atomic


def delete_object(store: ObjectStore, key: str) -> None:
    """See to it that the store holds no object of this name, whether or not it did."""
    try:
        with store_errors(store, key):
            obstore.delete(store, key)
    except ObjectMissing:
        return


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing tells of it."""

    key: str
    size_bytes: int
    modified_at: datetime


def list_objects(store: ObjectStore, prefix: str = "") -> Iterator[StoredObject]:
    """List what lies under a folder-like prefix (``shards`` holds ``shards/a``, not ``shards2/a``), in any order."""
    with store_errors(store, prefix):
        for page in obstore.list(store, prefix or None):
            yield from (StoredObject(entry["path"], entry["size"], entry["last_modified"]) for entry in page)


def list_keys(store: ObjectStore, prefix: str = "") -> Iterator[str]:
    """Name the objects of ``list_objects``."""
    return (item.key for item in list_objects(store, prefix))


@dataclass(frozen=True)
class _Provider:
    """A source of credentials, as the client wants to be told them.

    Given as plain arguments they would stand readable in the store's ``config``, and an ``AWS_SESSION_TOKEN`` of the
    environment would be sent along with them.
    """

    source: CredentialSource

    def __call__(self) -> "S3Credential":
        given = self.source()
        return {
            "access_key_id": given.access_key_id,
            "secret_access_key": given.secret_access_key,
            "token": given.session_token,
            "expires_at": given.expires_at,
        }


def _read_credentials(parts: SplitResult, settings: Settings) -> CredentialSource:
    key, secret, token = settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_session_token
    if key is None or secret is None:
        raise BadInput(f"{parts.geturl()} needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    fixed = StoreCredential(
        key.get_secret_value(), secret.get_secret_value(), token.get_secret_value() if token else None
    )
    return lambda: fixed


def _open_s3(parts: SplitResult, settings: Settings, credentials: CredentialSource) -> S3Store:
    endpoint = settings.s3_endpoint_url
    if not endpoint:
        raise BadInput(f"{parts.geturl()} needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        raise BadInput(f"R2_ENDPOINT_URL is {endpoint!r}: write https://<account>.r2.cloudflarestorage.com")
    return S3Store(
        parts.netloc,
        prefix=unquote(parts.path).strip("/") or None,
        endpoint=endpoint,
        region=settings.s3_region,
        virtual_hosted_style_request=False,
        skip_signature=False,
        disable_bulk_delete=True,  # objects are deleted one at a time, and a plain DELETE says what went wrong
        credential_provider=_Provider(credentials),
        client_options=_client_options(endpoint),
        retry_config=_RETRY,
    )


def _client_options(endpoint: str) -> "ClientConfig":
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=_STALL_TIMEOUT_S),
        "timeout": timedelta(seconds=_REQUEST_TIMEOUT_S),
    }


def _open_folder(folder: Path) -> LocalStore:
    if not folder.is_dir():
        raise BadInput(f"object store folder {folder} does not exist: create it, or correct the address")
    return LocalStore(folder)
