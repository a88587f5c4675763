"""Shards as polars frames."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from validation.errors import BadInput
from validation.shards.faults import ShardCorrupt
from validation.shards.provenance import METADATA_KEY, PROVENANCE_JSON, ShardProvenance
from validation.shards.schema import SCHEMA_VERSION


def read_shard(source: bytes | Path) -> pl.DataFrame:
    """Read one whole shard, from its bytes or from a local file."""
    return pl.read_parquet(BytesIO(source) if isinstance(source, bytes) else source)


def scan_shards(uris: Sequence[str], storage_options: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Open the shards of one suite as one lazy frame; nothing is read before it is collected.

    Args:
        uris: from the ledger's committed chunks, never from a listing: ``s3://...`` or local paths.
        storage_options: credentials and endpoint, as ``polars.scan_parquet`` takes them.

    Raises:
        BadInput: there are no shards to open.
    """
    if not uris:
        raise BadInput("there is no committed shard to read")
    return pl.scan_parquet(list(uris), storage_options=dict(storage_options) if storage_options else None)


def read_provenance(payload: bytes, key: str) -> ShardProvenance:
    """Read who made a shard, and with what; ``key`` names it in errors.

    Raises:
        ShardCorrupt: the bytes are not a parquet file, not a shard, or of a newer format than this code's.
    """
    return _parse_provenance(pa.BufferReader(payload), key)


def read_file_provenance(path: Path) -> ShardProvenance:
    """Read the same of a local file, from its footer alone. Raises as ``read_provenance`` does."""
    return _parse_provenance(path, str(path))


def _parse_provenance(source: pa.BufferReader | Path, key: str) -> ShardProvenance:
    try:
        metadata = pq.read_schema(source).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:  # OSError: of a footer that is damaged inside
        raise ShardCorrupt(key, "content", expected="a parquet file", found=str(error)) from None
    try:
        provenance = PROVENANCE_JSON.validate_json(metadata.get(METADATA_KEY, b""))
    except ValidationError:
        raise ShardCorrupt(key, "provenance", expected="a shard's", found=metadata.get(METADATA_KEY)) from None
    if provenance.schema_version > SCHEMA_VERSION:
        known = f"at most {SCHEMA_VERSION}"
        raise ShardCorrupt(key, "schema version", expected=known, found=provenance.schema_version)
    return provenance
