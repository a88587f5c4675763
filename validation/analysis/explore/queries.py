"""Query the DuckDB table of segments for the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from validation.analysis.explore.database import (
    BINS,
    MEMORY_LIMIT,
    NumberColumn,
    columns_of,
    fetch_dicts,
    rule_columns,
)
from validation.analysis.explore.sql import MAX_BITS, Filter, RuleSql, grid_order, literal, quote_name
from validation.errors import BadInput
from validation.scoring.rules_io import check_columns
from validation.scoring.verdict import Rule, Rules

GROUPS = {"video_id": "video", "speaker": "speaker", "worker": "worker", "day": "day", "lang": "language"}
"""Columns by which the page can group segments, with their labels."""
_NEAR_ROWS = 5_000
"""Maximum span of row ids that one range scan reads. Rows that are farther apart are read one by one."""
_MEDIANS = frozenset({"cer", "rms_dbfs", "chars_per_s"})
"""Columns whose medians ``group`` shows."""
_JUDGED_BY = "SELECT rule FROM judged_by ORDER BY place"
"""The rules whose bits the column ``fired`` holds, from bit 0."""
Row = Mapping[str, Any]


class Totals(NamedTuple):
    """Number and hours of the segments that pass a filter."""

    segments: int
    hours: float


class LanguageHours(NamedTuple):
    """Hours of a language: all, accepted by the rules (``kept``), and accepted by other rules (``kept_before``)."""

    lang: str
    hours: float
    kept: float
    kept_before: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Number of filtered segments per bin of a numeric column. Values beyond the edges count in the outer bins."""

    column: NumberColumn
    counts: list[int]
    of_all: list[int]
    """Number of all segments per bin, without a filter."""


class SegmentTable:
    """Table of segments in a DuckDB file. Threads may share one instance, because every query uses a new cursor."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Open the file read-only. SQL that the user enters cannot read other files."""
        config: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "access_mode": "READ_ONLY"}
        self._database = duckdb.connect(path, config=config | ({"threads": threads} if threads else {}))
        self._database.execute("SET enable_external_access = false")
        self._database.execute("SET lock_configuration = true")
        self.columns = columns_of(self._database)
        self.numbers = {name: NumberColumn(name, *values) for name, *values in self._rows("SELECT * FROM numbers")}
        self._judged_by = [Rule.model_validate_json(row[0]) for row in self._rows(_JUDGED_BY)]
        self._histograms: dict[str, list[int]] = {}

    def close(self) -> None:
        self._database.close()

    def check_rules(self, rules: Rules) -> None:
        """Raise ``BadRules`` if the rules do not fit the columns of the segments, as ``check_columns`` does."""
        check_columns(rules, rule_columns(self.columns))

    def size(self) -> int:
        """Return the number of segments."""
        return int(self._rows("SELECT count(*) FROM segments")[0][0])

    def count(self, chosen: Filter, rules: Rules) -> Totals:
        """Count the segments that pass a filter, and their hours.

        Raises:
            BadInput: the SQL of the filter is invalid. The message contains the reason.
        """
        sql = f"SELECT count(*), coalesce(sum(duration_s), 0) / 3600 FROM {self._judged(rules)} WHERE "  # noqa: S608
        return Totals(*self._rows(sql + self._where(chosen))[0])

    def find_rows(
        self, chosen: Filter, rules: Rules, sort: Sequence[Mapping[str, str]], start: int, end: int
    ) -> list[Row]:
        """Return the filtered, sorted rows from ``start`` to ``end`` (exclusive), with verdict, reasons and margin."""
        found = self._rows(
            f"SELECT id FROM {self._judged(rules)} WHERE {self._where(chosen)}"  # noqa: S608 - names are quoted
            f"{grid_order(sort, [*self.columns, 'verdict'])} LIMIT {int(end) - int(start)} OFFSET {int(start)}"
        )
        if not found:
            return []
        return [self._judge(row, rules) for row in self._read_rows([place for (place,) in found])]

    def find_segment(self, name: str, rules: Rules) -> Row:
        """Return one segment by ``VIDEO/SEGMENT``, where SEGMENT is the name or the index of the segment.

        Raises:
            BadInput: the segment does not exist.
        """
        video_id, _, segment = name.strip().partition("/")
        sql = (
            f"SELECT * FROM {self._judged(rules)} WHERE video_id = {literal(video_id)} "  # noqa: S608 - quoted
            f"AND (segment = {literal(segment)} OR CAST(segment_index AS VARCHAR) = {literal(segment or '0')}) "
            "ORDER BY segment = " + literal(segment) + " DESC LIMIT 1"
        )
        if rows := self._dicts(sql):
            return rows[0]
        held = self._rows(f"SELECT count(*) FROM segments WHERE video_id = {literal(video_id)}")[0][0]  # noqa: S608
        raise BadInput(
            f"video {video_id} has no segment {segment!r}: it has {held}, numbered from 0"
            if held
            else f"no segment is of video {video_id!r}: write VIDEO/SEGMENT"
        )

    def make_histogram(self, name: str, chosen: Filter, rules: Rules) -> Histogram:
        """Count the segments per bin of a numeric column.

        The range and the values that the filter sets for this column are ignored.
        """
        if name not in self._histograms:
            self._histograms[name] = self._count_bins(name, "true", "segments")
        where = self._where(chosen, without=name)
        counts = self._histograms[name] if where == "true" else self._count_bins(name, where, self._judged(rules))
        return Histogram(self.numbers[name], counts, self._histograms[name])

    def count_values(self, name: str, chosen: Filter, rules: Rules, limit: int = 22) -> list[tuple[str, int]]:
        """Count the segments of the ``limit`` most frequent values of a text column, most frequent first.

        Null counts as ``missing``. The range and the values that the filter sets for this column are ignored.
        """
        sql = (
            f"SELECT coalesce(CAST({quote_name(name)} AS VARCHAR), 'missing') AS value, count(*) "  # noqa: S608 - quoted
            f"FROM {self._judged(rules)} WHERE {self._where(chosen, without=name)} "
            f"GROUP BY value ORDER BY count(*) DESC, value LIMIT {limit}"
        )
        return [(str(value), int(count)) for value, count in self._rows(sql)]

    def count_reasons(self, chosen: Filter, rules: Rules) -> list[tuple[str, int]]:
        """Count the segments per reason, most frequent first. The reasons that the filter sets by bars are ignored."""
        where = self._where(chosen, without="reasons")
        same = len(self._judged_by) <= MAX_BITS
        if same and [rule.model_dump() for rule in rules.effective] == [rule.model_dump() for rule in self._judged_by]:
            groups = self._rows(f"SELECT fired, count(*) FROM {self._judged(rules)} WHERE {where} GROUP BY fired")  # noqa: S608
            return _count_bits(rules, groups)
        by_reason = self._sql(rules).by_reason()
        counts = ", ".join(f"count(*) FILTER ({fires})" for fires in by_reason.values())
        found = self._rows(f"SELECT {counts} FROM {self._judged(rules)} WHERE {where}")[0]  # noqa: S608 - quoted
        named = [(reason, int(count)) for reason, count in zip(by_reason, found, strict=True) if count]
        return sorted(named, key=lambda each: -each[1])

    def compare_hours(self, rules: Rules, before: Rules, chosen: Filter | None = None) -> list[LanguageHours]:
        """Return the accepted hours per language under ``rules`` and ``before``, sorted by descending total hours."""
        where = self._where(chosen or Filter())
        sql = (
            f"SELECT lang, coalesce(sum(duration_s), 0) / 3600 AS hours, "  # noqa: S608 - quoted
            f"coalesce(sum(duration_s) FILTER ({self._sql(rules).verdict} = 'accept'), 0) / 3600, "
            f"coalesce(sum(duration_s) FILTER (verdict = 'accept'), 0) / 3600 "
            f"FROM {self._judged(before)} WHERE {where} GROUP BY lang ORDER BY hours DESC, lang"
        )
        return [LanguageHours(*row) for row in self._rows(sql)]

    def count_changes(self, rules: Rules, before: Rules) -> list[tuple[str, str, int, float]]:
        """Return verdict under ``before``, verdict under ``rules``, segments and hours, per pair of verdicts."""
        sql = (
            f"SELECT verdict, {self._sql(rules).verdict} AS after, count(*), coalesce(sum(duration_s), 0) / 3600 "  # noqa: S608
            f"FROM {self._judged(before)} GROUP BY verdict, after ORDER BY verdict, after"
        )
        return [(before_, after, int(count), float(hours)) for before_, after, count, hours in self._rows(sql)]

    def find_changed(self, rules: Rules, before: Rules, limit: int = 200) -> list[Row]:
        """Return the first ``limit`` segments, in table order, whose verdicts under the two sets of rules differ."""
        sql = (
            f"SELECT video_id, segment_index, lang, verdict AS before, {self._sql(rules).verdict} AS after, "  # noqa: S608
            f"reasons AS reasons_before, {self._sql(rules).reasons} AS reasons_after, text "
            f"FROM {self._judged(before)} WHERE before <> after LIMIT {limit}"
        )
        return self._dicts(sql)

    def group(self, by: str, chosen: Filter, rules: Rules, limit: int = 1000) -> list[Row]:
        """Return at most ``limit`` rows, one per value of ``by`` (a key of ``GROUPS``), sorted by descending hours.

        Only segments that pass the filter ``chosen`` count. A row has their number, their hours and the fraction of
        each verdict. Rows of videos and speakers also have medians of some signals. Equal speaker labels in different
        videos denote different speakers.
        """
        keys = "video_id, speaker" if by == "speaker" else quote_name(by)
        lang = "" if by == "lang" else "any_value(lang) AS lang, "
        largest = (
            f"SELECT {keys}, {lang}count(*) AS segments, round(coalesce(sum(duration_s), 0) / 3600, 3) AS hours, "  # noqa: S608 - quoted
            "round(avg(CAST(verdict = 'accept' AS INT)), 3) AS accepted, "
            "round(avg(CAST(verdict = 'review' AS INT)), 3) AS review, "
            f"round(avg(CAST(verdict = 'reject' AS INT)), 3) AS rejected FROM {self._judged(rules)} "
            f"WHERE {self._where(chosen)} GROUP BY {keys} ORDER BY hours DESC, {keys} LIMIT {limit}"
        )
        medians = [name for name in self.numbers if name in _MEDIANS or name.endswith("_ovr")]
        if not medians or by in {"worker", "day", "lang"}:
            return self._dicts(largest)
        shown = ", ".join(f"round(median({quote_name(name)}), 3) AS {quote_name('median ' + name)}" for name in medians)
        return self._dicts(
            f"WITH largest AS ({largest}) SELECT largest.*, typical.* EXCLUDE ({keys}) FROM largest JOIN "  # noqa: S608
            f"(SELECT {keys}, {shown} FROM {self._judged(rules)} WHERE {self._where(chosen)} AND video_id IN "
            f"(SELECT video_id FROM largest) GROUP BY {keys}) typical USING ({keys}) ORDER BY hours DESC, {keys}"
        )

    def count_words(self, lang: str | None, search: str, limit: int = 500) -> list[Row]:
        """Count the words of normalised transcripts: occurrences, videos and median CER per word, most frequent first.

        Args:
            lang: the language of the transcripts; None for all languages.
            search: only words that contain this text are counted; empty for all words.
            limit: the maximum number of words.
        """
        where = f"lang = {literal(lang)}" if lang else "true"
        found = f"contains(word, {literal(search)})" if search else "true"
        sql = (
            "SELECT word, count(*) AS count, count(DISTINCT video_id) AS videos, "  # noqa: S608 - quoted
            "round(median(cer), 3) AS \"median cer\" FROM (SELECT unnest(string_split(text_normalised, ' ')) AS word, "
            f"video_id, cer FROM segments WHERE {where}) WHERE word <> '' AND {found} "
            f"GROUP BY word ORDER BY count DESC, word LIMIT {limit}"
        )
        return self._dicts(sql)

    def count_characters(self, lang: str | None) -> list[Row]:
        """Count the characters of the stored transcripts: occurrences and segments per character, most frequent first.

        ``lang`` is the language of the transcripts; None for all languages.
        """
        where = f"lang = {literal(lang)}" if lang else "true"
        sql = (
            "SELECT character, printf('U+%04X', unicode(character)) AS code, count(*) AS count, "  # noqa: S608 - quoted
            "count(DISTINCT id) AS segments FROM (SELECT unnest(string_split(text, '')) AS character, "
            f"rowid AS id FROM segments WHERE {where}) WHERE character <> '' GROUP BY character "
            "ORDER BY count DESC, character"
        )
        return self._dicts(sql)

    def _read_rows(self, places: Sequence[int]) -> list[Row]:
        """Return the rows with the given row ids, in that order. Distant rows are read one by one, to avoid a scan."""
        low, high = min(places), max(places)
        if high - low < _NEAR_ROWS:
            near = self._dicts(f"SELECT rowid AS id, * FROM segments WHERE rowid BETWEEN {low} AND {high}")  # noqa: S608
            by_place = {row["id"]: row for row in near}
            return [by_place[place] for place in places]
        one = "SELECT rowid AS id, * FROM segments WHERE rowid = "
        return [self._dicts(f"{one}{place}")[0] for place in places]

    def _judge(self, row: Row, rules: Rules) -> Row:
        """Return the row with the verdict, reasons and margin that the rules give."""
        verdict = rules.evaluate(row)
        return {**row, "verdict": verdict.verdict, "reasons": list(verdict.reasons), "margin": verdict.margin}

    def _judged(self, rules: Rules) -> str:
        """Return a subquery that adds ``verdict`` and ``reasons``. DuckDB computes only columns that a query reads."""
        sql = self._sql(rules)
        return f"(SELECT rowid AS id, *, {sql.verdict} AS verdict, {sql.reasons} AS reasons FROM segments)"  # noqa: S608

    def _sql(self, rules: Rules) -> RuleSql:
        """Return the SQL of rules, which uses the column ``fired`` where it holds their results."""
        return RuleSql(rules, self._judged_by)

    def _where(self, chosen: Filter, *, without: str | None = None) -> str:
        """Return a filter as an SQL condition, without the range and the values of the column ``without``."""
        return chosen.to_sql([*self.columns, "verdict", "reasons"], without=without)

    def _count_bins(self, name: str, where: str, table: str) -> list[int]:
        """Return the number of rows of ``table`` per bin of a numeric column, for rows that meet ``where``."""
        column, number = quote_name(name), self.numbers[name]
        place = f"floor(({column} - {literal(number.low)}) / {literal(number.bin_width)})"
        sql = (
            f"SELECT CAST(least(greatest({place}, 0), {BINS - 1}) AS INT) AS bin, count(*) FROM {table} "  # noqa: S608
            f"WHERE {column} IS NOT NULL AND {where} GROUP BY bin"
        )
        counts = dict(self._rows(sql))
        return [int(counts.get(place, 0)) for place in range(BINS)]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query, and return its rows as tuples."""
        return self._run(sql).fetchall()

    def _dicts(self, sql: str) -> list[Row]:
        """Run a query, and return its rows by column."""
        return fetch_dicts(self._run(sql))

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Run a query. Raise ``BadInput`` if the SQL that the user entered is invalid or refused."""
        try:
            return self._database.cursor().execute(sql)
        except (duckdb.ParserException, duckdb.BinderException, duckdb.ConversionException) as error:
            raise BadInput(f"the filter cannot be read: {str(error).splitlines()[0]}") from None
        except (duckdb.PermissionException, duckdb.InvalidInputException) as error:
            raise BadInput(f"the filter is refused: {str(error).splitlines()[0]}") from None


def _count_bits(rules: Rules, groups: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
    """Return the segments per reason, most frequent first. ``groups`` has a bit mask of rules and a count per group."""
    counts: Counter[str] = Counter()
    for fired, segments in groups:
        for reason in {rule.reason for place, rule in enumerate(rules.effective) if fired >> place & 1}:
            counts[reason] += segments
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))
