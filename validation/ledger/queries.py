"""Reads the ledger: dataclasses for rows of the views of the schema ``validation``, and functions that read them."""

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
    """Seconds until the lease expires; negative if it has expired and the chunk was not taken back yet."""
    videos_claimed: int


@dataclass(frozen=True, slots=True)
class RecentlyClosedChunk:
    """A chunk that was committed or released within the last minute, or taken back within the last hour."""

    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None


@dataclass(frozen=True, slots=True)
class CommittedShard:
    """A shard with at least one current result."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    chunk_id: UUID | None
    """The chunk whose results are in the shard; None for a compacted shard."""
    suite: str
    revision: str
    models: Mapping[str, str]
    """Model -> revision of the model. ``revision`` is a hash of this mapping."""
    closed_at: datetime
    """Commit time of the shard."""
    revision_since: datetime
    """Commit time of the first shard of this suite revision. Readers prefer the latest revision."""
    superseded: Sequence[str]
    """Ids of videos of which a newer shard of the same suite revision has the result. Readers skip their rows here."""
    withheld: Sequence[str]
    """Ids of the superseded videos and the canaries. Their rows in this shard are not training data."""
    videos_validated: int = 0
    """Number of videos in the shard, including superseded videos."""


@dataclass(frozen=True, slots=True)
class RetiredShard:
    """A shard whose results were all superseded by newer shards, and whose object is not deleted yet."""

    shard_key: str
    shard_sha256: str
    shard_bytes: int
    segments: int
    suite: str
    revision: str


@dataclass(frozen=True, slots=True)
class SuiteRevision:
    """A suite with the revisions of its models, and its numbers of shards, videos and segments with current results."""

    suite: str
    revision: str
    models: Mapping[str, str]
    shards: int
    videos: int
    segments: int


@dataclass(frozen=True, slots=True)
class Workload:
    """The videos that can be claimed now, and the chunks that are processed or could be processed now."""

    claimable_videos: int
    """Number of pending videos whose back-off is over. A video that waits for a second witness counts only if a box of
    another owner is online."""
    open_chunks: int
    slots_online: int
    """Number of flow runs that the workers with the status online execute concurrently, as they registered. A worker
    counts if its last heartbeat is at most 60 s old."""
    suspects: int = 0
    """Number of claimable videos with one crash. Their chunks have a fifth of the usual size (pick_crash_suspects)."""
    isolated_suspects: int = 0
    """Number of claimable videos with two or more crashes. Each is claimed as a chunk of its own."""
    chunk_s: Seconds | None = None
    """Mean seconds from claim to commit, of the chunks committed in the last half hour; None if there are none."""


@dataclass(frozen=True, slots=True)
class WorkerSession:
    """The latest session of a worker: its name in Prefect, its status and its start."""

    worker_id: str
    prefect_worker: str | None
    status: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class AlteredLogin:
    """A database login of boxes with stored settings besides ``temp_file_limit``, which only a superuser can set.

    All boxes share the login, and any box can store a setting.
    """

    login: str
    settings: str
    remedy: str
    """The SQL statement by which the database's owner resets the settings."""


@dataclass(frozen=True, slots=True)
class InvariantCheck:
    """An invariant of the ledger, and the number of rows that violate it."""

    invariant: str
    violations: int
    example: str | None
    """The key of one violating row; None if there is none."""


def read_open_chunks(engine: Engine) -> list[OpenChunk]:
    return [row_to_dataclass(OpenChunk, row) for row in read_view(engine, "open_chunks")]


def read_recently_closed_chunks(engine: Engine) -> list[RecentlyClosedChunk]:
    """Read the chunks that their holders committed or released within the last minute."""
    return [row_to_dataclass(RecentlyClosedChunk, row) for row in read_view(engine, "recently_closed_chunks")]


def read_expired_chunks(engine: Engine) -> list[RecentlyClosedChunk]:
    """Read the chunks that a sweep or a claim took back within the last hour."""
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


def read_segment_counts(engine: Engine) -> dict[str, dict[str, int]]:
    """Read how many segments of each video are in each shard: shard key -> video id -> number of segments.

    Superseded results are included; deleted shards are not.
    """
    shards: dict[str, dict[str, int]] = {}
    for row in read_view(engine, "shard_videos"):
        shards.setdefault(row["shard_key"], {})[row["video_id"]] = row["segments"]
    return shards


def audit_ledger(engine: Engine) -> list[InvariantCheck]:
    """Check the invariants of the ledger. Changes nothing; returns one item per invariant."""
    return [InvariantCheck(*tuple(row)) for row in call_function(engine, "audit")]


def read_view(engine: Engine, view: str) -> list[dict[str, Any]]:
    """Read all rows of a view of the schema ``validation``, in the order of the view, as dicts by column name."""
    try:
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM validation.{view}"))  # noqa: S608 - the name is not user input
            return [dict(row) for row in rows.mappings()]
    except DBAPIError as error:
        raise translate_error(error, engine, view, {}) from error


def row_to_dataclass(shape: type[Shape], row: Mapping[str, Any]) -> Shape:
    """Build a dataclass from the columns with the names of its fields. A SQL numeric becomes a float."""
    return shape(**{field.name: _to_python(row[field.name]) for field in fields(shape)})


def _to_python(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
