"""What an object store's refusals mean to us: never there, not allowed, or not now.

No sentence made here holds a credential: of what the store answered only its status and its error code are kept,
because S3 echoes access keys and signatures in its error bodies.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
"""Another conditional write of the same key was under way: nobody is known to have won, so ask again."""
_MAY_HEAL = frozenset({408, _CONFLICT, 425, 429})
"""The 4xx answers that another attempt may change. Every other one is about who asks, or for what."""


class ObjectMissing(Permanent):
    """The store answers, and holds no object of this name."""

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object {key!r} does not exist in {address}")


class ObjectExists(Permanent):
    """A write-once key is taken, and what lies there was not touched.

    After a ``put_once`` that ended ``Unreachable``, the object may be one's own: the write landed and its answer was
    lost. Equal bytes tell.
    """

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object {key!r} exists already in {address}, and is written only once")


class CredentialRejected(Permanent):
    """A name that no object can have, such as one with an empty or a ``..`` part."""

    def __init__(self, key: str, address: str) -> None:
        self.key, self.address = key, address
        super().__init__(f"object key {key!r} cannot exist in {address}")


class StoreRefused(BadInput):
    """The store answers, and will not serve us: a wrong bucket, folder or credential.

    Not about one object, so no video may fail for it: whoever holds a claim gives it back.
    """

    def __init__(self, address: str, reason: str, check: str) -> None:
        self.address, self.reason, self.check = address, reason, check
        super().__init__(f"object store {address} refuses us ({reason}): {check}")


def name_address(store: ObjectStore) -> str:
    """Say where a store is, as an operator would look for it, without credentials."""
    if isinstance(store, S3Store):
        bucket = "/".join(part for part in (store.config.get("bucket"), store.prefix) if part)
        endpoint = store.config.get("endpoint")
        return f"s3://{bucket} at {_strip_user(endpoint)}" if endpoint else f"s3://{bucket}"
    if isinstance(store, LocalStore):
        return f"file://{store.prefix}"
    return "memory://"


@contextmanager
def store_errors(store: ObjectStore, key: str) -> Iterator[None]:
    """Turn what the client library raises for ``key`` into our own errors."""
    try:
        yield
    except FleetError:
        raise
    except (BaseError, OSError, ValueError) as error:
        raise _explain(error, store, key) from None  # the cause's text may hold an access key


def _explain(error: Exception, store: ObjectStore, key: str) -> FleetError:
    address, text = name_address(store), str(error)
    status, code = _find_status(error, text), _find_code(text)
    answer = " ".join(str(part) for part in (status, code) if part)
    if code == "NoSuchBucket":
        return StoreRefused(address, answer, "check VFLEET_SOURCE_URL and VFLEET_RESULTS_URL")
    if isinstance(error, FileNotFoundError):
        return _explain_absence(store, key, address, is_s3_answer=code is not None or "performing HEAD" in text)
    if isinstance(error, AlreadyExistsError) and status != _CONFLICT:
        return ObjectExists(key, address)
    if isinstance(error, ValueError):
        return CredentialRejected(key, address)
    if _is_final(status) or isinstance(error, PermissionError):
        return StoreRefused(address, answer or "permission denied", _what_grants(store))
    return Unreachable("object store", address, _what_answers(store), answer or _find_transport_cause(text))


def _explain_absence(store: ObjectStore, key: str, address: str, *, is_s3_answer: bool) -> FleetError:
    if isinstance(store, LocalStore) and not Path(str(store.prefix)).is_dir():
        return Unreachable("object store", address, _what_answers(store), "the folder is gone")
    if isinstance(store, S3Store) and not is_s3_answer:  # any web server says 404; S3 says what it did not find
        return StoreRefused(address, "404, not in S3's words", "check R2_ENDPOINT_URL")
    return ObjectMissing(key, address)


def _find_status(error: Exception, text: str) -> int | None:
    found = _STATUS.search(text)
    if found:
        return int(found[1])
    if "redirect without LOCATION" in text:
        return 301
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return 403
    return None


def _find_code(text: str) -> str | None:
    found = _CODE.search(text)
    return found[1] if found else None


def _find_transport_cause(text: str) -> str:
    """Name the innermost cause of a connection that failed; the client library lists causes outermost first."""
    if causes := _CAUSE.findall(text):
        return str(causes[-1])
    if kind := _CAUSE_KIND.search(text):
        return f"the connection failed: {kind[1]}"
    return _ADDRESS.sub("...", text.partition("\n")[0])  # an address may hold a password


def _is_final(status: int | None) -> bool:
    return status is not None and 300 <= status < 500 and status not in _MAY_HEAL  # noqa: PLR2004 - HTTP's own classes


def _what_answers(store: ObjectStore) -> str:
    if isinstance(store, S3Store):
        return "check that it runs, that this machine reaches it, and R2_ENDPOINT_URL"
    return "check that the folder exists, is mounted and readable"


def _what_grants(store: ObjectStore) -> str:
    if isinstance(store, S3Store):
        return "check R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, the age of R2_SESSION_TOKEN"
    return "check who owns the folder"


def _strip_user(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
