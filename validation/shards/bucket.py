"""A shard and its manifest in the results bucket: read and delete the two together."""

from obstore.store import ObjectStore

from validation.shards.manifest import ShardManifest
from validation.shards.naming import parse_shard_key, shard_folder, sibling_key
from validation.storage.store import delete_object, get_bytes, list_keys


def read_manifest(results: ObjectStore, shard_key: str) -> ShardManifest:
    """The manifest of a shard.

    Raises:
        ObjectMissing: there is none.
        ShardCorrupt: it is no manifest.
    """
    return ShardManifest.from_json(get_bytes(results, sibling_key(shard_key)), sibling_key(shard_key))


def highest_shard_number(results: ObjectStore, worker_id: str) -> int:
    """The highest number of a worker's shards in the bucket, committed or not; 0 if there are none."""
    found = (parse_shard_key(key) for key in list_keys(results, shard_folder(worker_id)))
    return max((number for worker, number in filter(None, found) if worker == worker_id), default=0)


def delete_shard(results: ObjectStore, shard_key: str) -> None:
    """Delete a shard, its manifest first, which must not outlive it. Deleting it again does nothing."""
    delete_object(results, sibling_key(shard_key))
    delete_object(results, shard_key)
