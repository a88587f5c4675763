"""Make shards of random data, as many as a benchmark needs."""

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
from explore import make_column

from validation.models.suites import SUITES
from validation.scoring.rules_io import load_rules
from validation.shards.manifest import ShardManifest, ShardVideo
from validation.shards.naming import manifest_key_of, shard_key
from validation.shards.schema import ShardProvenance, shard_schema
from validation.shards.writer import encode_table

RULES = "local-3"
SHARD_ROWS = 50_000
"""Rows per shard: about as many as in a shard that compaction writes."""
TYPICAL = load_rules(RULES).typical
VIDEO_ROWS = 20
DIFFERENT_SHARDS = 20
"""Number of shards with random data of their own. The other shards repeat their rows under other video ids."""


def make_shards(folder: Path, rows: int) -> None:
    """Write shards of the suite `local` with random signals, and their manifests."""
    models = {}
    for name, where in SUITES["local"].models.items():
        module, _, cls = where.partition(":")
        models[name] = getattr(import_module(module), cls).columns
    schema = shard_schema(models)
    columns = ", ".join(f'{_column(field)} AS "{field.name}"' for field in schema)
    tables: list[pa.Table] = []
    with duckdb.connect() as database:
        for number in range(-(-rows // SHARD_ROWS)):
            size = min(SHARD_ROWS, rows - number * SHARD_ROWS)
            if number < DIFFERENT_SHARDS:
                query = f"SELECT {columns} FROM range({number * SHARD_ROWS}, {number * SHARD_ROWS + size}) t(i)"
                tables.append(database.sql(query).to_arrow_table().cast(schema))
            _write(folder, number, _rename_videos(tables[number % DIFFERENT_SHARDS][:size], number))


def _rename_videos(table: pa.Table, number: int) -> pa.Table:
    first = number * SHARD_ROWS // VIDEO_ROWS
    ids = pa.array([f"video{first + row // VIDEO_ROWS:09}" for row in range(len(table))], pa.string())
    return table.set_column(0, table.schema.field("video_id"), ids)


def _column(field: pa.Field) -> str:
    name = field.name
    own = {
        "video_id": f"'video' || lpad(CAST(i // {VIDEO_ROWS} AS VARCHAR), 9, '0')",
        "segment_index": f"CAST(i % {VIDEO_ROWS} AS BIGINT)",
        "segment": f"'segments/' || lpad(CAST(i % {VIDEO_ROWS} AS VARCHAR), 6, '0')",
        "verdict": "CASE WHEN i % 3 = 0 THEN 'accept' ELSE 'review' END",
        "reasons": "CASE WHEN i % 3 = 0 THEN [] ELSE ['unsure'] END",
        "speaker": "'S' || (i % 3)",
        "layout": "'pairs'",
        "audio_member": f"'segments/' || lpad(CAST(i % {VIDEO_ROWS} AS VARCHAR), 6, '0') || '.flac'",
        "audio_offset_s": "NULL",
    }
    if name.endswith("text"):
        return "'some words of number ' || (i % 1000) || ' and ' || hash(i)"
    if pa.types.is_string(field.type) or pa.types.is_list(field.type):
        return own.get(name, make_column(name if name.endswith(("fault", "language", "language_code")) else "text"))
    if name in TYPICAL:  # mostly near the median of clean speech; 2 % of the values may be far from it
        return f"{TYPICAL[name]!r} + random() * 0.001 + CASE WHEN random() < 0.02 THEN random() * 20 - 10 ELSE 0 END"
    number = "0.05 * random()" if name == "latin_fraction" else make_column(name)
    return own.get(name, f"CAST({number} * 3 AS BIGINT)" if field.type == pa.int64() else number)


def _write(folder: Path, number: int, table: pa.Table) -> None:
    provenance = ShardProvenance(
        suite="local",
        model_revisions=dict.fromkeys(SUITES["local"].models, "1"),
        rules_version=RULES,
        chunk_id=UUID(int=number),
        worker_id="bench",
        flow_run_id=None,
    )
    payload = encode_table(table, provenance)
    videos = sorted(set(table["video_id"].to_pylist()))
    key = shard_key("bench", number)
    manifest = ShardManifest(
        key=key,
        rows=len(table),
        size_bytes=len(payload),
        sha256=sha256(payload).hexdigest(),
        provenance=provenance,
        videos=tuple(ShardVideo(video, "hi", VIDEO_ROWS, VIDEO_ROWS) for video in videos),
        failed=(),
    )
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    (folder / manifest_key_of(key)).write_bytes(manifest.to_json())
