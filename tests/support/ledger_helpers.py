"""Helpers of the ledger's tests: claim, receipts, and edits of its times."""

from uuid import UUID, uuid4

from sqlalchemy import Engine, create_engine, text

from validation.domain import ChunkClaim, ShardReceipt
from validation.ledger.chunks import claim_chunk
from validation.ledger.engine import CONNECT_ARGS, parse_database_url
from validation.shards.naming import shard_key


def engine_for(url: str) -> Engine:
    """An engine with a pool large enough for the threads of one test."""
    return create_engine(parse_database_url(url), connect_args=dict(CONNECT_ARGS), pool_size=1, max_overflow=9)


def claim(engine: Engine, *, worker_id: str = "ann", size: int = 50, **options) -> ChunkClaim | None:
    """Claim a chunk with default arguments."""
    given = {"chunk_id": uuid4(), "flow_run_id": uuid4(), "lease_s": 60, "suite": "local"} | options
    return claim_chunk(engine, worker_id=worker_id, size=size, **given)


def shard(name: str = "one", *, of: ChunkClaim | None = None) -> ShardReceipt:
    """The receipt of an uploaded shard: that of a chunk, or with any name one that replaces others."""
    return ShardReceipt(
        key=shard_key(of.worker_id, of.shard_number) if of else f"shards/{name}",
        sha256=name.encode().hex().ljust(64, "0"), size_bytes=1000, segments=3, suite="local",
    )  # fmt: skip


def expire(engine: Engine, chunk_id: UUID) -> None:
    """Edit the times: the chunk was not renewed, its lease expired a second ago; its worker lives on."""
    stop_heartbeat(engine, chunk_id, lease_left_s=-1)
    execute(
        engine,
        "UPDATE worker_validators SET started_at = now() - interval '1 h', heard_since = now() - interval '1 h'"
        " WHERE worker_id = (SELECT worker_id FROM validation_chunks WHERE chunk_id = :c)",
        c=chunk_id,
    )


def expire_box(engine: Engine, chunk_id: UUID) -> None:
    """As ``expire``, and the chunk's worker has sent no heartbeat since the last renewal either."""
    expire(engine, chunk_id)
    execute(
        engine,
        "UPDATE worker_validators w SET last_heartbeat_at = c.renewed_at"
        " FROM validation_chunks c WHERE c.chunk_id = :c AND c.worker_id = w.worker_id",
        c=chunk_id,
    )


def stop_heartbeat(engine: Engine, chunk_id: UUID, *, lease_left_s: float) -> None:
    """Edit the times: the chunk was last renewed so long ago that ``lease_left_s`` of its lease is left."""
    execute(
        engine,
        "UPDATE validation_chunks SET lease_expires_at = now() + make_interval(secs => :left),"
        " renewed_at = now() + make_interval(secs => :left) - (lease_expires_at - renewed_at) WHERE chunk_id = :c",
        c=chunk_id, left=lease_left_s,
    )  # fmt: skip


def execute(engine: Engine, sql: str, **parameters) -> None:
    """Execute a statement."""
    with engine.begin() as connection:
        connection.execute(text(sql), parameters)


def fetch(engine: Engine, sql: str, **parameters):
    """The rows of a query."""
    with engine.connect() as connection:
        return connection.execute(text(sql), parameters).all()


def statuses(engine: Engine) -> dict[str, str]:
    """The validation status of each video."""
    return dict(fetch(engine, "SELECT video_id, validation_status FROM video_queue"))
