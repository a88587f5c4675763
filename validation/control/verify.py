"""Compare every committed shard with ledger and manifest, several at a time, resuming from a log."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.audit import check_shard
from validation.control.orphans import READERS
from validation.errors import BadInput
from validation.ledger.queries import CommittedShard, read_committed_shards, read_shard_segments


@dataclass(frozen=True, slots=True)
class Verified:
    """A shard that was read completely, and what is wrong with it, if anything."""

    key: str
    sha256: str
    problem: str | None


def verify_shards(
    engine: Engine, results: ObjectStore, *, log: Path | None = None, readers: int = READERS
) -> Iterator[Verified]:
    """Verify every committed shard; yields each as it is done, in no order.

    Memory holds as many shards as there are readers. A shard with a problem is a result and does not stop the others;
    an unreachable bucket or ledger does, and the next run resumes from the log.

    Args:
        engine: the ledger.
        results: the results bucket.
        log: JSON lines, one per shard, appended as shards are done. Shards without a problem are not read again.
        readers: how many shards are read at a time.

    Raises:
        BadInput: the log is not a log of this command.
    """
    sound = _open_log(log) if log else set()
    waiting = [shard for shard in read_committed_shards(engine) if (shard.shard_key, shard.shard_sha256) not in sound]
    segments = read_shard_segments(engine)  # after the shards: those committed in between are not verified

    def verify(shard: CommittedShard) -> Verified:
        return Verified(shard.shard_key, shard.shard_sha256, check_shard(results, segments, shard))

    pool = ThreadPoolExecutor(readers, thread_name_prefix="verify")
    try:
        for done in as_completed([pool.submit(verify, shard) for shard in waiting]):
            verified = done.result()
            if log:
                _append(log, verified)
            yield verified
    finally:
        pool.shutdown(cancel_futures=True)


def _open_log(log: Path) -> set[tuple[str, str]]:
    """The shards in which an earlier run found no problem. Removes a last line that the end of that run cut off."""
    if not log.exists():
        return set()
    whole, newline, _ = log.read_bytes().rpartition(b"\n")
    try:
        entries = [Verified(**json.loads(line)) for line in whole.splitlines()]
    except (TypeError, ValueError):
        raise BadInput(f"{log} is not a log of `vfleet shards verify`: name another file") from None
    with log.open("r+b") as file:
        file.truncate(len(whole + newline))
    return {(verified.key, verified.sha256) for verified in entries if verified.problem is None}


def _append(log: Path, verified: Verified) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(verified)) + "\n")
