"""Hold what machines said of canaries against the right answers.

A canary is wrong if one of its segments has another verdict, lacks an answer that is known, or is not there, or if in
two of its segments a number is off by more than two honest machines may differ (``tolerance_for``). One number by
itself is no proof: tolerances have a tail, and the numbers of one segment stray together.

Canaries without a comparable answer are inconclusive: the video failed, or it was scored by other models or rules. So
is a canary with a segment that a model failed on, unless another segment is wrong. A box that fails sound videos is
found by the share of its failures.
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

from validation.canaries.tolerance import tolerance_for
from validation.errors import Permanent
from validation.ledger.canaries import (
    CanaryResult,
    KnownAnswer,
    Outcome,
    PendingCanary,
    read_pending_canaries,
    record_canary_result,
)
from validation.models.cascade import SKIPPED
from validation.shards.errors import ShardCorrupt
from validation.shards.schema import METADATA_KEY, PROVENANCE_JSON
from validation.storage.store import get_bytes

log = logging.getLogger("vfleet.canaries")

Said: TypeAlias = Mapping[str, Any]
"""A row of a shard, by column."""
Units: TypeAlias = Mapping[str, str]
"""The unit of each column."""

OTHER_MODELS: tuple[Outcome, str] = ("inconclusive", "other models answered than those that gave the right answers")
DEVIATING = 2
"""So many segments with a number that is off are no chance."""


@dataclass(frozen=True, slots=True)
class JudgedCanary:
    """What became of a canary in one chunk."""

    video_id: str
    worker_id: str
    outcome: Outcome
    finding: str | None


@dataclass(frozen=True, slots=True)
class MachineTally:
    """How a machine did."""

    known_as: str
    """The label of its rental, else its worker's id."""
    right: int
    wrong: int
    """Pardoned ones too."""
    inconclusive: int


@dataclass(frozen=True, slots=True)
class CanaryTally:
    """How many canaries there are, and how the machines did."""

    planted: int
    waiting: int
    """Not judged yet."""
    workers: Sequence[MachineTally]
    """The worst first."""


def tally_results(results: Sequence[CanaryResult]) -> CanaryTally:
    """Count outcomes by machine."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        if result.outcome is not None:
            counts.setdefault(result.instance_label or str(result.worker_id), Counter())[result.outcome] += 1
    workers = [MachineTally(name, each["right"], each["wrong"], each["inconclusive"]) for name, each in counts.items()]
    return CanaryTally(
        planted=len({result.video_id for result in results}),
        waiting=sum(result.outcome is None for result in results),
        workers=sorted(workers, key=lambda row: (-row.wrong, row.known_as)),
    )


def judge_canaries(engine: Engine, results: ObjectStore) -> list[JudgedCanary]:
    """Judge every canary that was committed and not judged yet. Costs one look at a small table where there is none.

    A shard that cannot be read is left for the next time: `vfleet audit` names it.
    """
    judged = []
    for _, group in groupby(read_pending_canaries(engine), key=attrgetter("shard_key")):
        canaries = list(group)
        try:
            outcomes = _weigh(results, canaries)
        except Permanent as error:
            log.warning("%d canaries wait: %s", len(canaries), error)
            continue
        for canary, (outcome, finding) in zip(canaries, outcomes, strict=True):
            record_canary_result(engine, canary, outcome, finding)
            judged.append(JudgedCanary(canary.video_id, canary.worker_id, outcome, finding))
    return judged


def find_error(known: Sequence[KnownAnswer], said: Sequence[Said], units: Units) -> str | None:
    """Say what is wrong about what was said of a video's segments, None if nothing is. What failed is passed over."""
    if len(known) != len(said):
        return f"{len(said)} segments instead of {len(known)}"
    deviations = []
    for place, (right, row) in enumerate(zip(known, said, strict=True)):
        if find_failure(row):
            continue
        if row["verdict"] != right.verdict:
            return f"segment {place}: the verdict is {row['verdict']} instead of {right.verdict}"
        if silent := [name for name, value in right.signals.items() if value is not None and row.get(name) is None]:
            return f"segment {place}: no {silent[0]}, which is {right.signals[silent[0]]:.4g}"
        if deviation := find_deviation(right, row, units):
            deviations.append(f"segment {place}: {deviation}")
    return "; ".join(deviations[:DEVIATING]) if len(deviations) >= DEVIATING else None


def find_failure(said: Said) -> str | None:
    """Tell the first failure of a segment, None if it was heard and every model that was asked has answered."""
    spared = f"{SKIPPED.fault.kind}: "
    told = {name: str(why) for name, why in said.items() if why and (name == "fault" or name.endswith("_fault"))}
    return next((f"{name} {why}" for name, why in told.items() if not why.startswith(spared)), None)


def find_deviation(right: KnownAnswer, said: Said, units: Units) -> str | None:
    """Name the first number that is off by more than two honest machines may differ, None if none is."""
    for name, value in right.signals.items():
        found = said.get(name)
        if value is None and found is None:
            continue
        if value is None or found is None or abs(found - value) > tolerance_for(name, value, units.get(name)):
            return f"{name} is {found} instead of {value}"
    return None


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a shard says of its canaries."""

    rows: Mapping[str, Sequence[Said]]
    """By video, in order."""
    units: Units
    basis: Mapping[str, str]
    """What it depends on beside the models."""


def _weigh(results: ObjectStore, canaries: Sequence[PendingCanary]) -> list[tuple[Outcome, str | None]]:
    """The outcomes of canaries of one shard, or of such as are in none. The shard is read once, if at all."""
    if canaries[0].shard_key is None:
        return [("inconclusive", f"it failed: {canary.error}") for canary in canaries]
    if not any(canary.is_comparable for canary in canaries):
        return [OTHER_MODELS for _ in canaries]
    heard = _read(results, canaries)
    return [_compare(canary, heard) for canary in canaries]


def _compare(canary: PendingCanary, heard: _Heard) -> tuple[Outcome, str | None]:
    if not canary.is_comparable:
        return OTHER_MODELS
    if canary.basis != heard.basis:
        return "inconclusive", f"judged by {_spell(heard.basis)}, the right answers by {_spell(canary.basis)}"
    said = heard.rows.get(canary.video_id, ())
    if error := find_error(canary.answers, said, heard.units):
        return "wrong", error
    if failure := next(filter(None, map(find_failure, said)), None):
        return "inconclusive", f"it failed in part: {failure}"
    return "right", None


def _spell(basis: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in basis.items()) or "what nobody wrote down"


def _read(results: ObjectStore, canaries: Sequence[PendingCanary]) -> _Heard:
    """What the canaries' shard says of them.

    Raises:
        ObjectMissing, ShardCorrupt: the shard is not what was committed.
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
    rows: dict[str, list[Said]] = {}
    for row in own.sort_by("segment_index").to_pylist():
        rows.setdefault(row["video_id"], []).append(row)
    return _Heard(rows, units, basis)
