"""Calls about canaries, their evaluations and quarantined boxes. One Python function per SQL function or view."""

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

Outcome: TypeAlias = Literal["right", "wrong", "inconclusive"]
"""``inconclusive``: the answers cannot be compared. The video or a model failed, or other models or rules scored it."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """The right answer for one segment."""

    verdict: str
    signals: Mapping[str, float | None]
    """Every numeric column of the segment's row, by column name."""


@dataclass(frozen=True, slots=True)
class PendingCanary:
    """A canary in a committed chunk whose results were not compared with the known answers yet."""

    video_id: str
    chunk_id: UUID
    worker_id: str
    shard_key: str | None
    """None if the video failed in the chunk."""
    shard_sha256: str | None
    error: str | None
    """The error of the video; None if the chunk validated it."""
    answers: tuple[KnownAnswer, ...]
    """The known answers, one per segment, in the order of the segments."""
    is_comparable: bool
    """Whether the same revisions of the same models gave the known answers and the answers of the chunk."""
    basis: Mapping[str, str]
    """The versions besides the models on which the known answers depend; empty if unknown."""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The outcome of a canary in one committed chunk; worker and outcome are None if no chunk was evaluated yet."""

    video_id: str
    suite: str
    segments: int
    """Number of segments of the canary."""
    worker_id: str | None
    instance_label: str | None
    """The label of the rented box; None for a box outside the fleet."""
    outcome: Outcome | None
    finding: str | None
    """What was wrong or could not be compared; None for a right result."""
    cleared_at: datetime | None
    """When an operator cleared the wrong result; None if it was not cleared."""


@dataclass(frozen=True, slots=True)
class QuarantinedWorker:
    """A box with a finding that was not cleared. It is quarantined unless ``is_excused``.

    The box answered a canary wrongly, failed videos that other boxes validate, or failed videos whose objects the
    control plane can read.
    """

    worker_id: str
    known_as: str
    """The label of a rented box, else the worker id: the argument of `requeue --worker` and `canaries clear`."""
    evaluated: int
    """Number of canary results of the box that are right or wrong; 0 if the box was quarantined for failed videos."""
    wrong: int
    """Number of these results that were wrong and are not cleared."""
    since: datetime
    finding: str
    """The first reason for the quarantine: the canary and what was wrong, or the numbers of failed videos."""
    is_current: bool
    """Whether the box has this worker id now."""
    is_excused: bool
    """Whether the box is not quarantined, because so many boxes are wrong that the canaries must be wrong.

    That is: at least three boxes, and over 30 % of those with canary results within a day before or after ``since``."""


@dataclass(frozen=True, slots=True)
class QuarantinedShard:
    """A committed shard of a quarantined box that has current videos which were not requeued."""

    known_as: str
    worker_id: str
    shard_key: str
    videos: int
    """Number of these videos; ``segments`` is the number of their segments."""
    segments: int


def sample_videos(engine: Engine, languages: Sequence[str], count: int) -> list[Video]:
    """Return up to ``count`` random transcribed videos of these languages, without canaries.

    The languages are given as they are spelled in the queue.
    """
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
    """Record canaries before their videos are entered into the queue.

    Args:
        engine: the ledger.
        suite: the suite that gave the answers.
        models: model of the suite -> revision.
        answers: video id -> the right answers, one per segment.
        basis: the versions besides suite and models on which the answers depend (``ShardProvenance.basis``).

    Returns:
        The ids that were recorded. An id that is in the queue already is left out, because it belongs to a real video;
        an id that is a canary already is left out too.
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
    """Record the outcome of a canary; ``finding`` is the reason if the outcome is not ``right``.

    If the outcome quarantines the box, its open chunks are released. A second outcome of the canary in the same chunk
    is ignored.
    """
    call_function(
        engine, "record_canary_result", video=canary.video_id, chunk=canary.chunk_id, outcome=outcome,
        finding=None if finding is None else for_ledger(finding),
    )  # fmt: skip


def clear_quarantine(engine: Engine, worker: str) -> int:
    """Clear the quarantine of a worker id or a rented box's label.

    Returns the number of cleared findings: wrong canary results, and quarantines for failed videos.
    """
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
