"""Calls about single boxes: their keys, their credentials, and their decisions about videos, which can be undone."""

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
    """When a box's key was issued, and when the credentials of the box expire or must be renewed."""

    worker_id: str
    label: str | None
    """The label of the rented box; None for a box outside the fleet."""
    issued_at: datetime
    """When the key was issued."""
    expires_in_s: Seconds | None
    """Seconds until the first credential of the box expires; None if the box has no credential."""
    is_due: bool
    """Whether the credentials must be renewed: one is missing, or has less than half of its time left."""


def issue_box_key(engine: Engine, worker_id: str, *, label: str | None = None) -> str:
    """Draw a key for a worker id. The earlier key of the worker id and its issued credentials are deleted at once.

    Args:
        engine: the ledger.
        worker_id: the worker id that only the holder of the key may use.
        label: the label of the rented box; the key ends with the rental. None for a box outside the fleet.

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
    """Store a credential of a box for an object store, in place of the earlier credential.

    Does nothing for a worker id without a box key. The credential expires after ``ttl_s`` seconds.
    """
    call_function(
        engine, "store_credential",
        worker=worker_id, store=store, access_key_id=credential.access_key_id,
        secret_access_key=credential.secret_access_key, session_token=credential.session_token, ttl_s=ttl_s,
    )  # fmt: skip


def get_credential(engine: Engine, worker_id: str, store: StoreName) -> StoreCredential | None:
    """Read the credential of a box for an object store; None if the box has none or it has expired.

    Raises:
        BoxKeyRejected: this engine's box key is not the key of ``worker_id``.
    """
    for row in call_function(engine, "get_credential", worker=worker_id, store=store):
        expires_at = datetime.now(UTC) + timedelta(seconds=row.expires_in_s)
        return StoreCredential(row.access_key_id, row.secret_access_key, row.session_token, expires_at)
    return None


def read_credential_status(engine: Engine) -> Sequence[CredentialStatus]:
    """Read the credential status of every box with a key, except rented boxes that are ``destroyed`` or ``gone``."""
    return [row_to_dataclass(CredentialStatus, row) for row in read_view(engine, "credential_status")]


KEPT_S: Seconds = 7 * 86400
"""Seconds for which failures, postponements, crashes and losses are kept, so that `undo_box` can undo them.

`undo_box` can also undo older validations, because it reads them from the chunks."""


@dataclass(frozen=True, slots=True)
class Undone:
    """The number of videos for which one kind of decision was undone; with ``dry_run``, would be undone."""

    decision: str
    """``failed``, ``postponed`` (to be tried again), ``crash``, ``loss`` or ``validated``."""
    videos: int


@dataclass(frozen=True, slots=True)
class UnwitnessedFailure:
    """A pending video that boxes of exactly one owner have failed, so that a second witness is needed."""

    video_id: str
    language: str | None
    segment_count: int | None
    """The number of segments according to the queue; None if the queue does not know it."""
    error: str
    owner: str
    """The vendor's host of the box, or the id of a worker outside the fleet."""
    is_refuted: bool
    """Whether the control plane has read the object without an error.

    Then only a box of another owner can confirm the failure."""


def undo_box(engine: Engine, box: str, *, since_s: int, dry_run: bool = False) -> list[Undone]:
    """Undo the decisions of a box in the last ``since_s`` seconds. Returns the number of videos per kind of decision.

    Videos that the box failed, postponed or returned by a crash or loss become claimable; the attempts, crashes and
    losses that the box added are subtracted. Validated videos whose last commit is from the box become pending; their
    results stay current until they are committed again. Videos that another box holds now, or has validated since, are
    not changed. With ``dry_run`` nothing is changed.

    Args:
        engine: the ledger.
        box: a worker id, or the label of a rented box.
        since_s: age of the oldest decisions to undo, in seconds.
        dry_run: whether to only count.
    """
    return [Undone(*tuple(row)) for row in call_function(engine, "undo_box", box=box, since_s=since_s, dry_run=dry_run)]


def read_unwitnessed_failures(engine: Engine) -> Sequence[UnwitnessedFailure]:
    """Read the pending videos that boxes of exactly one owner have failed, oldest failure first."""
    return [row_to_dataclass(UnwitnessedFailure, row) for row in read_view(engine, "unwitnessed_failures")]


def settle_failure(engine: Engine, video_id: str, *, is_confirmed: bool) -> None:
    """Record whether the control plane, as second witness, found the object of a video unusable too.

    If it did, the video has failed for good. If it did not, the failure is marked refuted and the video stays pending
    for the boxes of other owners. A box is quarantined if 20 of its failures within a day were refuted, more
    than were confirmed; sql/functions/settle_failure.sql states the exceptions.
    """
    call_function(engine, "settle_failure", video=video_id, is_confirmed=is_confirmed)


def prune_box_decisions(engine: Engine, *, older_than_s: Seconds = KEPT_S) -> int:
    """Delete decisions older than ``older_than_s`` seconds. Returns the number of deleted decisions.

    Decisions about videos that wait for a second witness are kept.
    """
    (row,) = call_function(engine, "prune_box_decisions", older_than_s=int(older_than_s))
    return int(row[0])
