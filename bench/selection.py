"""Compare the CPU time and memory of `vfleet select` and of plain DuckDB, for the same query on shards of random data.

    python bench/selection.py --rows 1000000 5000000

Both programs read every shard, count the verdicts by language, and write the accepted segments as parquet. Their
results must be equal, or the script stops before it prints times.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
from explore import make_column

from validation.analysis.explore.sql import RuleSql
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
MEMORY_LIMIT = "1GB"


@dataclass(frozen=True, slots=True)
class Run:
    """The CPU time, wall time and peak memory of a process."""

    cpu_s: float
    wall_s: float
    peak_gb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, help="Keep the shards here.")
    parser.add_argument("--plain", nargs=2, metavar=("FOLDER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        select_plainly(*options.plain)
        return
    with tempfile.TemporaryDirectory() as kept:
        for rows in options.rows:
            compare((options.folder or Path(kept)) / str(rows), rows)


def compare(folder: Path, rows: int) -> None:
    """Run both programs, compare their results, and print their times and memory."""
    if not folder.exists():
        make_shards(folder, rows)
    ours, plain = folder.with_name(f"{rows}-ours.parquet"), folder.with_name(f"{rows}-plain.parquet")
    vfleet = [sys.executable, "-m", "validation.cli", "select", str(ours), "--shards", str(folder), "--suite", "local"]
    of_plain = measure([sys.executable, __file__, "--plain", str(folder), str(plain)])
    of_ours = measure([*vfleet, "--rules", RULES])
    check_equal(ours, plain)
    for name, run in (("vfleet select", of_ours), ("plain DuckDB", of_plain)):
        print(f"{rows:>12,} rows  {name:14} {run.cpu_s:7.1f} CPU-s {run.wall_s:7.1f} s {run.peak_gb:6.2f} GB")
    print(f"{rows:>12,} rows  ratio of CPU {of_ours.cpu_s / of_plain.cpu_s:.2f}", flush=True)


def measure(command: Sequence[str]) -> Run:
    """Run a process and measure it. The peak is that of resident memory, in GB."""
    started = time.perf_counter()
    environment = os.environ | {"DATABASE_URL": "", "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1e6)


def select_plainly(folder: str, out: str) -> None:
    """Run the same query in DuckDB, with the rules as SQL and without checking the shards."""
    sql = RuleSql(load_rules(RULES))
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(Path(out).parent)}) as database:
        database.execute("SET preserve_insertion_order = false")
        shards = f"read_parquet('{folder}/**/*.parquet')"
        database.execute(
            f"SELECT language_code, {sql.verdict} AS decided, count(*), sum(duration_s) FROM {shards} GROUP BY ALL"
        ).fetchall()
        database.execute(
            f"COPY (SELECT * REPLACE ({sql.verdict} AS verdict) FROM {shards} WHERE {sql.verdict} = 'accept') "
            f"TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
        )


def check_equal(ours: Path, plain: Path) -> None:
    """Exit with an error if the two programs selected different segments."""
    with duckdb.connect() as database:
        keys = "SELECT count(*), bit_xor(hash(video_id, segment_index, duration_s, verdict)) FROM read_parquet(?)"
        one, other = (database.execute(keys, [str(path)]).fetchone() for path in (ours, plain))
    if one != other:
        raise SystemExit(f"the arms differ: {one} and {other}")


def make_shards(folder: Path, rows: int) -> None:
    """Write shards of the suite `local` with random signals, and their manifests."""
    models = {}
    for name, where in SUITES["local"].models.items():
        module, _, cls = where.partition(":")
        models[name] = getattr(import_module(module), cls).columns
    schema = shard_schema(models)
    with duckdb.connect() as database:
        for number in range(-(-rows // SHARD_ROWS)):
            first = number * SHARD_ROWS
            columns = ", ".join(f'{_column(field)} AS "{field.name}"' for field in schema)
            query = f"SELECT {columns} FROM range({first}, {min(first + SHARD_ROWS, rows)}) t(i)"
            table = database.sql(query).to_arrow_table().cast(schema)
            _write(folder, number, table)


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


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
