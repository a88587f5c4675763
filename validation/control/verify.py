"""Hold every committed shard against ledger and manifest, as many at a time as readers, going on where it ended."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.audit import READERS, check_shard
from validation.errors import BadInput
from validation.ledger.queries import CommittedShard, read_committed_shards, read_shard_segments


@dataclass(frozen=True, slots=True)
class Verified:
    """A shard that was read to its last byte, and what is wrong with it, if anything."""

    key: str
    sha256: str
    problem: str | None


def verify_shards(
    engine: Engine, results: ObjectStore, *, log: Path | None = None, readers: int = READERS
) -> Iterator[Verified]:
    """Verify every committed shard; yields each as it is done, in no order.

    A shard is read whole and forgotten: memory holds as many as there are readers. What is wrong is an answer, not an
    end; a store or ledger that does not answer ends it, and the log says how far it came.

    Args:
        engine: the ledger.
        results: where shards lie.
        log: JSON lines, written as shards are done. Shards that it tells sound are not read again.
        readers: how many shards are read at a time.

    Raises:
        BadInput: the log is no log of this command.
    """
    sound = _open_log(log) if log else set()
    waiting = [shard for shard in read_committed_shards(engine) if (shard.shard_key, shard.shard_sha256) not in sound]
    segments = read_shard_segments(engine)  # after the shards: of one that is committed in between, nothing is asked

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
    """The shards that an earlier run found sound. A last line that the end of that run cut off is taken out again."""
    if not log.exists():
        return set()
    whole, newline, _ = log.read_bytes().rpartition(b"\n")
    try:
        told = [Verified(**json.loads(line)) for line in whole.splitlines()]
    except (TypeError, ValueError):
        raise BadInput(f"{log} is no log of `vfleet shards verify`: name another file") from None
    with log.open("r+b") as file:
        file.truncate(len(whole + newline))
    return {(verified.key, verified.sha256) for verified in told if verified.problem is None}


def _append(log: Path, verified: Verified) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(verified)) + "\n")
