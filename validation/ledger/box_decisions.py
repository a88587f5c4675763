"""What boxes decided about videos: take it back, and be a second witness. One Python function per SQL function."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from validation.domain import Seconds
from validation.ledger.queries import read_view, row_to_dataclass
from validation.ledger.rpc import call_function

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
