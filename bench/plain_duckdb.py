"""The questions of `vfleet select`, `report` and `calibrate` and of compaction, asked in plain DuckDB.

The rules are SQL, and no shard is checked against the format. DuckDB has a memory limit of ``MEMORY_LIMIT``.
"""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
from result_shards import RULES

from validation.analysis.explore.sql import RuleSql, fired_sql, quote_name
from validation.analysis.report.signals import BINS, NOT_SHOWN, SAMPLE_ROWS
from validation.calibration.language_limits import list_conditions
from validation.scoring.rules_io import load_rules

MEMORY_LIMIT = "1GB"
LANGUAGE = "coalesce(language_code, language, 'unknown')"
TARGET_BYTES = 64 << 20


@contextmanager
def open_duckdb(folder: Path):
    """Open an in-memory database that writes what exceeds its memory to ``folder``."""
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(folder)}) as database:
        database.execute("SET preserve_insertion_order = false")
        yield database


def select(shards: Path, out: Path) -> None:
    """Count the verdicts by language, and write the accepted segments."""
    verdict = RuleSql(load_rules(RULES)).verdict
    with open_duckdb(out.parent) as database:
        rows = f"read_parquet('{shards}/**/*.parquet')"
        database.execute(
            f"SELECT {LANGUAGE}, {verdict} AS decided, count(*), sum(duration_s) FROM {rows} GROUP BY ALL"
        ).fetchall()
        database.execute(
            f"COPY (SELECT * REPLACE ({verdict} AS verdict) FROM {rows} WHERE {verdict} = 'accept') "
            f"TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
        )


def report(shards: Path, out: Path) -> None:
    """Count what the report shows, but do not look for the worst and the borderline segments.

    The file ``out`` holds the signals of the report's own arm, so that both arms count the same bins. The answers are
    written to a file beside ``out``.
    """
    rules = load_rules(RULES)
    signals = json.loads(out.read_text())["signals"]
    with open_duckdb(out.parent) as database:
        database.execute(
            f"CREATE VIEW segments AS SELECT *, {LANGUAGE} AS lang, {RuleSql(rules).verdict} AS decided, "
            f"{fired_sql(rules.effective)} AS fired FROM read_parquet('{shards}/**/*.parquet')"
        )
        _sample_ranges(database)
        answers = {
            "fired": database.execute(
                "SELECT lang, decided, fired, count(*), sum(duration_s) FROM segments GROUP BY ALL"
            ).fetchall(),
            "bins": _count_bins(database, signals),
            "votes": _count_votes(database),
            "correlations": _correlate(database, [name for name, *_ in signals if name in rules.columns]),
        }
    out.with_suffix(".plain.json").write_text(json.dumps(answers))


def _sample_ranges(database: duckdb.DuckDBPyConnection) -> None:
    rows = database.execute("SELECT count(*) FROM segments").fetchall()[0][0]
    kinds = database.execute("DESCRIBE segments").fetchall()
    names = [name for name, kind, *_ in kinds if kind in {"DOUBLE", "BIGINT"} and name not in {*NOT_SHOWN, "fired"}]
    quantiles = ", ".join(f"quantile_cont({quote_name(name)}, [0.01, 0.5, 0.99])" for name in names)
    one_in = max(rows // SAMPLE_ROWS, 1)
    database.execute(f"SELECT {quantiles} FROM segments WHERE hash(video_id) % {one_in} = 0").fetchall()


def _count_bins(database: duckdb.DuckDBPyConnection, signals: Sequence[tuple[str, float, float]]) -> list[Any]:
    """Count the bins of all signals in one pass."""
    bins = []
    for name, low, high in signals:
        place = f"floor(({quote_name(name)} - {low!r}::DOUBLE) / {high - low!r}::DOUBLE * {BINS})"
        bins.append(f"histogram(CAST(least(greatest({place}, 0), {BINS - 1}) AS INT))")
    rows = database.execute(f"SELECT lang, decided, {', '.join(bins)} FROM segments GROUP BY ALL").fetchall()
    return [
        (name, lang, decided, place, count)
        for lang, decided, *found in rows
        for (name, *_), counts in zip(signals, found, strict=True)
        for place, count in (counts or {}).items()
    ]


def _count_votes(database: duckdb.DuckDBPyConnection) -> list[Any]:
    """Count the votes of the only LID model of the suite, and its confusions."""
    database.execute(
        "SELECT language_code, whisper_language, count(*) FROM segments WHERE whisper_declared_p IS NOT NULL "
        "AND whisper_language <> language_code GROUP BY ALL"
    ).fetchall()
    voted = "whisper_fault IS NULL AND whisper_declared_p IS NOT NULL"
    return database.execute(
        f"SELECT lang, count(*) FILTER ({voted} AND whisper_language = language_code), "
        f"count(*) FILTER ({voted} AND whisper_language <> language_code) FROM segments GROUP BY lang"
    ).fetchall()


def _correlate(database: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[float | None]:
    pairs = ", ".join(f"corr({quote_name(y)}, {quote_name(x)})" for x, y in combinations(names, 2))
    return list(database.execute(f"SELECT {pairs} FROM segments").fetchall()[0])


def calibrate(shards: Path, out: Path) -> None:
    """Compute the quantiles of which the limits by language are made, without swapping transcripts."""
    answers = []
    with open_duckdb(out.parent) as database:
        rows = f"(SELECT * FROM read_parquet('{shards}/**/*.parquet') WHERE fault IS NULL)"
        names = [name for name, *_ in database.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()]
        for _, condition in list_conditions(load_rules(RULES), names):
            share = 0.01 if condition.op[0] == "<" else 0.99
            column = quote_name(condition.column)
            found = database.execute(
                f"SELECT language_code, count({column}), quantile_cont({column}, {share}) FROM {rows} "
                f"WHERE {column} IS NOT NULL AND language_code IS NOT NULL GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            answers += [(condition.column, *row) for row in found]
    out.write_text(json.dumps(answers))


def compact(shards: Path, out: Path) -> None:
    """Merge shards into sorted files of about ``TARGET_BYTES``."""
    group: list[Path] = []
    paths = sorted(shards.glob("**/*.parquet"))
    out.mkdir()
    with open_duckdb(out.parent) as database:
        for number, path in enumerate(paths):
            group.append(path)
            if sum(each.stat().st_size for each in group) < TARGET_BYTES and path != paths[-1]:
                continue
            listed = ", ".join(f"'{each}'" for each in group)
            database.execute(
                f"COPY (SELECT * FROM read_parquet([{listed}]) ORDER BY video_id, segment_index) "
                f"TO '{out / str(number)}.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
            group = []
