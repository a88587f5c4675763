"""Encode the rows of a chunk as a shard with its manifest, and upload both to the results store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from obstore.store import ObjectStore

from validation.domain import Seconds, ShardReceipt
from validation.models.scorer import SUBSET_RULES, Row, Scorer
from validation.models.suites import cascade_name_of
from validation.shards.manifest import ShardManifest, describe_shard
from validation.shards.naming import manifest_key, shard_key
from validation.shards.schema import ShardProvenance, shard_schema
from validation.shards.writer import encode_shard
from validation.storage.errors import ObjectExists
from validation.storage.store import delete_object, get_bytes, put_if_absent
from validation.worker.chunk.runner import ChunkRunner


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A shard as bytes, with its manifest and receipt."""

    payload: bytes
    manifest: ShardManifest
    manifest_key: str
    receipt: ShardReceipt


def encode_chunk(runner: ChunkRunner, scorer: Scorer, *, flow_run_id: UUID | None) -> EncodedShard:
    """Encode all rows of a chunk, and describe them in a manifest."""
    claim = runner.claim
    rows = [row for video_rows in runner.rows.values() for row in video_rows]
    provenance = ShardProvenance(
        suite=scorer.name,
        model_revisions=dict(scorer.revisions),
        rules_version=scorer.rules.version,
        chunk_id=claim.chunk_id,
        worker_id=claim.worker_id,
        flow_run_id=flow_run_id,
        policy=cascade_name_of(scorer.name),
    )
    payload = encode_shard(rows, shard_schema(scorer.columns), provenance)
    manifest = describe_shard(
        payload,
        shard_key(claim.worker_id, claim.shard_number),
        provenance,
        rows=rows,
        videos=claim.videos,
        failed=runner.failures.values(),
    )
    receipt = manifest.receipt
    if scorer.rules is not SUBSET_RULES:  # else an earlier shard counted the audio and the verdicts
        receipt = replace(receipt, audio_s=sum_audio_s(rows), verdicts=count_verdicts(rows))
    return EncodedShard(payload, manifest, manifest_key(claim.worker_id, claim.shard_number), receipt)


def sum_audio_s(rows: Sequence[Row]) -> Seconds:
    """Return the total length of the decoded audio in seconds; a segment that could not be decoded counts as 0."""
    return sum(row["duration_s"] for row in rows if isinstance(row["duration_s"], float))


def count_verdicts(rows: Sequence[Row]) -> Mapping[str, int]:
    """Return the number of segments per verdict; all three verdicts are present."""
    return {"accept": 0, "review": 0, "reject": 0} | Counter(str(row["verdict"]) for row in rows)


def upload_shard(store: ObjectStore, shard: EncodedShard) -> None:
    """Upload a shard and its manifest without overwriting. An earlier upload of the same bytes is accepted.

    Raises:
        ObjectExists: one of the keys holds other bytes. Nothing was overwritten, and this shard is not in the store.
    """
    _put_or_accept(store, shard.manifest.key, shard.payload)
    try:
        _put_or_accept(store, shard.manifest_key, shard.manifest.to_json())
    except ObjectExists:
        delete_object(store, shard.manifest.key)
        raise


def _put_or_accept(store: ObjectStore, key: str, payload: bytes) -> None:
    """Write an object; accept an existing object with the same bytes, else raise ``ObjectExists``."""
    try:
        put_if_absent(store, key, payload)
    except ObjectExists:
        if get_bytes(store, key) != payload:
            raise
