"""Read and write an object store. The same functions work for S3 (Cloudflare R2), a local folder and memory.

Errors that every function which sends a request may raise:
    Unreachable: no connection, a time-out, a server error, or throttling that continued after the client's retries.
    StoreRefused: the bucket or the credential is wrong. A video must not fail because of this error.
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
from validation.storage.errors import ObjectMissing, StoreRefused, convert_store_errors, describe_store_address

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import Bytes
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_PREFLIGHT_KEY = "vfleet-preflight"
"""The key of an object that is never written. One small request for it shows whether a store responds."""

_RETRY: "RetryConfig" = {
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""Retries of the client library, which cover a dropped connection: a broken download resumes at the last byte. Callers
must retry after longer outages."""

_CONNECT_TIMEOUT_S, _STALL_TIMEOUT_S, _REQUEST_TIMEOUT_S = 5, 30, 900
"""Time-outs in seconds: to connect, without a received byte, and for a whole request. A gigabyte at 2 MB/s takes 500 s,
so the time-out of a request is long."""

_CHUNK_BYTES = 1 << 20
"""Minimum size of the block that a stream fetches at a time. Each open stream holds one block in memory."""

CredentialSource: TypeAlias = Callable[[], StoreCredential]
"""A function that returns the credential of an S3 store. The client library calls it before the first request, and
before a request if the credential expires within five minutes. The function must return without delay."""


def open_store(url: str, settings: Settings, credentials: CredentialSource | None = None) -> ObjectStore:
    """Open the store at ``url`` without sending a request. ``check_store`` sends a request.

    Args:
        url: ``s3://bucket/prefix``, ``file:///folder`` (which must exist), or ``memory://`` (a new, empty store).
        settings: the endpoint, region and credentials for an ``s3://`` address.
        credentials: the source of the credentials for an ``s3://`` address; None to use the settings' credentials.

    Raises:
        BadInput: the address has another form, the folder does not exist, or a setting that S3 needs is missing.
    """
    parts = _split_url(url, "object store address")
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
    """Send the store one small request, so that a worker detects a wrong address before it claims videos.

    Args:
        store: the store.
        folder: the folder in which to read; empty for the top. A rented box may read only its own folder.

    Raises:
        StoreRefused: the local folder does not exist, or the store rejects this client.
    """
    if isinstance(store, LocalStore):
        if not Path(str(store.prefix)).is_dir():
            raise StoreRefused(describe_store_address(store), "no such folder", "create it, or correct the address")
        return
    try:
        key = f"{folder}/{_PREFLIGHT_KEY}".strip("/")
        with convert_store_errors(store, key):
            obstore.get(store, key)
    except ObjectMissing:
        return


def stream_object(store: ObjectStore, key: str, *, max_whole_bytes: int = 0) -> "ObjectStream":
    """Open an object to read its bytes in order, without a file on disk. The caller must close the stream.

    Args:
        store: the store.
        key: the key of the object.
        max_whole_bytes: maximum size of an object that the first read downloads as one block. Of larger objects the
            stream holds blocks of about a megabyte.

    Raises:
        ObjectMissing: the store has no object with this key.
    """
    return ObjectStream(store, key, max_whole_bytes)


def get_bytes(store: ObjectStore, key: str) -> bytes:
    """Read a whole object into memory.

    Raises:
        ObjectMissing: the store has no object with this key.
    """
    with convert_store_errors(store, key):
        return obstore.get(store, key).bytes().to_bytes()


def put_if_absent(store: ObjectStore, key: str, payload: bytes) -> None:
    """Write an object only if no object has this key. If several clients write one key at once, only one succeeds.

    Raises:
        ObjectExists: an object with this key exists; it was not changed.
    """
    with convert_store_errors(store, key):
        obstore.put(store, key, payload, mode="create", use_multipart=False)  # one request, so the condition is atomic


def replace_object(store: ObjectStore, key: str, payload: bytes) -> None:
    """Write an object, and replace any existing object atomically: readers see only the old or only the new bytes."""
    with convert_store_errors(store, key):
        obstore.put(store, key, payload, use_multipart=False)


def delete_object(store: ObjectStore, key: str) -> None:
    """Delete an object. Do nothing if the object does not exist."""
    try:
        with convert_store_errors(store, key):
            obstore.delete(store, key)
    except ObjectMissing:
        return


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The properties of one object in a listing."""

    key: str
    size_bytes: int
    modified_at: datetime


def list_objects(store: ObjectStore, prefix: str = "") -> Iterator[StoredObject]:
    """List the objects in a folder and its subfolders, in any order.

    Args:
        store: the store.
        prefix: the path of the folder: ``shards`` matches ``shards/a`` and not ``shards2/a``. Empty for all objects.
    """
    with convert_store_errors(store, prefix):
        for page in obstore.list(store, prefix or None):
            yield from (StoredObject(entry["path"], entry["size"], entry["last_modified"]) for entry in page)


def list_keys(store: ObjectStore, prefix: str = "") -> Iterator[str]:
    """List the keys of the objects in a folder and its subfolders, as ``list_objects`` does."""
    return (item.key for item in list_objects(store, prefix))


class ObjectStream(io.RawIOBase):
    """A readable stream of an object's bytes, which are downloaded while they are read.

    The stream never ends early. If a download breaks off before ``size_bytes``, the client library requests the missing
    bytes again. If that fails too, the read raises ``Unreachable``.
    """

    def __init__(self, store: ObjectStore, key: str, max_whole_bytes: int = 0) -> None:
        super().__init__()
        self._store, self.key = store, key
        with convert_store_errors(store, key):
            response = obstore.get(store, key)
        self.size_bytes: int = response.meta["size"]
        self._chunk = memoryview(b"")
        if self.size_bytes <= max_whole_bytes:
            self._chunks: Iterator[bytes | Bytes] = (read() for read in (response.bytes,))
        else:
            self._chunks = iter(response.stream(min_chunk_size=_CHUNK_BYTES))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._chunk:
            self._chunk = self._next_chunk()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunk, self._chunks = memoryview(b""), iter(())  # deletes the response, which closes an open connection
        super().close()

    def _next_chunk(self) -> memoryview:
        """Fetch the next block; empty at the end of the object."""
        with convert_store_errors(self._store, self.key):
            return memoryview(next(self._chunks, b""))


@dataclass(frozen=True)
class _CredentialProvider:
    """Adapts a ``CredentialSource`` to the interface of the client library.

    Credentials as plain arguments would be visible in the store's ``config``. The client library would also send an
    ``AWS_SESSION_TOKEN`` from the environment with such credentials.
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
    """Return a source of the settings' credential; raise ``BadInput`` if the settings have none."""
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
    """Open a bucket of an S3 store; raise ``BadInput`` for a missing or wrong setting."""
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
            disable_bulk_delete=True,  # delete one object per request, so that each response has its own error code
            credential_provider=_CredentialProvider(credentials),
            client_options=_client_options(endpoint),
            retry_config=_RETRY,
        )


def check_endpoint(endpoint: str) -> None:
    """Check that an endpoint is only ``http://`` or ``https://`` and a host, with a port or a user at most.

    A path would become part of every key.

    Raises:
        BadInput: the endpoint is invalid. The message names the part to remove, and contains no password.
    """
    parts = _split_url(endpoint, "R2_ENDPOINT_URL")
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
    """Check that the endpoint does not contain the bucket, and that the prefix does not contain ``..``.

    Raises:
        BadInput: one of the checks failed. The message names the part to remove.
    """
    host = urlsplit(endpoint).hostname or ""
    if host.startswith(f"{parts.netloc}.") and host.endswith(_R2_HOST):
        raise BadInput(f"R2_ENDPOINT_URL names the bucket of {parts.geturl()!r}: cut '{parts.netloc}.' from its host")
    if ".." in unquote(parts.path).split("/"):
        raise BadInput(f"object store address {parts.geturl()!r}: write it without '..'")


@contextmanager
def hidden_aws_variables() -> Iterator[None]:
    """Remove all ``AWS_*`` variables from the environment of the process while the ``with`` block creates a client.

    The client library reads these variables, and so does the copy of it in polars. Explicit arguments do not override
    all of them. ``AWS_ENDPOINT_URL_S3`` and ``AWS_PROXY_URL`` of another program would send signed requests to another
    server. ``AWS_CONDITIONAL_PUT`` would allow an object to be written twice. ``HTTPS_PROXY``, ``HTTP_PROXY``,
    ``ALL_PROXY`` and ``NO_PROXY`` stay, because they describe the network of the machine.
    """
    _hide_aws_variables()
    try:
        yield
    finally:
        _restore_aws_variables()


_HIDING = threading.Lock()
_hidden: dict[str, str] = {}
_hiders = 0


def _hide_aws_variables() -> None:
    """Remove the ``AWS_*`` variables. Several threads may hide them at the same time."""
    global _hiders  # noqa: PLW0603 - the environment is global too
    with _HIDING:
        _hiders += 1
        _hidden.update({name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("AWS_")})


def _restore_aws_variables() -> None:
    """Restore the variables when the last thread is done."""
    global _hiders  # noqa: PLW0603
    with _HIDING:
        _hiders -= 1
        if not _hiders:
            os.environ.update(_hidden)
            _hidden.clear()


def _split_url(url: str, what: str) -> SplitResult:
    """Split a URL; raise ``BadInput``, which shows ``what`` and not the URL, if that is impossible."""
    try:
        return urlsplit(url)
    except ValueError:
        raise BadInput(f"{what} is no URL; it is not shown because it may hold a password") from None


def _without_user(parts: SplitResult) -> str:
    """Return a URL without its user and password."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _client_options(endpoint: str) -> "ClientConfig":
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=_STALL_TIMEOUT_S),
        "timeout": timedelta(seconds=_REQUEST_TIMEOUT_S),
    }


def _open_folder(folder: Path) -> LocalStore:
    """Open a local folder as a store; raise ``BadInput`` if the folder does not exist."""
    if not folder.is_dir():
        raise BadInput(f"object store folder {folder} does not exist: create it, or correct the address")
    return LocalStore(folder)
