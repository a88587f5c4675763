"""Reading the ledger: one dataclass and one Python function per view of the schema ``validation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.rpc import call_function, translate_error

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Shape = TypeVar("Shape", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """A chunk that somebody holds."""

    chunk_id: UUID
    worker_id: str
    shard_number: int
    flow_run_id: UUID | None
    claimed_at: datetime
    lease_expires_at: datetime
    lease_left_s: Seconds
    """Less than nothing: its lease has ended, and no sweep has taken it yet."""
    videos_claimed: int


@dataclass(frozen=True, slots=True)
class ClosingChunk:
    """A chunk that its holder closed a moment ago: its flow run has yet to tell that it ended."""

    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None


@dataclass(frozen=True, slots=True)
class CommittedShard:
    """A shard that exists for readers."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    chunk_id: UUID | None
    """None: compacted."""
    suite: str
    revision: str
    models: Mapping[str, str]
    """Revisions by model, what ``revision`` stands for."""
    closed_at: datetime
    revision_since: datetime
    """When the first shard of its revision was committed: of two revisions, the later is preferred."""
    superseded: Sequence[str]
    """Videos that stand in a newer shard, and are not to be read here."""
    withheld: Sequence[str]
    """These and the canaries: what no reader takes for data."""


@dataclass(frozen=True, slots=True)
class RetiredShard:
    """A shard that no reader needs any more, since when."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    suite: str
    revision: str
    retired_at: datetime


@dataclass(frozen=True, slots=True)
class SuiteRevision:
    """A suite with certain revisions of certain models, and what of it is current."""

    suite: str
    revision: str
    models: Mapping[str, str]
    shards: int
    videos: int
    segments: int
    first_committed_at: datetime
    last_committed_at: datetime


@dataclass(frozen=True, slots=True)
class Workload:
    """What there is to do, and who could do it now."""

    claimable_videos: int
    open_chunks: int
    slots_online: int
    """Chunks that the workers online can hold at once."""
    suspects: int = 0
    """Claimable videos whose process died once: they travel in a fifth of a chunk (pick_crash_suspects)."""
    lone_suspects: int = 0
    """Claimable videos whose process died more often: each travels alone."""


@dataclass(frozen=True, slots=True)
class WorkerSession:
    """Since when a worker has lived, under the name that Prefect knows it by, and whether it still does."""

    worker_id: str
    prefect_worker: str | None
    status: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class AlteredLogin:
    """A box's login whose sessions begin with settings that one of the boxes may have chosen for all."""

    login: str
    settings: str
    remedy: str
    """What the database's owner says to take them back."""


@dataclass(frozen=True, slots=True)
class InvariantCheck:
    """A law of the ledger, and how often it is broken."""

    law: str
    violations: int
    example: str | None


def read_open_chunks(engine: Engine) -> list[OpenChunk]:
    return [row_to_dataclass(OpenChunk, row) for row in read_view(engine, "open_chunks")]


def read_closing_chunks(engine: Engine) -> list[ClosingChunk]:
    return [row_to_dataclass(ClosingChunk, row) for row in read_view(engine, "closing_chunks")]


def read_committed_shards(engine: Engine) -> list[CommittedShard]:
    return [row_to_dataclass(CommittedShard, row) for row in read_view(engine, "committed_shards")]


def read_workload(engine: Engine) -> Workload:
    (row,) = read_view(engine, "workload")
    return row_to_dataclass(Workload, row)


def read_worker_sessions(engine: Engine) -> list[WorkerSession]:
    return [row_to_dataclass(WorkerSession, row) for row in read_view(engine, "worker_liveness")]


def read_altered_logins(engine: Engine) -> list[AlteredLogin]:
    return [row_to_dataclass(AlteredLogin, row) for row in read_view(engine, "altered_logins")]


def read_retired_shards(engine: Engine) -> list[RetiredShard]:
    return [row_to_dataclass(RetiredShard, row) for row in read_view(engine, "retired_shards")]


def read_suite_revisions(engine: Engine) -> list[SuiteRevision]:
    return [row_to_dataclass(SuiteRevision, row) for row in read_view(engine, "suite_revisions")]


def read_shard_segments(engine: Engine) -> dict[str, dict[str, int]]:
    """Segments by video, by shard key: what each shard that is not deleted must hold, superseded or not."""
    shards: dict[str, dict[str, int]] = {}
    for row in read_view(engine, "shard_videos"):
        shards.setdefault(row["shard_key"], {})[row["video_id"]] = row["segments"]
    return shards


def audit_ledger(engine: Engine) -> list[InvariantCheck]:
    """Hold the ledger against its own laws. Reads only."""
    return [InvariantCheck(*tuple(row)) for row in call_function(engine, "audit")]


def read_view(engine: Engine, view: str) -> list[dict[str, Any]]:
    """Read a whole view of the schema ``validation``, in its own order."""
    try:
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM validation.{view}"))  # noqa: S608 - a name of ours
            return [dict(row) for row in rows.mappings()]
    except DBAPIError as error:
        raise translate_error(error, engine, view, {}) from error


def read_known_videos(engine: Engine, video_ids: Sequence[str]) -> set[str]:
    """Those of the ids that are transcribed videos of the queue."""
    query = text("SELECT video_id FROM validation.video_outcomes WHERE video_id = ANY (:ids)")
    try:
        with engine.connect() as connection:
            return {row.video_id for row in connection.execute(query, {"ids": list(video_ids)})}
    except DBAPIError as error:
        raise translate_error(error, engine, "video_outcomes", {}) from error


def row_to_dataclass(shape: type[Shape], row: Mapping[str, Any]) -> Shape:
    """Fill a dataclass from the columns that bear its fields' names. A numeric, such as a price, becomes a float."""
    return shape(**{field.name: _to_python(row[field.name]) for field in fields(shape)})


def _to_python(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
