"""Measure the time of the queries of `vfleet explore` on a table of random segments, with two threads.

    python bench/explore.py --rows 10000000

The script prints, for each query, the time of its first and of its fastest run, and the memory of the process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import duckdb

from validation.analysis.explore.database import MEMORY_LIMIT, store_fired_rules, write_number_columns
from validation.analysis.explore.queries import SegmentTable
from validation.analysis.explore.sql import Filter
from validation.scoring.rules_io import load_rules
from validation.scoring.verdict import Rules

THREADS = 2
RUNS = 3
TEXTS = {"language", "language_code", "text_normalised", "text"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rules", default="local-3")
    options = parser.parse_args()
    rules = load_rules(options.rules)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "segments.duckdb")
        started = time.perf_counter()
        make_table(path, rules, options.rows)
        print(
            f"{options.rows:,} rows made in {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1e9:.2f} GB"
        )
        started = time.perf_counter()
        store_fired_rules(path, rules)
        print(f"judged by {rules.version} in {time.perf_counter() - started:.1f} s")
        ask(SegmentTable(path, threads=THREADS), rules)
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def make_table(path: Path, rules: Rules, rows: int) -> None:
    """Make a table of segments with random signals, with five languages and 20 segments per video.

    The table has every column that the rules read.
    """
    columns = sorted(rules.columns | {"cer", "duration_s", *TEXTS})
    made = ", ".join(f'{make_column(name)} AS "{name}"' for name in columns)
    with duckdb.connect(path, config={"memory_limit": MEMORY_LIMIT, "threads": THREADS}) as database:
        database.execute(
            "CREATE TABLE segments AS SELECT 'video' || (i // 20) AS video_id, i % 20 AS segment_index, "
            "'segment' || (i % 20) AS segment, CAST(NULL AS VARCHAR) AS speaker, 'val-' || (i % 100) AS worker, "
            "'2026-01-0' || (1 + i % 9) AS day, ['hi', 'ta', 'te', 'bn', 'mr'][1 + i % 5] AS lang, "
            f"CAST(0 AS UBIGINT) AS fired, {made} FROM range({rows}) t(i)"
        )
        write_number_columns(database)
        database.execute("CREATE TABLE judged_by (place INTEGER, rule TEXT)")


def make_column(name: str) -> str:
    if name.endswith("fault"):
        return "CAST(NULL AS VARCHAR)"
    if name in {"language", "language_code"} or name.endswith("_language"):
        return "['hi', 'ta', 'te', 'bn', 'mr'][1 + i % 5]"
    if name.startswith("text"):
        return "'some words of number ' || (i % 1000)"
    if name.startswith("language_votes") or name.endswith("_abstentions"):
        return "CAST(random() * 3 AS BIGINT)"
    scale = {"duration_s": "random() * 20", "rms_dbfs": "-random() * 40", "length_difference_s": "random() * 0.1"}
    return scale.get(name, "1 + random() * 4" if name.startswith("dnsmos") else "random()")


def ask(table: SegmentTable, rules: Rules) -> None:
    brushed = Filter(ranges={"cer": (0.1, 0.3)}, values={"lang": ["hi", "ta"]})
    rejected = Filter(values={"verdict": ["reject"]})
    place = next(n for n, rule in enumerate(rules.rules) if isinstance(rule.when[0].value, float))
    moved = [condition.model_copy(update={"value": 0.3}) for condition in rules.rules[place].when[:1]]
    edited = list(rules.rules)
    edited[place] = edited[place].model_copy(update={"when": (*moved, *edited[place].when[1:])})
    changed = rules.with_rules(edited, "moved")
    sort = [{"colId": "cer", "sort": "desc"}]
    questions = {
        "count a brushed range": lambda: table.count(brushed, rules),
        "count a verdict": lambda: table.count(rejected, rules),
        "one histogram of a brushed range": lambda: table.make_histogram("duration_s", brushed, rules),
        "verdicts of a brushed range": lambda: table.count_values("verdict", brushed, rules),
        "reasons of a brushed range": lambda: table.count_reasons(brushed, rules),
        "50 rows, sorted": lambda: table.find_rows(brushed, rules, sort, 0, 50),
        "50 rows, unsorted": lambda: table.find_rows(brushed, rules, [], 0, 50),
        "hours by language, one limit moved": lambda: table.compare_hours(changed, rules),
        "workers": lambda: table.group("worker", Filter(), rules),
        "one segment": lambda: table.find_segment("video77/3", rules),
    }
    for name, question in questions.items():
        walls, cpus = [], []
        for _ in range(RUNS):
            started, busy = time.perf_counter(), time.process_time()
            question()
            walls.append(time.perf_counter() - started)
            cpus.append(time.process_time() - busy)
        print(f"{name:40} first {walls[0]:5.2f} s, fastest {min(walls):5.2f} s, {min(cpus):5.2f} CPU-s")


if __name__ == "__main__":
    main()
