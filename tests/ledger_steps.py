"""What tests of the ledger do over and over, and how they edit its time."""

from uuid import UUID, uuid4

from sqlalchemy import Engine, create_engine, text

from validation.domain import ChunkClaim, ShardReceipt
from validation.ledger.engine import CONNECT_ARGS, parse_database_url
from validation.ledger.protocol import claim_chunk
from validation.shards.naming import shard_key


def engine_for(url: str) -> Engine:
    return create_engine(parse_database_url(url), connect_args=dict(CONNECT_ARGS), pool_size=1, max_overflow=9)


def claim(engine: Engine, *, worker_id: str = "ann", size: int = 50, **options) -> ChunkClaim | None:
    given = {"chunk_id": uuid4(), "flow_run_id": uuid4(), "lease_s": 60, "suite": "local"} | options
    return claim_chunk(engine, worker_id=worker_id, size=size, **given)


def shard(name: str = "one", *, of: ChunkClaim | None = None) -> ShardReceipt:
    """What was uploaded: the shard of a chunk, or one that stands for others and may be called anything."""
    return ShardReceipt(
        key=shard_key(of.worker_id, of.shard_number) if of else f"shards/{name}",
        sha256=name.encode().hex().ljust(64, "0"), size_bytes=1000, segments=3, suite="local",
    )  # fmt: skip


def expire(engine: Engine, chunk_id: UUID) -> None:
    """Edit time: the chunk's lease ended a second ago."""
    execute(
        engine, "UPDATE validation_chunks SET lease_expires_at = now() - interval '1 s' WHERE chunk_id = :c", c=chunk_id
    )


def execute(engine: Engine, sql: str, **parameters) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), parameters)


def fetch(engine: Engine, sql: str, **parameters):
    with engine.connect() as connection:
        return connection.execute(text(sql), parameters).all()


def statuses(engine: Engine) -> dict[str, str]:
    return dict(fetch(engine, "SELECT video_id, validation_status FROM video_queue"))
