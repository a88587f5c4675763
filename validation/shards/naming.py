"""The object keys of shards and manifests in the results bucket."""

import re
from uuid import UUID

from validation.errors import BadInput

_WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHARD_KEY = re.compile(r"shards/(?P<worker>[^/]+)/validation_(?P=worker)_shard_(?P<number>[0-9]{4,9})\.parquet")


def shard_key(worker_id: str, number: int) -> str:
    """Return the key of the parquet file for a worker's chunk. ``number`` counts the chunks of the worker from 1.

    Raises:
        BadInput: the worker id has a character other than letters, digits, ``.``, ``_`` and ``-``, or does not begin
            with a letter or digit.
    """
    return f"{_stem(worker_id, number)}.parquet"


def manifest_key(worker_id: str, number: int) -> str:
    """Return the key of the manifest beside the file of ``shard_key``. Raises as ``shard_key`` does."""
    return f"{_stem(worker_id, number)}.manifest.json"


def shard_folder(worker_id: str) -> str:
    """Return the folder of a worker's shards, the only one that the worker writes to. Raises as ``shard_key`` does."""
    if not _WORKER_ID.fullmatch(worker_id):
        raise BadInput(
            f"worker id {worker_id!r} cannot name a shard: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return f"shards/{worker_id}"


def compacted_key(suite: str, merge_id: UUID) -> str:
    """Return the key of a shard that compaction wrote. Each merge has a new random id, so that keys never collide."""
    return f"shards/compacted/validation_{suite}_{merge_id.hex}.parquet"


def parse_shard_key(key: str) -> tuple[str, int] | None:
    """Return the worker id and the shard number in the key of a worker's shard; None for any other key."""
    match = _SHARD_KEY.fullmatch(key)
    return (match["worker"], int(match["number"])) if match else None


def manifest_key_of(shard_key: str) -> str:
    """Return the key of a shard's manifest, from the key of its parquet file."""
    return f"{shard_key.removesuffix('.parquet')}.manifest.json"


def _stem(worker_id: str, number: int) -> str:
    """Return the common part of the keys of a shard and its manifest."""
    return f"{shard_folder(worker_id)}/validation_{worker_id}_shard_{number:04d}"
