"""Box keys, and the object-store credentials issued to boxes. One Python function per SQL function or view."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from sqlalchemy import Engine

from validation.domain import Seconds, StoreCredential
from validation.ledger.queries import read_view, row_to_dataclass
from validation.ledger.rpc import call_function

StoreName: TypeAlias = Literal["source", "results"]


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """A box that has a key, and how long the credentials issued to it are valid."""

    worker_id: str
    label: str | None
    """The label of the rented box; None for a box outside the fleet."""
    issued_at: datetime
    """When the key was issued."""
    expires_in_s: Seconds | None
    """Until the first of its credentials expires; None if it has none."""
    is_due: bool
    """Less than half of a credential's time is left, or one is missing: renew them."""


def issue_box_key(engine: Engine, worker_id: str, *, label: str | None = None) -> str:
    """Draw a key for a worker id. Any earlier key of the worker id is void at once.

    Args:
        engine: the ledger.
        worker_id: the worker id that only the holder of the key may use.
        label: the rented box, with whose rental the key ends; None for a box outside the fleet.

    Returns:
        The key, for the box's environment variable ``VFLEET_BOX_KEY``. The ledger stores only its hash.
    """
    key = secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).digest()
    call_function(engine, "issue_box_key", worker=worker_id, label=label, key_sha256=digest)
    return key


def store_credential(
    engine: Engine, worker_id: str, store: StoreName, credential: StoreCredential, *, ttl_s: int
) -> None:
    """Keep a credential for a box, in place of the earlier one. Does nothing for a worker id without a key."""
    call_function(
        engine, "store_credential",
        worker=worker_id, store=store, access_key_id=credential.access_key_id,
        secret_access_key=credential.secret_access_key, session_token=credential.session_token, ttl_s=ttl_s,
    )  # fmt: skip


def get_credential(engine: Engine, worker_id: str, store: StoreName) -> StoreCredential | None:
    """The credential issued to this box for a store; None if there is none or it has expired.

    Raises:
        BoxKeyRejected: this engine's box key is not the key of ``worker_id``.
    """
    for row in call_function(engine, "get_credential", worker=worker_id, store=store):
        expires_at = datetime.now(UTC) + timedelta(seconds=row.expires_in_s)
        return StoreCredential(row.access_key_id, row.secret_access_key, row.session_token, expires_at)
    return None


def read_credential_status(engine: Engine) -> Sequence[CredentialStatus]:
    """Every box that has a key."""
    return [row_to_dataclass(CredentialStatus, row) for row in read_view(engine, "credential_status")]
