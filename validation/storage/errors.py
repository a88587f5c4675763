"""Convert the errors of the client library to the errors of this project: missing, exists, refused or unreachable.

No message contains a credential. S3 repeats access keys and signatures in its error bodies, so a message contains only
the status and the error code of a response.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from validation.errors import BadInput, FleetError, Permanent, Unreachable

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_CAUSE = re.compile(r'(?:message|error): "([^"\n]{1,200})"')
_CAUSE_KIND = re.compile(r"HttpError {\s*kind: (\w+)")
_ADDRESS = re.compile(r"https?://\S+")

_CONFLICT = 409
"""The HTTP status if another conditional write of the same key runs at the same time. It does not show which write
succeeded, so the caller must retry."""
_RETRYABLE = frozenset({408, _CONFLICT, 425, 429})
"""The 4xx statuses after which a retry may succeed. All others report a wrong credential or a wrong request."""


class ObjectMissing(Permanent):
    """The store responds, but has no object with this key."""

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object {key!r} does not exist in {address}")


class ObjectExists(Permanent):
    """An object with this key exists already, and ``put_if_absent`` does not overwrite it.

    If an earlier ``put_if_absent`` of the caller raised ``Unreachable``, that write may have succeeded, and only its
    response was lost. In that case the existing object has the caller's bytes.
    """

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object {key!r} exists already in {address}, and is written only once")


class InvalidObjectKey(Permanent):
    """No object can have this key, for example because a part of the key is empty or ``..``."""

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object key {key!r} cannot exist in {address}")


class StoreRefused(BadInput):
    """The store responds, but rejects this client's requests, and a retry cannot help.

    The endpoint, the bucket, the folder or the credential is wrong, or the store lacks conditional writes. The error
    affects all objects, so no video may fail because of it. A worker releases its chunk and stops.
    """

    def __init__(self, address: str, reason: str, check: str) -> None:
        self.address, self.reason, self.check = address, reason, check
        super().__init__(f"object store {address} refused the request ({reason}): {check}")


def describe_store_address(store: ObjectStore) -> str:
    """Return the address of a store for a message, such as ``s3://bucket at https://host``, without credentials."""
    if isinstance(store, S3Store):
        bucket = "/".join(part for part in (store.config.get("bucket"), store.prefix) if part)
        endpoint = store.config.get("endpoint")
        return f"s3://{bucket} at {_strip_user(endpoint)}" if endpoint else f"s3://{bucket}"
    if isinstance(store, LocalStore):
        return f"file://{store.prefix}"
    return "memory://"


@contextmanager
def convert_store_errors(store: ObjectStore, key: str) -> Iterator[None]:
    """Convert errors of the client library inside a ``with`` block to errors of this project.

    Args:
        store: the store that the block uses, for messages.
        key: the object key that the block uses, for messages.

    Raises:
        ObjectMissing, ObjectExists, InvalidObjectKey, StoreRefused, Unreachable: by the cause of the error.
    """
    try:
        yield
    except FleetError:
        raise
    except (BaseError, OSError, ValueError) as error:
        raise _convert_error(error, store, key) from None  # the text of the cause may hold an access key


def _convert_error(error: Exception, store: ObjectStore, key: str) -> FleetError:
    """Return the error of this project for an error of the client library."""
    address, text = describe_store_address(store), str(error)
    status, code = _find_status(error, text), _find_code(text)
    response = " ".join(str(part) for part in (status, code) if part)
    if code == "NoSuchBucket":
        return StoreRefused(address, response, "check VFLEET_SOURCE_URL and VFLEET_RESULTS_URL")
    if isinstance(error, FileNotFoundError):
        return _convert_not_found(store, key, address, is_s3_response=code is not None or "performing HEAD" in text)
    if isinstance(error, AlreadyExistsError) and status != _CONFLICT:
        return ObjectExists(key, address)
    if isinstance(error, ValueError):
        return InvalidObjectKey(key, address)
    if _is_refusal(status) or isinstance(error, PermissionError):
        return StoreRefused(address, response or "permission denied", _credentials_advice(store))
    return Unreachable("object store", address, _reachability_advice(store), response or _find_transport_cause(text))


def _convert_not_found(store: ObjectStore, key: str, address: str, *, is_s3_response: bool) -> FleetError:
    """Return the error for "not found": the object is missing, the folder is gone, or the server is no S3 store."""
    if isinstance(store, LocalStore) and not Path(str(store.prefix)).is_dir():
        return Unreachable("object store", address, _reachability_advice(store), "the folder is gone")
    if isinstance(store, S3Store) and not is_s3_response:  # any web server may respond 404; S3 adds its error code
        return StoreRefused(address, "404 without S3's error code", "check R2_ENDPOINT_URL")
    return ObjectMissing(key, address)


def _find_status(error: Exception, text: str) -> int | None:
    """Return the HTTP status of the response; None if there was no response or the error does not state it."""
    found = _STATUS.search(text)
    if found:
        return int(found[1])
    if "redirect without LOCATION" in text:
        return 301
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return 403
    return None


def _find_code(text: str) -> str | None:
    """Return S3's error code, such as ``NoSuchBucket``; None if the error has none."""
    found = _CODE.search(text)
    return found[1] if found else None


def _find_transport_cause(text: str) -> str:
    """Return the root cause of a failed connection from an error text, which lists causes from outer to inner."""
    if causes := _CAUSE.findall(text):
        return str(causes[-1])
    if kind := _CAUSE_KIND.search(text):
        return f"the connection failed: {kind[1]}"
    return _ADDRESS.sub("...", text.partition("\n")[0])  # an address may hold a password


def _is_refusal(status: int | None) -> bool:
    """Return whether a status means that a retry cannot succeed."""
    if status == HTTPStatus.NOT_IMPLEMENTED:  # the store does not support conditional writes, so no retry can succeed
        return True
    return status is not None and 300 <= status < 500 and status not in _RETRYABLE  # noqa: PLR2004 - the classes of HTTP statuses


def _reachability_advice(store: ObjectStore) -> str:
    """Return what the operator should check if a store does not answer."""
    if isinstance(store, S3Store):
        return "check that it runs, that this machine can reach it, and R2_ENDPOINT_URL"
    return "check that the folder exists, is mounted and readable"


def _credentials_advice(store: ObjectStore) -> str:
    """Return what the operator should check if a store rejects this client."""
    if isinstance(store, S3Store):
        return "check R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, and whether R2_SESSION_TOKEN has expired"
    return "check the owner and the permissions of the folder"


def _strip_user(endpoint: str) -> str:
    """Return an address without its user and password."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
