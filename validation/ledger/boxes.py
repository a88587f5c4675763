"""Single boxes in the ledger: their keys and credentials, and the failures that they decided, which can be undone."""

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
    """The key of one box, and how long the issued credentials of the box are valid."""

    worker_id: str
    label: str | None
    """The label of the rented box; None for a box outside the fleet."""
    issued_at: datetime
    """When the key was issued."""
    expires_in_s: Seconds | None
    """Until the first credential of the box expires; None if the box has no credential."""
    is_due: bool
    """Whether to renew the credentials: one is missing, or less than half of its time is left."""


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


KEPT_S: Seconds = 7 * 86400
"""How long decisions are kept: `undo_box` can take back no more than that."""


@dataclass(frozen=True, slots=True)
class Undone:
    """How many videos of one decision were taken back; with ``dry_run``, would be."""

    decision: str
    """``failed``, ``postponed``, ``crash``, ``loss`` or ``validated``."""
    videos: int


@dataclass(frozen=True, slots=True)
class UnwitnessedFailure:
    """A video that the boxes of one owner have failed, and no other box."""

    video_id: str
    language: str | None
    segment_count: int | None
    error: str
    owner: str
    """The vendor's host of the box, or the id of a worker outside the fleet."""
    is_refuted: bool
    """The control plane read its object without an error: only a box of another owner can decide."""


def undo_box(engine: Engine, box: str, *, since_s: int, dry_run: bool = False) -> list[Undone]:
    """Take back what a box decided within the last ``since_s``: a worker's id, or the label of a rented box.

    Videos that it failed, put off or crashed become claimable without the attempts that it added. Videos that it
    validated last become pending again; their results stay current until they are committed again.
    """
    return [Undone(*tuple(row)) for row in call_function(engine, "undo_box", box=box, since_s=since_s, dry_run=dry_run)]


def read_unwitnessed_failures(engine: Engine) -> Sequence[UnwitnessedFailure]:
    """Oldest first."""
    return [row_to_dataclass(UnwitnessedFailure, row) for row in read_view(engine, "unwitnessed_failures")]


def settle_failure(engine: Engine, video_id: str, *, is_confirmed: bool) -> None:
    """Record what the control plane found as the second witness: the failure is final, or it is refuted."""
    call_function(engine, "settle_failure", video=video_id, is_confirmed=is_confirmed)


def prune_box_decisions(engine: Engine, *, older_than_s: Seconds = KEPT_S) -> int:
    """Delete old decisions that no video waits on. Returns how many."""
    (row,) = call_function(engine, "prune_box_decisions", older_than_s=int(older_than_s))
    return int(row[0])
