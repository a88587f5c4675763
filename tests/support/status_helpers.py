"""Fill a real ledger with claims and commits whose times are moved into the past."""

from uuid import uuid4

from tests.support.ledger_helpers import claim, execute, fetch
from validation.domain import ShardReceipt, Video, VideoFailure, WorkerProfile
from validation.ledger.chunks import commit_chunk
from validation.ledger.fleet import set_target
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.shards.naming import shard_key

CLOSE = """
    UPDATE validation_chunks
    SET claimed_at = now() - make_interval(secs => :from_s), closed_at = now() - make_interval(secs => :until_s)
    WHERE chunk_id = :chunk
"""


def queue(ledger, **counts: int) -> None:
    """Add ``counts`` videos per language, and the worker `ann`."""
    seed_videos(ledger, [Video(f"{lang}{n:05d}", lang, 4) for lang, count in counts.items() for n in range(count)])
    register_worker(ledger, WorkerProfile("ann", gpu_type="RTX 3090", config={"instance": "ann-1"}))


def commit_one(ledger, *, ended_s_ago: float, took_s: float = 60, size: int = 5, verdicts=(12, 5, 3), audio_s=100.0):
    """Claim and commit a chunk with four segments per video, and move its times into the past. Returns the chunk."""
    chunk = claim(ledger, size=size)
    videos = {video.video_id: 4 for video in chunk.videos}
    counted = dict(zip(("accept", "review", "reject"), verdicts, strict=True)) if verdicts else None
    key = shard_key(chunk.worker_id, chunk.shard_number)
    receipt = ShardReceipt(key, uuid4().hex * 2, 1000, 4 * size, "local", audio_s=audio_s, verdicts=counted)
    commit_chunk(ledger, chunk.chunk_id, shard=receipt, validated=videos, failed=[], max_attempts=3)
    _move(ledger, chunk, ended_s_ago, took_s)
    return chunk


def fail_one(ledger, *, ended_s_ago: float, transient: bool, size: int = 5) -> None:
    """Claim a chunk, fail all its videos, and move its times into the past."""
    chunk = claim(ledger, size=size)
    failed = [VideoFailure(video.video_id, "it is torn", transient) for video in chunk.videos]
    commit_chunk(ledger, chunk.chunk_id, shard=None, validated={}, failed=failed, max_attempts=3)
    _move(ledger, chunk, ended_s_ago, 60)


def _move(ledger, chunk, ended_s_ago: float, took_s: float) -> None:
    execute(ledger, CLOSE, chunk=chunk.chunk_id, from_s=ended_s_ago + took_s, until_s=ended_s_ago)


def work(ledger, *, minutes: int, per_minute: int = 1) -> None:
    """Commit ``per_minute`` chunks of five videos in each of the last minutes."""
    for n in range(minutes * per_minute):
        commit_one(ledger, ended_s_ago=n * 60 / per_minute + 1)


def rent(ledger, *, hours: float, usd_per_hour: float, usd_once: float = 0.0) -> None:
    """Add a rented instance that has been billed for some hours."""
    set_target(ledger, "blue", machines=1, max_usd_per_hour=9, max_usd=99, order={})
    execute(
        ledger,
        "INSERT INTO fleet_instances (label, fleet, slot, worker_id, state, offer_id, machine_id, host_id, gpu_name, "
        "usd_per_hour, usd_once, boot_timeout_s, instance_id, requested_at, changed_at, accepted_at) VALUES (:label, "
        "'blue', 1, 'ann', 'working', 1, 1, 1, 'RTX 3090', :rate, :once, 900, 1, now() - make_interval(secs => :s), "
        "now(), now())",
        label=uuid4().hex, rate=usd_per_hour, once=usd_once, s=3600 * hours,
    )  # fmt: skip


def view(ledger, name: str):
    """The rows of a view of the schema `validation`, as dictionaries."""
    return [dict(row._mapping) for row in fetch(ledger, f"SELECT * FROM validation.{name}")]
