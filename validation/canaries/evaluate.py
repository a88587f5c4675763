"""Compare the answers of workers for canaries with the known answers.

A canary is wrong if it has another number of segments than the known answers, or if a segment has another verdict or
lacks a number that the known answer has. It is also wrong if two segments deviate in their numbers: a number differs
from the known answer by more than the tolerance (``tolerance_for``), or exists although the known answer has none. One
such segment is not enough: correct boxes exceed the tolerance now and then, and the numbers of a segment deviate
together.

A canary is inconclusive if its video failed, or if the known answers are of other models or of another basis
(``results_basis``). Segments that were not decoded, or on which a model failed, are not compared. A canary with such a
segment is inconclusive unless its other segments show that it is wrong. The ledger finds workers that fail on sound
videos by their failures instead (``check_failures``).
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.errors import Permanent
from validation.ledger.canaries import (
    CanaryResult,
    KnownAnswer,
    Outcome,
    PendingCanary,
    read_pending_canaries,
    record_canary_result,
)
from validation.models.suites import SKIPPED
from validation.scoring.signals import DERIVED_SIGNALS, RECOGNITION_SIGNALS
from validation.shards.schema import METADATA_KEY, PROVENANCE_JSON, ShardCorrupt
from validation.storage.store import get_bytes

TOLERANCES: Mapping[str, float] = {
    "ratio": 0.1,
    "MOS 1-5": 0.2,
    "log-probability": 0.3,
    "nats a token": 0.3,
    "nats a frame": 0.1,
    "nats": 1.5,
    "seconds": 0.1,
    "letters": 5.0,
    "ratio of a word": 0.5,
}
"""Absolute tolerance of floating-point outputs of models, by unit. Numbers with another unit, such as counts, must be
equal. `vfleet check-precision` allows half precision an error of 0.02 in alignment scores at the 99th percentile. These
tolerances are at least five times as wide, because not every GPU model has been measured."""
RELATIVE_TOLERANCE = 0.02
"""Relative tolerance, added to the absolute one: the error of a sum of log-probabilities grows with its length."""
PROBABILITY_TOLERANCE, LOGIT_TOLERANCE = 0.02, 0.4
"""A probability may deviate by 0.02 plus the effect of a change of its logit by 0.4, which is small near 0 and 1."""
ROUNDING_TOLERANCE = 1e-3
"""Tolerance, absolute and relative, of signals that are computed from audio and text without a model. Only their
rounding differs."""
_FROM_ASR = frozenset(column.name for column in RECOGNITION_SIGNALS)
_COMPUTED = frozenset(column.name for column in DERIVED_SIGNALS if column.type == "float") - _FROM_ASR
"""Columns of the floating-point numbers that are computed without a model."""


def tolerance_for(column: str, value: float, unit: str | None) -> float:
    """Return by how much a box's number may differ from the known answer; 0 if it must be equal.

    Args:
        column: the column of the number.
        value: the known answer.
        unit: the unit of the column; None if the column has none.
    """
    if column in _COMPUTED:
        return ROUNDING_TOLERANCE * (1 + abs(value))
    if unit == "probability":
        return PROBABILITY_TOLERANCE + LOGIT_TOLERANCE * value * (1 - value)
    tolerance = TOLERANCES.get(unit or "")
    return 0.0 if tolerance is None else tolerance + RELATIVE_TOLERANCE * abs(value)


log = logging.getLogger("vfleet.canaries")

RowValues: TypeAlias = Mapping[str, Any]
"""The values of one row of a shard, by column."""
Units: TypeAlias = Mapping[str, str]
"""The unit of each column."""

OTHER_MODELS: tuple[Outcome, str] = ("inconclusive", "scored by other models than the known answers")
"""Outcome and finding of a canary that other models scored."""
MIN_DEVIATING_SEGMENTS = 2
"""Minimum number of segments with a deviating number for a canary to be wrong."""


@dataclass(frozen=True, slots=True)
class EvaluatedCanary:
    """The outcome of a canary in one chunk."""

    video_id: str
    worker_id: str
    outcome: Outcome
    finding: str | None
    """What was wrong or could not be compared; None for a right canary."""


@dataclass(frozen=True, slots=True)
class WorkerTally:
    """The number of canaries of one worker, by outcome."""

    known_as: str
    """The label of the rented box; the worker's id for other boxes."""
    right: int
    wrong: int
    """Wrong canaries, including those of a quarantine that was cleared."""
    inconclusive: int


@dataclass(frozen=True, slots=True)
class CanaryTally:
    """The number of canaries, and their outcomes by worker."""

    planted: int
    """Canaries that the ledger records. A canary whose upload failed or was interrupted is not in the queue."""
    waiting: int
    """Canaries without an outcome."""
    workers: Sequence[WorkerTally]
    """One tally per worker, most wrong canaries first."""


def tally_results(results: Sequence[CanaryResult]) -> CanaryTally:
    """Count the outcomes of canaries by worker."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        if result.outcome is not None:
            counts.setdefault(result.instance_label or str(result.worker_id), Counter())[result.outcome] += 1
    workers = [WorkerTally(name, each["right"], each["wrong"], each["inconclusive"]) for name, each in counts.items()]
    return CanaryTally(
        planted=len({result.video_id for result in results}),
        waiting=sum(result.outcome is None for result in results),
        workers=sorted(workers, key=lambda row: (-row.wrong, row.known_as)),
    )


def evaluate_canaries(engine: Engine, results: ObjectStore) -> list[EvaluatedCanary]:
    """Compare every committed canary that has no outcome yet, and record the outcomes in the ledger.

    A wrong outcome can quarantine the worker; its open chunks are then released. If no canary waits, the function runs
    one query on a small table. Canaries of a shard that cannot be read are tried again in the next run; `vfleet audit`
    lists such shards.

    Returns:
        The outcomes that this call recorded.
    """
    evaluated = []
    for _, group in groupby(read_pending_canaries(engine), key=attrgetter("shard_key")):
        canaries = list(group)
        try:
            outcomes = _evaluate_shard(results, canaries)
        except Permanent as error:
            log.warning("%d canaries wait: %s", len(canaries), error)
            continue
        for canary, (outcome, finding) in zip(canaries, outcomes, strict=True):
            record_canary_result(engine, canary, outcome, finding)
            evaluated.append(EvaluatedCanary(canary.video_id, canary.worker_id, outcome, finding))
    return evaluated


def find_error(known: Sequence[KnownAnswer], rows: Sequence[RowValues], units: Units) -> str | None:
    """Describe why the rows of a canary are wrong, compared with its known answers; None if they are not wrong.

    Segments that were not decoded, or on which a model failed, are not compared. Deviating numbers in fewer than
    ``MIN_DEVIATING_SEGMENTS`` segments are not wrong.
    """
    if len(known) != len(rows):
        return f"{len(rows)} segments instead of {len(known)}"
    deviations = []
    for place, (right, row) in enumerate(zip(known, rows, strict=True)):
        if find_failure(row):
            continue
        if row["verdict"] != right.verdict:
            return f"segment {place}: the verdict is {row['verdict']} instead of {right.verdict}"
        if missing := [name for name, value in right.signals.items() if value is not None and row.get(name) is None]:
            return f"segment {place}: no {missing[0]}, which is {right.signals[missing[0]]:.4g}"
        if deviation := find_deviation(right, row, units):
            deviations.append(f"segment {place}: {deviation}")
    return "; ".join(deviations[:MIN_DEVIATING_SEGMENTS]) if len(deviations) >= MIN_DEVIATING_SEGMENTS else None


def find_failure(row: RowValues) -> str | None:
    """Describe the first fault in a row; None if the segment was decoded and every model that ran has answered."""
    skipped = f"{SKIPPED.fault.kind}: "
    faults = {name: str(why) for name, why in row.items() if why and (name == "fault" or name.endswith("_fault"))}
    return next((f"{name} {why}" for name, why in faults.items() if not why.startswith(skipped)), None)


def find_deviation(right: KnownAnswer, row: RowValues, units: Units) -> str | None:
    """Describe the first number that differs from the known answer by more than the tolerance; None if none does.

    A number that only the row or only the known answer has differs too.
    """
    for name, value in right.signals.items():
        found = row.get(name)
        if value is None and found is None:
            continue
        if value is None or found is None or abs(found - value) > tolerance_for(name, value, units.get(name)):
            return f"{name} is {found} instead of {value}"
    return None


@dataclass(frozen=True, slots=True)
class _ShardAnswers:
    """The answers for the canaries of one shard."""

    rows: Mapping[str, Sequence[RowValues]]
    """The rows of each video, by video id, in the order of its segments."""
    units: Units
    basis: Mapping[str, str]
    """The versions on which the answers depend besides the models' revisions (``results_basis``)."""


def _evaluate_shard(results: ObjectStore, canaries: Sequence[PendingCanary]) -> list[tuple[Outcome, str | None]]:
    """Return an outcome and a finding for each canary. All canaries are of one shard, or their videos failed.

    The shard is read at most once.
    """
    if canaries[0].shard_key is None:
        return [("inconclusive", f"the video failed: {canary.error}") for canary in canaries]
    if not any(canary.is_comparable for canary in canaries):
        return [OTHER_MODELS for _ in canaries]
    answers = _read_answers(results, canaries)
    return [_compare(canary, answers) for canary in canaries]


def _compare(canary: PendingCanary, answers: _ShardAnswers) -> tuple[Outcome, str | None]:
    """Return the outcome of one canary, and a finding that explains it; no finding if the canary is right."""
    if not canary.is_comparable:
        return OTHER_MODELS
    if canary.basis != answers.basis:
        return (
            "inconclusive",
            f"scored by {_format_basis(answers.basis)}, the known answers by {_format_basis(canary.basis)}",
        )
    rows = answers.rows.get(canary.video_id, ())
    if error := find_error(canary.answers, rows, answers.units):
        return "wrong", error
    if failure := next(filter(None, map(find_failure, rows)), None):
        return "inconclusive", f"the video failed in part: {failure}"
    return "right", None


def _format_basis(basis: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in basis.items()) or "unknown rules"


def _read_answers(results: ObjectStore, canaries: Sequence[PendingCanary]) -> _ShardAnswers:
    """Read the rows of the canaries from their shard.

    Raises:
        ObjectMissing: the shard is missing.
        ShardCorrupt: the shard's checksum differs from the committed checksum.
    """
    key, committed = str(canaries[0].shard_key), canaries[0].shard_sha256
    payload = get_bytes(results, key)
    if (found := sha256(payload).hexdigest()) != committed:
        raise ShardCorrupt(key, "sha256", expected=committed, found=found)
    table = pq.read_table(pa.BufferReader(payload))
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    basis = PROVENANCE_JSON.validate_json(table.schema.metadata[METADATA_KEY]).basis
    wanted = pa.array([canary.video_id for canary in canaries], pa.string())
    own = table.filter(pc.is_in(table["video_id"], value_set=wanted))
    rows: dict[str, list[RowValues]] = {}
    for row in own.sort_by("segment_index").to_pylist():
        rows.setdefault(row["video_id"], []).append(row)
    return _ShardAnswers(rows, units, basis)
