"""A shard and its manifest in the results bucket: read and delete the two together."""

from obstore.store import ObjectStore

from validation.shards.manifest import ShardManifest
from validation.shards.naming import sibling_key
from validation.storage.store import delete_object, get_bytes


def read_manifest(results: ObjectStore, shard_key: str) -> ShardManifest:
    """The manifest of a shard.

    Raises:
        ObjectMissing: there is none.
        ShardCorrupt: it is no manifest.
    """
    return ShardManifest.from_json(get_bytes(results, sibling_key(shard_key)), sibling_key(shard_key))


def delete_shard(results: ObjectStore, shard_key: str) -> None:
    """Delete a shard, its manifest first, which must not outlive it. Deleting it again does nothing."""
    delete_object(results, sibling_key(shard_key))
    delete_object(results, shard_key)
