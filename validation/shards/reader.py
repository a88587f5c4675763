"""Read shards as polars frames, and verify that a stored shard is the one that was committed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from validation.domain import ColumnType
from validation.errors import BadInput
from validation.scoring.signals import DERIVED_SIGNALS
from validation.shards.errors import ShardCorrupt
from validation.shards.format_rules import find_broken_rule
from validation.shards.manifest import ShardManifest
from validation.shards.schema import AUDIO_PLACE, METADATA_KEY, PROVENANCE_JSON, SCHEMA_VERSION, ShardProvenance
from validation.storage.store import hidden_aws_variables


def read_shard(source: bytes | Path) -> pl.DataFrame:
    """Read one whole shard of any schema version, from its bytes or from a local file."""
    return _add_missing(pl.read_parquet(BytesIO(source) if isinstance(source, bytes) else source).lazy()).collect()


def scan_shards(uris: Sequence[str], storage_options: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Open shards of one suite and schema version as one lazy frame; of the first shard the schema is read.

    Columns that a later schema version added are null.

    Args:
        uris: from the ledger's committed chunks, never from a listing: ``s3://...`` or local paths.
        storage_options: credentials and endpoint, as ``polars.scan_parquet`` takes them.

    Raises:
        BadInput: there are no shards to open.
    """
    if not uris:
        raise BadInput("there is no committed shard to read")
    with hidden_aws_variables():  # reading the schema makes polars' client
        return _add_missing(
            pl.scan_parquet(list(uris), storage_options=dict(storage_options) if storage_options else None)
        )


def read_provenance(payload: bytes, key: str) -> ShardProvenance:
    """Read a shard's provenance; ``key`` names the shard in errors.

    Raises:
        ShardCorrupt: the bytes are not a parquet file, not a shard, or of a newer schema version than this code's.
    """
    return _parse_provenance(pa.BufferReader(payload), key)


def read_file_provenance(path: Path) -> ShardProvenance:
    """Read the provenance of a local file from its footer alone. Raises as ``read_provenance`` does."""
    return _parse_provenance(path, str(path))


def is_shard(path: Path) -> bool:
    """Whether a local file is a parquet file with the metadata of a shard, of any schema version."""
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False


def verify_shard(payload: bytes, manifest: ShardManifest) -> None:
    """Compare a shard's bytes with its manifest: size, hash, rows, provenance, videos and their segments.

    Args:
        payload: the parquet file, as read from ``manifest.key``.
        manifest: compare its ``sha256`` with the ledger's first; a manifest alone proves nothing.

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
    check("broken rule of the format", None, find_broken_rule(read_shard(payload)))
    check("segments by video", {v.video_id: v.segments for v in manifest.videos}, dict(Counter(video_ids)))


MODEL_COLUMNS_OF_2 = {
    "whisper": ("whisper_align_stretch",),
    "silero": ("silero_lead_s", "silero_tail_s", "silero_pause_s"),
    "conformer": (
        "conformer_greedy_tok",
        "conformer_align_window",
        "conformer_first_token_s",
        "conformer_last_token_s",
    ),
}
"""Model -> its columns, all of floats, that schema version 2 added."""
POLARS_TYPES: Mapping[ColumnType, type[pl.DataType]] = {
    "float": pl.Float64,
    "int": pl.Int64,
    "str": pl.String,
    "bool": pl.Boolean,
}


def _add_missing(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Add the columns that a shard of an earlier schema version lacks, as nulls, each after the column before it."""
    names = frame.collect_schema().names()
    own, derived = set(names), [column.name for column in DERIVED_SIGNALS]
    if "margin" in own or not {"verdict", derived[0]} <= own:
        return frame
    models = [name for model, added in MODEL_COLUMNS_OF_2.items() if f"{model}_fault" in own for name in added]
    for name, before in zip(derived[1:], derived, strict=False):
        if name not in own:
            names.insert(names.index(before) + 1, name)
    for name in models:
        if name not in own:
            names.insert(names.index(f"{name.partition('_')[0]}_fault"), name)
    names.insert(names.index("verdict") + 1, "margin")
    if "end_s" in own:
        start = names.index("end_s") + 1
        names[start:start] = [column.name for column in AUDIO_PLACE if column.name not in own]
    kinds = {column.name: POLARS_TYPES[column.type] for column in (*AUDIO_PLACE, *DERIVED_SIGNALS)}
    missing = [pl.lit(None, kinds.get(name, pl.Float64)).alias(name) for name in names if name not in own]
    return frame.with_columns(missing).select(names)


def _parse_provenance(source: pa.BufferReader | Path, key: str) -> ShardProvenance:
    try:
        metadata = pq.read_schema(source).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:  # OSError: a footer that is damaged inside
        raise ShardCorrupt(key, "content", expected="a parquet file", found=str(error)) from None
    try:
        provenance = PROVENANCE_JSON.validate_json(metadata.get(METADATA_KEY, b""))
    except ValidationError:
        raise ShardCorrupt(key, "provenance", expected="a shard's", found=metadata.get(METADATA_KEY)) from None
    if provenance.schema_version > SCHEMA_VERSION:
        known = f"at most {SCHEMA_VERSION}"
        raise ShardCorrupt(key, "schema version", expected=known, found=provenance.schema_version)
    return provenance
