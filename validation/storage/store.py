"""The object store: S3 (R2), a folder or memory behind one set of functions, with the errors of this package.

Errors that every function here may raise:
    Unreachable: no connection, a time-out, a server error, or throttling that outlasted the client's own retries.
    StoreRefused: a wrong bucket or credential; no video is the cause.
    InvalidObjectKey: no object can have this key.
"""

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from validation.storage.errors import ObjectMissing, StoreRefused, describe_store_address, store_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_PREFLIGHT_KEY = "vfleet-preflight"
"""An object that is never written: reading it shows whether a store responds, at the price of one small request."""

_RETRY: "RetryConfig" = {
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""Bridges a dropped connection (a broken download resumes where it broke). Outages are left to the caller's retries."""

_CONNECT_TIMEOUT_S, _STALL_TIMEOUT_S, _REQUEST_TIMEOUT_S = 5, 30, 900
"""A request may take long (a gigabyte at 2 MB/s is 500 s) as long as bytes keep coming."""

_CHUNK_BYTES = 1 << 20
"""Held at a time per stream: a box that fetches eight videos holds eight of these."""

CredentialSource: TypeAlias = Callable[[], StoreCredential]
"""Called before the first request, and again from five minutes before the credential expires. It should return at
once."""


def open_store(url: str, settings: Settings, credentials: CredentialSource | None = None) -> ObjectStore:
    """Open the store that ``url`` names. Sends no request; ``check_store`` sends one.

    Args:
        url: ``s3://bucket/prefix``, ``file:///folder`` (which must exist), or ``memory://`` (a new, empty store).
        settings: the endpoint, region and credentials of every ``s3://`` address.
        credentials: for an ``s3://`` address, in place of the settings' credentials.

    Raises:
        BadInput: the address is none of these, the folder does not exist, or a setting that S3 needs is missing.
    """
    parts = _split(url, "object store address")
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        return _open_s3(parts, settings, credentials or _read_credentials(parts, settings))
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return _open_folder(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return MemoryStore()
    raise BadInput(
        f"object store address {_without_user(parts)!r}: write s3://bucket/prefix, file:///folder or memory://"
    )


def check_store(store: ObjectStore, folder: str = "") -> None:
    """Send the store one small request, so that a wrong address is found before anything is claimed.

    Args:
        store: the store.
        folder: where to read. A rented box may read its own folder only.
    """
    if isinstance(store, LocalStore):
        if not Path(str(store.prefix)).is_dir():
            raise StoreRefused(describe_store_address(store), "no such folder", "create it, or correct the address")
        return
    try:
        key = f"{folder}/{_PREFLIGHT_KEY}".strip("/")
        with store_errors(store, key):
            obstore.get(store, key)
    except ObjectMissing:
        return


def object_exists(store: ObjectStore, key: str) -> bool:
    """Return whether the store holds an object of this key. A wrong bucket raises; it is never False."""
    try:
        with store_errors(store, key):
            obstore.head(store, key)
    except ObjectMissing:
        check_store(store)  # the 404 of a HEAD has no body that tells a missing object from a missing bucket
        return False
    return True


def stream_object(store: ObjectStore, key: str) -> "ObjectStream":
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
    """Write an object where none is. Of any number of concurrent writers of one key, one succeeds.

    Raises:
        ObjectExists: the key is taken; the existing object was not changed.
    """
    with store_errors(store, key):
        obstore.put(store, key, payload, mode="create", use_multipart=False)  # one request, so the condition is atomic


def replace_object(store: ObjectStore, key: str, payload: bytes) -> None:
    """Write an object, in place of the existing one if there is one. Readers see the old bytes or the new bytes."""
    with store_errors(store, key):
        obstore.put(store, key, payload, use_multipart=False)


def delete_object(store: ObjectStore, key: str) -> None:
    """Delete an object; one that does not exist is no error."""
    try:
        with store_errors(store, key):
            obstore.delete(store, key)
    except ObjectMissing:
        return


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime


def list_objects(store: ObjectStore, prefix: str = "") -> Iterator[StoredObject]:
    """List the objects under a folder-like prefix (``shards`` holds ``shards/a``, not ``shards2/a``), in any order."""
    with store_errors(store, prefix):
        for page in obstore.list(store, prefix or None):
            yield from (StoredObject(entry["path"], entry["size"], entry["last_modified"]) for entry in page)


def list_keys(store: ObjectStore, prefix: str = "") -> Iterator[str]:
    """List the keys of ``list_objects``."""
    return (item.key for item in list_objects(store, prefix))


class ObjectStream(io.RawIOBase):
    """An object's bytes in order, fetched while they are read.

    A short download is never a short object: the client library counts to ``size_bytes``, requests the missing rest
    again, and gives up with an error that is ``Unreachable`` here.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        super().__init__()
        self._store, self.key = store, key
        with store_errors(store, key):
            response = obstore.get(store, key)
        self.size_bytes: int = response.meta["size"]
        self._chunk = memoryview(b"")
        self._chunks: Iterator[bytes] = iter(response.stream(min_chunk_size=_CHUNK_BYTES))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._chunk:
            self._chunk = memoryview(self._next_chunk())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunk, self._chunks = memoryview(b""), iter(())  # drops the connection, if it is still open
        super().close()

    def _next_chunk(self) -> bytes:
        with store_errors(self._store, self.key):
            return bytes(next(self._chunks, b""))


@dataclass(frozen=True)
class _CredentialProvider:
    """A source of credentials in the form that the client library takes.

    Credentials given as plain arguments would be readable in the store's ``config``, and an ``AWS_SESSION_TOKEN`` of
    the environment would be sent with them.
    """

    source: CredentialSource

    def __call__(self) -> "S3Credential":
        credential = self.source()
        return {
            "access_key_id": credential.access_key_id,
            "secret_access_key": credential.secret_access_key,
            "token": credential.session_token,
            "expires_at": credential.expires_at,
        }


def _read_credentials(parts: SplitResult, settings: Settings) -> CredentialSource:
    key, secret, token = settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_session_token
    if key is None or secret is None:
        raise BadInput(f"{parts.geturl()} needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    fixed = StoreCredential(
        key.get_secret_value(), secret.get_secret_value(), token.get_secret_value() if token else None
    )
    return lambda: fixed


_R2_HOST = ".r2.cloudflarestorage.com"
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::\d{1,5})?")


def _open_s3(parts: SplitResult, settings: Settings, credentials: CredentialSource) -> S3Store:
    endpoint = settings.s3_endpoint_url
    if not endpoint:
        raise BadInput(f"{parts.geturl()} needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    check_endpoint(endpoint)
    _check_bucket(parts, endpoint)
    with hidden_aws_variables():
        return S3Store(
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            endpoint=endpoint,
            region=settings.s3_region,
            virtual_hosted_style_request=False,
            skip_signature=False,
            disable_bulk_delete=True,  # objects are deleted one at a time, and the response names what went wrong
            credential_provider=_CredentialProvider(credentials),
            client_options=_client_options(endpoint),
            retry_config=_RETRY,
        )


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that is no plain ``https://host``. A bucket in it would become part of every key.

    Raises:
        BadInput: names the part to cut, without a password that the endpoint may hold.
    """
    parts = _split(endpoint, "R2_ENDPOINT_URL")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise BadInput(f"R2_ENDPOINT_URL is {_without_user(parts)!r}: write https://<account>.r2.cloudflarestorage.com")
    if not _HOST.fullmatch(parts.netloc.rpartition("@")[2]):
        raise BadInput(f"R2_ENDPOINT_URL is {_without_user(parts)!r}: its host or port is not valid")
    surplus = parts._replace(scheme="", netloc="").geturl()
    if surplus.strip("/"):
        raise BadInput(
            f"R2_ENDPOINT_URL is {_without_user(parts)!r}: cut {surplus!r} from its end. The bucket belongs in "
            "VFLEET_SOURCE_URL and VFLEET_RESULTS_URL, as in s3://bucket/prefix"
        )


def _check_bucket(parts: SplitResult, endpoint: str) -> None:
    """Refuse a bucket that the endpoint names too, and a prefix that leads outside.

    Raises:
        BadInput: names the part to cut.
    """
    host = urlsplit(endpoint).hostname or ""
    if host.startswith(f"{parts.netloc}.") and host.endswith(_R2_HOST):
        raise BadInput(f"R2_ENDPOINT_URL names the bucket of {parts.geturl()!r}: cut '{parts.netloc}.' from its host")
    if ".." in unquote(parts.path).split("/"):
        raise BadInput(f"object store address {parts.geturl()!r}: write it without '..'")


@contextmanager
def hidden_aws_variables() -> Iterator[None]:
    """Hide every ``AWS_*`` variable of the environment while a client of a store is made.

    The client library (and polars, which has its own copy of it) reads all of them, and explicit arguments do not win
    over each: ``AWS_ENDPOINT_URL_S3`` and ``AWS_PROXY_URL`` of another program would send signed requests elsewhere,
    ``AWS_CONDITIONAL_PUT`` would let an object be written twice. ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and
    ``NO_PROXY`` describe the machine's network and not another program's store, so they are obeyed.
    """
    _hide_aws_variables()
    try:
        yield
    finally:
        _show_aws_variables()


_HIDING = threading.Lock()
_hidden: dict[str, str] = {}
_hiders = 0


def _hide_aws_variables() -> None:
    global _hiders  # noqa: PLW0603 - the environment is global too
    with _HIDING:
        _hiders += 1
        _hidden.update({name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("AWS_")})


def _show_aws_variables() -> None:
    global _hiders  # noqa: PLW0603
    with _HIDING:
        _hiders -= 1
        if not _hiders:
            os.environ.update(_hidden)
            _hidden.clear()


def _split(url: str, what: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise BadInput(f"{what} is no URL; it is not shown because it may hold a password") from None


def _without_user(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


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
