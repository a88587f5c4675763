"""From a chunk's rows to a shard and its manifest in the results store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from obstore.store import ObjectStore

from validation.domain import Seconds, ShardReceipt
from validation.models.base import Scorer
from validation.models.rows import Row
from validation.models.suite import batching_policy
from validation.shards.manifest import ShardManifest, describe_shard
from validation.shards.naming import manifest_key, shard_key
from validation.shards.schema import ShardProvenance, shard_schema
from validation.shards.writer import encode_shard
from validation.storage.errors import ObjectExists
from validation.storage.store import get_bytes, put_once
from validation.worker.chunk.runner import ChunkRunner
from validation.worker.chunk.subset import PARTIAL


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A shard as bytes, not yet or already uploaded."""

    payload: bytes
    manifest: ShardManifest
    manifest_key: str
    receipt: ShardReceipt


def encode_chunk(work: ChunkRunner, scorer: Scorer, *, flow_run_id: UUID | None) -> EncodedShard:
    """Encode all rows of a chunk and describe them."""
    claim = work.claim
    rows = [row for video_rows in work.rows.values() for row in video_rows]
    provenance = ShardProvenance(
        suite=scorer.name,
        model_revisions=dict(scorer.revisions),
        rules_version=scorer.rules.version,
        chunk_id=claim.chunk_id,
        worker_id=claim.worker_id,
        flow_run_id=flow_run_id,
        policy=batching_policy(scorer.name),
    )
    payload = encode_shard(rows, shard_schema(scorer.columns), provenance)
    manifest = describe_shard(
        payload,
        shard_key(claim.worker_id, claim.shard_number),
        provenance,
        rows=rows,
        videos=claim.videos,
        failed=work.failures.values(),
    )
    receipt = manifest.receipt
    if scorer.rules is not PARTIAL:  # whose hours were counted before, and whose verdicts are none
        receipt = replace(receipt, audio_s=sum_audio_s(rows), verdicts=count_verdicts(rows))
    return EncodedShard(payload, manifest, manifest_key(claim.worker_id, claim.shard_number), receipt)


def sum_audio_s(rows: Sequence[Row]) -> Seconds:
    """Seconds of audio that was heard: a segment that could not be decoded has none."""
    return sum(row["duration_s"] for row in rows if isinstance(row["duration_s"], float))


def count_verdicts(rows: Sequence[Row]) -> Mapping[str, int]:
    """Segments by verdict, all three named."""
    return {"accept": 0, "review": 0, "reject": 0} | Counter(str(row["verdict"]) for row in rows)


def upload_shard(store: ObjectStore, shard: EncodedShard) -> None:
    """Write shard and manifest once. An upload whose answer was lost is found again and accepted.

    Raises:
        ObjectExists: another shard lies under this name; nothing was overwritten.
    """
    for key, payload in (
        (shard.manifest.key, shard.payload),
        (shard.manifest_key, shard.manifest.to_json()),
    ):
        try:
            put_once(store, key, payload)
        except ObjectExists:
            if get_bytes(store, key) != payload:
                raise
