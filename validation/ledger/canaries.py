"""Videos with known answers, and whom they made us distrust. One Python function a SQL function or view."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import Engine

from validation.domain import Video
from validation.escape import for_ledger
from validation.ledger.queries import read_view, row_to_dataclass
from validation.ledger.rpc import call_function

Outcome: TypeAlias = Literal["right", "wrong", "moot"]
"""``moot``: no answer, or one by other models or rules; nothing to compare."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What is right to say of one segment."""

    verdict: str
    signals: Mapping[str, float | None]
    """Every number of its row, by column."""


@dataclass(frozen=True, slots=True)
class PendingCanary:
    """A canary in a committed chunk that was not held against its answers yet."""

    video_id: str
    chunk_id: UUID
    worker_id: str
    shard_key: str | None
    """None: the video failed there."""
    shard_sha256: str | None
    error: str | None
    answers: tuple[KnownAnswer, ...]
    """One a segment, in order."""
    is_comparable: bool
    """The same revisions of the same models gave both answers."""
    basis: Mapping[str, str]
    """What the right answers depend on beside these; nothing if that is not known."""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """A canary, and what became of it in one chunk; without an outcome as long as nothing did."""

    video_id: str
    suite: str
    segments: int
    planted_at: datetime
    worker_id: str | None
    machine: str | None
    """The label of the rental; None for a machine that nobody rented."""
    outcome: Outcome | None
    finding: str | None
    judged_at: datetime | None
    pardoned_at: datetime | None


@dataclass(frozen=True, slots=True)
class QuarantinedWorker:
    """A machine with a wrong canary that nobody pardoned."""

    worker_id: str
    known_as: str
    """What `requeue --worker` and `canaries clear` take: a label where it was rented, else its worker's id."""
    judged: int
    wrong: int
    since: datetime
    finding: str
    """The first."""
    is_present: bool
    """It still bears the worker's name."""
    is_excused: bool
    """So many machines are wrong that it is the canaries, and nobody is distrusted."""


@dataclass(frozen=True, slots=True)
class QuarantinedShard:
    """A committed shard of a distrusted machine, of which some videos were not taken back."""

    known_as: str
    worker_id: str
    shard_key: str
    videos: int
    segments: int


def sample_videos(engine: Engine, languages: Sequence[str], count: int) -> list[Video]:
    """Draw up to so many transcribed videos of some languages, as the queue spells them. No canary among them."""
    rows = call_function(engine, "sample_videos", languages=list(languages), count=count)
    return [Video(row.video_id, row.language, row.segment_count) for row in rows]


def insert_canaries(
    engine: Engine,
    suite: str,
    models: Mapping[str, str],
    answers: Mapping[str, Sequence[KnownAnswer]],
    *,
    basis: Mapping[str, str],
) -> set[str]:
    """Enter canaries by their ids, before they are in the queue. Returns those that were: nobody's video has the id.

    ``basis`` is what the answers depend on beside suite and models (``ShardProvenance.basis``).
    """
    rows = [{"video_id": video, "answers": [asdict(each) for each in known]} for video, known in answers.items()]
    entered = call_function(
        engine,
        "insert_canaries",
        suite=suite,
        models=json.dumps(dict(models)),
        basis=json.dumps(dict(basis)),
        canaries=json.dumps(rows),
    )
    return {row[0] for row in entered}


def record_canary_result(engine: Engine, canary: PendingCanary, outcome: Outcome, finding: str | None) -> None:
    """Enter an outcome; ``finding`` says why it is not right. What a distrusted machine holds is given back at once."""
    call_function(
        engine, "record_canary_result", video=canary.video_id, chunk=canary.chunk_id, outcome=outcome,
        finding=None if finding is None else for_ledger(finding),
    )  # fmt: skip


def clear_quarantine(engine: Engine, worker: str) -> int:
    """Hold nothing against a worker, or a machine by its label, that was wrong until now. Returns how much that was."""
    return int(call_function(engine, "clear_quarantine", worker=worker)[0][0])


def read_pending_canaries(engine: Engine) -> list[PendingCanary]:
    return [_to_pending_canary(row) for row in read_view(engine, "pending_canaries")]


def read_canary_results(engine: Engine) -> list[CanaryResult]:
    return [row_to_dataclass(CanaryResult, row) for row in read_view(engine, "canary_results")]


def read_quarantined_workers(engine: Engine) -> list[QuarantinedWorker]:
    return [row_to_dataclass(QuarantinedWorker, row) for row in read_view(engine, "quarantined_workers")]


def read_quarantined_shards(engine: Engine) -> list[QuarantinedShard]:
    return [row_to_dataclass(QuarantinedShard, row) for row in read_view(engine, "quarantined_shards")]


def _to_pending_canary(row: Mapping[str, Any]) -> PendingCanary:
    known = tuple(KnownAnswer(each["verdict"], each["signals"]) for each in row["answers"])
    return row_to_dataclass(PendingCanary, {**row, "answers": known})
