"""Cache the segments in a local DuckDB file. The file is built once per state of the results."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import ceil, floor
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from validation.analysis.explore.sql import fired_sql, quote_name
from validation.analysis.selection.open import open_segments, scan_errors
from validation.analysis.selection.sources import ShardSource
from validation.analysis.selection.verdicts import LANGUAGE_GROUP
from validation.domain import ColumnType
from validation.errors import BadInput
from validation.files import replace_atomically
from validation.scoring.rules_io import check_columns
from validation.scoring.verdict import Rules
from validation.shards.naming import parse_shard_key

BINS = 60
"""Number of bins of a histogram."""
BATCH_ROWS = 50_000
"""Number of rows that are written to the file at a time."""
MEMORY_LIMIT = "1GB"
"""Memory limit of DuckDB. DuckDB spills data beyond the limit to a temporary folder beside the file."""
_ADD_ORIGIN = (
    "SELECT b.*, o.worker, o.day, CAST(0 AS UBIGINT) AS fired FROM batch b LEFT JOIN origins o USING (video_id)"
)
"""The rows of a batch with the worker and the day of their video, and without fired rules."""
_RULE_TYPES: Mapping[str, ColumnType] = {"DOUBLE": "float", "BIGINT": "int", "VARCHAR": "str", "BOOLEAN": "bool"}
"""The types of columns that rules may read, by DuckDB type."""
_ADDED = frozenset({"lang", "worker", "day", "stored_verdict", "stored_margin"})
"""Columns that rules may not read: columns that shards lack, and the stored verdict and margin."""
_FORMAT = 1
"""Version of the table layout. A new version makes all cached files invalid."""
_KEPT_FILES = 4
"""Number of files that stay in the cache, the newest file included."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A numeric column and statistics of its values."""

    name: str
    low: float
    high: float
    """``low`` and ``high`` are the edges of the histogram: the approximate 0.1 % and 99.9 % quantiles; ``least`` and
    ``most`` if these quantiles are equal."""
    median: float
    least: float
    """The smallest value."""
    most: float
    """The largest value."""

    @property
    def bin_width(self) -> float:
        return (self.high - self.low) / BINS or 1.0

    def snap(self, start: float, end: float) -> tuple[float, float]:
        """Extend a brushed range to whole bins. Return its limits; an outer bin extends to the least or most value."""
        first = floor((start - self.low) / self.bin_width)
        last = ceil((end - self.low) / self.bin_width)
        return (
            self.least if first <= 0 else self.low + first * self.bin_width,
            self.most if last >= BINS else self.low + last * self.bin_width,
        )


def default_cache() -> Path:
    """Return the folder for the user's cached files, according to the XDG Base Directory Specification."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "validation-fleet" / "explore"


def prepare_database(
    source: ShardSource, rules: Rules, cache: Path, report: Callable[[int], None] = lambda _: None
) -> Path:
    """Find the DuckDB file of the current shards in the cache, or build it, and store which rules fire.

    Args:
        source: the shards.
        rules: the rules whose firing is stored in the column ``fired``.
        cache: the folder of the files; after a build, all but the ``_KEPT_FILES`` that were used last are deleted.
        report: a function that is called with the number of rows that are written so far.

    Returns:
        The path of the DuckDB file, with the tables ``segments`` and ``numbers``.

    Raises:
        ShardsUnreadable: a shard is missing or damaged, or the store cannot be read.
        BadInput: the cache cannot be written, or the shards hold no segment.
        BadRules: the rules do not fit the columns (``check_columns``).
    """
    path = cache / f"{source.suite}-{_fingerprint(source)}.duckdb"
    if path.is_file():
        os.utime(path)
        store_fired_rules(path, rules)
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial, scan_errors(source.suite):
            partial.unlink()
            try:
                build_database(partial, open_segments(source), _find_last_validations(source), report)
                store_fired_rules(partial, rules)
            finally:
                for left in (partial.with_name(partial.name + ".wal"), partial.with_name(partial.name + ".tmp")):
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    except (duckdb.IOException, OSError) as error:
        raise BadInput(f"the table of segments cannot be made in {cache}: {error}: set XDG_CACHE_HOME") from None
    _delete_old_files(cache)
    return path


def build_database(
    path: Path, segments: pl.LazyFrame, origins: pl.LazyFrame, report: Callable[[int], None] = lambda _: None
) -> None:
    """Write a DuckDB file with the tables ``segments`` and ``numbers``, and helper tables.

    ``segments`` has every column of the shards, and the columns ``lang``, ``worker``, ``day`` and ``fired``. The
    columns of verdicts are renamed to ``stored_verdict``, ``stored_reasons`` and ``stored_margin``. ``fired`` is 0.

    Args:
        path: the file to create.
        segments: the result of ``open_segments``.
        origins: the columns ``video_id``, ``worker`` and ``day``, one row per video.
        report: a function that is called with the number of rows that are written so far.

    Raises:
        BadInput: the shards hold no segment.
    """
    stored = {name: f"stored_{name}" for name in ("verdict", "reasons", "margin")}
    renamed = segments.rename(stored, strict=False)
    lang = LANGUAGE_GROUP.alias("lang")
    rows = 0
    with duckdb.connect(path, config={"memory_limit": MEMORY_LIMIT, "preserve_insertion_order": "true"}) as database:
        database.register("origins_frame", origins.collect().to_arrow())
        database.execute("CREATE TABLE origins AS SELECT * FROM origins_frame")
        for batch in renamed.with_columns(lang).collect_batches(chunk_size=BATCH_ROWS, engine="streaming"):
            database.register("batch", batch.to_arrow(compat_level=pl.CompatLevel.oldest()))
            verb = "INSERT INTO segments" if rows else "CREATE TABLE segments AS"
            database.execute(f"{verb} {_ADD_ORIGIN}")
            rows += len(batch)
            report(rows)
        if not rows:
            raise BadInput("the shards hold no segment yet: there is nothing to explore")
        write_number_columns(database)
        database.execute("CREATE TABLE judged_by (place INTEGER, rule TEXT)")


def write_number_columns(database: duckdb.DuckDBPyConnection) -> None:
    """Write the table ``numbers``: the fields of ``NumberColumn``, one row per numeric column that has a value."""
    schema = database.execute("DESCRIBE segments").fetchall()
    names = [name for name, kind, *_ in schema if kind in {"DOUBLE", "BIGINT"}]
    database.execute(
        "CREATE TABLE numbers (name TEXT, low DOUBLE, high DOUBLE, median DOUBLE, least DOUBLE, most DOUBLE)"
    )
    for name in names:
        column = quote_name(name)
        found = database.execute(
            f"SELECT approx_quantile({column}, [0.001, 0.999, 0.5]), min({column}), max({column}) FROM segments"  # noqa: S608 - quoted
        ).fetchone()
        if found is None or found[1] is None:
            continue
        (low, high, median), least, most = found
        low, high = (low, high) if low < high else (least, most)
        database.execute(
            "INSERT INTO numbers VALUES (?, ?, ?, ?, ?, ?)", [name, *map(float, (low, high, median, least, most))]
        )


def store_fired_rules(path: Path, rules: Rules) -> None:
    """Store in the column ``fired`` a bit mask of the rules that fire for each segment (``fired_sql``).

    The function does nothing if the column was computed with the same rules, or if another process has the file open.

    Raises:
        BadRules: the rules do not fit the columns (``check_columns``).
    """
    with suppress(duckdb.IOException), duckdb.connect(path, config={"memory_limit": MEMORY_LIMIT}) as database:
        check_columns(rules, rule_columns(columns_of(database)))
        described = [rule.model_dump_json() for rule in rules.effective]
        known = [row[0] for row in database.execute("SELECT rule FROM judged_by ORDER BY place").fetchall()]
        if known != described:
            database.execute("BEGIN")
            database.execute(f"UPDATE segments SET fired = {fired_sql(rules.effective)}")  # noqa: S608 - quoted
            database.execute("DELETE FROM judged_by")
            database.executemany("INSERT INTO judged_by VALUES (?, ?)", list(enumerate(described)))
            database.execute("COMMIT")


def rule_columns(columns: Mapping[str, str]) -> dict[str, ColumnType]:
    """Return the columns that rules may read, with the type names that rules files use."""
    return {name: _RULE_TYPES[kind] for name, kind in columns.items() if kind in _RULE_TYPES and name not in _ADDED}


def _find_last_validations(source: ShardSource) -> pl.LazyFrame:
    """Return a frame with ``video_id``, ``worker`` and ``day`` of the last validation of each video."""
    frames = [
        pl.scan_parquet(shard.uri, storage_options=_storage_options(source))
        .select(pl.col("video_id").unique())
        .filter(~pl.col("video_id").is_in(list(shard.withheld)))
        .with_columns(worker=pl.lit(_worker_of(shard.uri)), day=pl.lit(shard.day, pl.String))
        for revision in source.revisions
        for shard in revision.shards
    ]
    return pl.concat(frames).unique("video_id", keep="last", maintain_order=True)


def _storage_options(source: ShardSource) -> dict[str, str] | None:
    return dict(source.storage_options) if source.storage_options else None


def _worker_of(uri: str) -> str:
    """Return the worker in a shard's key, or ``compacted`` for a shard that a compaction wrote."""
    key = "shards/" + uri.rpartition("/shards/")[2]
    parsed = parse_shard_key(key)
    return parsed[0] if parsed else "compacted"


def _fingerprint(source: ShardSource) -> str:
    """Return 16 hexadecimal digits that depend on the suite, its models, its shards and the table layout."""
    shards = [(dict(revision.models), [asdict(shard) for shard in revision.shards]) for revision in source.revisions]
    return sha256(repr((_FORMAT, source.suite, shards)).encode()).hexdigest()[:16]


def _delete_old_files(cache: Path) -> None:
    """Delete the files of the cache except the ``_KEPT_FILES`` that were used last."""
    files = sorted(cache.glob("*.duckdb"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[_KEPT_FILES:]:
        with suppress(OSError):
            path.unlink()


def fetch_dicts(cursor: duckdb.DuckDBPyConnection) -> list[Mapping[str, Any]]:
    """Fetch all rows of an executed query, by column."""
    names = [each[0] for each in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def columns_of(database: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
    """Return the columns of the table ``segments`` with their DuckDB types."""
    return {name: kind for name, kind, *_ in database.execute("DESCRIBE segments").fetchall()}
