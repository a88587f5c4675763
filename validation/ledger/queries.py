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
    """A chunk that a worker holds."""

    chunk_id: UUID
    worker_id: str
    shard_number: int
    flow_run_id: UUID | None
    lease_left_s: Seconds
    """Negative once the lease has expired and no sweep has taken the chunk back yet."""
    videos_claimed: int


@dataclass(frozen=True, slots=True)
class RecentlyClosedChunk:
    """A chunk that its holder closed within the last minute, or that was taken back within the last hour."""

    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None


@dataclass(frozen=True, slots=True)
class CommittedShard:
    """A shard that readers read."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    chunk_id: UUID | None
    """None: compacted."""
    suite: str
    revision: str
    models: Mapping[str, str]
    """Revision of each model; ``revision`` is a hash of it."""
    closed_at: datetime
    revision_since: datetime
    """When the first shard of its revision was committed; readers prefer the latest revision."""
    superseded: Sequence[str]
    """Videos whose current result is in a newer shard: their rows here are not read."""
    withheld: Sequence[str]
    """The superseded videos and the canaries: rows that are no data."""
    videos_validated: int = 0
    """Its videos, superseded or not."""


@dataclass(frozen=True, slots=True)
class RetiredShard:
    """A shard whose every result was superseded by newer shards."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    suite: str
    revision: str


@dataclass(frozen=True, slots=True)
class SuiteRevision:
    """A suite with the revisions of its models, and how much of it is current."""

    suite: str
    revision: str
    models: Mapping[str, str]
    shards: int
    videos: int
    segments: int


@dataclass(frozen=True, slots=True)
class Workload:
    """What is left to do, and how many chunks could be processed now."""

    claimable_videos: int
    open_chunks: int
    slots_online: int
    """Chunks that the online workers can hold at once."""
    suspects: int = 0
    """Claimable videos with one crash, which are claimed a fifth of a chunk at a time (pick_crash_suspects)."""
    isolated_suspects: int = 0
    """Claimable videos with more crashes, each claimed alone."""
    chunk_s: Seconds | None = None
    """Mean time from claim to commit in the last half hour; None if nothing was committed in it."""


@dataclass(frozen=True, slots=True)
class WorkerSession:
    """One life of a worker process: its name in Prefect, its status and its start."""

    worker_id: str
    prefect_worker: str | None
    status: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class AlteredLogin:
    """A box's login with settings of its own, which one box may have made for all boxes."""

    login: str
    settings: str
    remedy: str
    """The statement by which the database's owner resets them."""


@dataclass(frozen=True, slots=True)
class InvariantCheck:
    """An invariant of the ledger, and how many rows violate it."""

    invariant: str
    violations: int
    example: str | None


def read_open_chunks(engine: Engine) -> list[OpenChunk]:
    return [row_to_dataclass(OpenChunk, row) for row in read_view(engine, "open_chunks")]


def read_recently_closed_chunks(engine: Engine) -> list[RecentlyClosedChunk]:
    return [row_to_dataclass(RecentlyClosedChunk, row) for row in read_view(engine, "recently_closed_chunks")]


def read_expired_chunks(engine: Engine) -> list[RecentlyClosedChunk]:
    """Chunks that a sweep or a claim took back within the last hour."""
    return [row_to_dataclass(RecentlyClosedChunk, row) for row in read_view(engine, "expired_chunks")]


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
    """Shard key -> video id -> segments, superseded or not, of each shard that is not deleted."""
    shards: dict[str, dict[str, int]] = {}
    for row in read_view(engine, "shard_videos"):
        shards.setdefault(row["shard_key"], {})[row["video_id"]] = row["segments"]
    return shards


def audit_ledger(engine: Engine) -> list[InvariantCheck]:
    """Check the ledger against its own invariants. Reads only."""
    return [InvariantCheck(*tuple(row)) for row in call_function(engine, "audit")]


def read_view(engine: Engine, view: str) -> list[dict[str, Any]]:
    """All rows of a view of the schema ``validation``, in the order of the view."""
    try:
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM validation.{view}"))  # noqa: S608 - the name is not user input
            return [dict(row) for row in rows.mappings()]
    except DBAPIError as error:
        raise translate_error(error, engine, view, {}) from error


def row_to_dataclass(shape: type[Shape], row: Mapping[str, Any]) -> Shape:
    """Fill a dataclass from the columns that bear its fields' names. A numeric, such as a price, becomes a float."""
    return shape(**{field.name: _to_python(row[field.name]) for field in fields(shape)})


def _to_python(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
