"""Whether a stored shard is the one that was committed."""

from collections import Counter
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq

from validation.shards.faults import ShardCorrupt
from validation.shards.manifest import ShardManifest
from validation.shards.reader import read_provenance


def verify_shard(payload: bytes, manifest: ShardManifest) -> None:
    """Compare a shard's bytes with its manifest: size, hash, rows, provenance, videos and their segments.

    Args:
        payload: the parquet file, as read from ``manifest.key``.
        manifest: compare its ``sha256`` with the ledger's first; the manifest vouches for nothing by itself.

    Raises:
        ShardCorrupt: names the key, the first fact that differs, and both its values.
    """

    def check(fact: str, expected: object, found: object) -> None:
        if expected != found:
            raise ShardCorrupt(manifest.key, fact, expected=expected, found=found)

    check("size in bytes", manifest.size_bytes, len(payload))
    check("sha256", manifest.sha256, sha256(payload).hexdigest())
    check("provenance", manifest.provenance, read_provenance(payload, manifest.key))
    video_ids = pq.read_table(pa.BufferReader(payload), columns=["video_id"])["video_id"].to_pylist()
    check("rows", manifest.rows, len(video_ids))
    check("segments by video", {v.video_id: v.segments for v in manifest.videos}, dict(Counter(video_ids)))
