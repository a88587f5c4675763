"""Compare the answers of the page with the answers that the same segments had at an earlier revision."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from validation.analysis.explore.database import MEMORY_LIMIT, fetch_dicts
from validation.analysis.explore.queries import Row
from validation.analysis.explore.sql import RuleSql, literal, quote_name
from validation.scoring.verdict import Rules

_NOT_COMPARED = frozenset({"fired", "worker", "day", "stored_verdict", "stored_reasons", "stored_margin"})
"""Columns that do not belong to the answers of models."""


class RevisionChange(NamedTuple):
    """Number and hours of the segments with one pair of verdicts. Both verdicts are by the same rules."""

    earlier: str
    now: str
    segments: int
    hours: float


class Difference(NamedTuple):
    """A column of one segment whose value differs between the two states of the results."""

    column: str
    earlier: Any
    now: Any


class RevisionComparison:
    """A comparison of two states of the results: ``earlier``, at an earlier revision, and ``now``, as on the page.

    Threads may share one instance.
    """

    def __init__(self, revision: str, earlier: Path, now: Path) -> None:
        """Open both files read-only.

        Args:
            revision: the name of the earlier revision.
            earlier: the file with the segments as they were at that revision.
            now: the file with the segments of the page.
        """
        self.revision = revision
        self._database = duckdb.connect(config={"memory_limit": MEMORY_LIMIT})
        for name, path in (("earlier", earlier), ("now", now)):
            self._database.execute(f"ATTACH {literal(str(path))} AS {name} (READ_ONLY)")
        self._database.execute("SET enable_external_access = false")
        self._columns = [_columns_of(self._database, name) for name in ("earlier", "now")]

    def close(self) -> None:
        self._database.close()

    def count_changes(self, rules: Rules) -> list[RevisionChange]:
        """Count the segments that both states have, per pair of verdicts by ``rules``."""
        found = self._run(
            f"SELECT earlier, now, count(*), coalesce(sum(duration_s), 0) / 3600 FROM ({self._joined(rules)}) "  # noqa: S608 - quoted
            "GROUP BY earlier, now ORDER BY earlier, now"
        ).fetchall()
        return [RevisionChange(*row) for row in found]

    def find_changed(self, rules: Rules, limit: int = 200) -> list[Row]:
        """Return at most ``limit`` segments whose verdict or heard text differs between the states.

        Segments with different verdicts come first.
        """
        texts = [name for name in self._columns[0] if name.endswith("_text") and name in self._columns[1]]
        differs = " OR ".join(
            [
                "earlier <> now",
                *(f"{_name('earlier', name)} IS DISTINCT FROM {_name('now', name)}" for name in texts),
            ]
        )
        found = self._run(
            f"SELECT * EXCLUDE duration_s FROM ({self._joined(rules, texts)}) WHERE {differs} "  # noqa: S608 - quoted
            f"ORDER BY earlier = now, video_id, segment_index LIMIT {limit}"
        )
        return fetch_dicts(found)

    def find_differences(self, row: Row) -> Iterator[Difference] | None:
        """Compare one segment of the page with the earlier revision; None if that revision has no answer for it."""
        query = self._run(
            f"SELECT * FROM earlier.segments WHERE video_id = {literal(row['video_id'])} "  # noqa: S608 - quoted
            f"AND segment_index = {int(row['segment_index'])}"
        )
        found = fetch_dicts(query)
        return _compare(found[0], row) if found else None

    def _joined(self, rules: Rules, texts: list[str] | None = None) -> str:
        """Return a query of the segments that both states have, with both verdicts, and both values of ``texts``."""
        verdict = RuleSql(rules).verdict
        shown = [f"e.{quote_name(name)} AS {_name('earlier', name)}" for name in texts or ()]
        shown += [f"s.{quote_name(name)} AS {_name('now', name)}" for name in texts or ()]
        return (
            f"SELECT s.video_id, s.segment_index, s.lang, s.duration_s, e.verdict AS earlier, s.verdict AS now, "  # noqa: S608 - quoted
            f"{', '.join(['s.text', *shown])} FROM (SELECT *, {verdict} AS verdict FROM now.segments) s "
            f"JOIN (SELECT *, {verdict} AS verdict FROM earlier.segments) e "
            "ON e.video_id = s.video_id AND e.segment_index = s.segment_index"
        )

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        return self._database.cursor().execute(sql)


def _name(state: str, column: str) -> str:
    """Return the quoted name of a column's value in one of the two states."""
    return quote_name(f"{column} {state}")


def _columns_of(database: duckdb.DuckDBPyConnection, state: str) -> list[str]:
    """Return the columns of the segments in one of the two states."""
    return [row[0] for row in database.execute(f"DESCRIBE {state}.segments").fetchall()]


def _compare(earlier: Mapping[str, Any], now: Row) -> Iterator[Difference]:
    """Yield the columns whose values differ between two rows of one segment."""
    for name, value in now.items():
        if name in earlier and name not in _NOT_COMPARED and earlier[name] != value:
            yield Difference(name, earlier[name], value)
