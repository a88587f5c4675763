"""What a chunk left in the ledger and in the results bucket."""

from tests.support.ledger_helpers import fetch
from validation.storage.store import list_keys


def attempts(engine) -> set[int]:
    """The attempt counts that occur in the queue."""
    return {n for (n,) in fetch(engine, "SELECT validation_attempts FROM video_queue")}


def shard_keys(box) -> list[str]:
    """The keys of all objects below `shards`, sorted."""
    return sorted(list_keys(box.context.results, "shards"))
