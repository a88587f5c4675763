"""How far the machines behind the numbers can be trusted: what became of the videos with known answers."""

from collections.abc import Iterator
from html import escape

from validation.analysis.charts.numbers import format_count
from validation.analysis.charts.svg import tag
from validation.analysis.report.tables import draw_bar, table
from validation.canaries.evaluate import CanaryTally, WorkerTally


def write_canaries(tally: CanaryTally) -> Iterator[str]:
    """Write the section; nothing where no canary was ever planted."""
    if not tally.planted:
        return
    right, wrong, moot = (sum(getattr(row, name) for row in tally.workers) for name in ("right", "wrong", "moot"))
    yield tag("h2", "Canaries")
    yield tag(
        "p",
        f"{format_count(tally.planted)} videos with known answers were mixed into the queue, and are in no other "
        f"number of this page. {format_count(right + wrong + moot)} answers were judged: {format_count(right)} right, "
        f"{format_count(wrong)} wrong, {format_count(moot)} without anything to compare. {format_count(tally.waiting)} "
        "canaries wait.",
        class_="lead",
    )
    if tally.workers:
        header = ["machine", "", "right", "wrong", "moot"]
        yield tag("div", table(header, map(_cells, tally.workers), numbers_from=2), class_="card scroll")


def _cells(row: WorkerTally) -> Iterator[str]:
    yield escape(row.known_as)
    yield draw_bar([("accept", row.right), ("reject", row.wrong)], row.right + row.wrong + row.moot)
    yield from map(format_count, (row.right, row.wrong, row.moot))
