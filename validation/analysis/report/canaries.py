"""How far the machines behind the numbers can be trusted: what became of the videos with known answers."""

from collections.abc import Iterator
from html import escape

from validation.analysis.charts.numbers import format_count
from validation.analysis.charts.svg import tag
from validation.analysis.report.tables import draw_bar, table
from validation.canaries.evaluate import CanaryTally, MachineTally


def write_canaries(tally: CanaryTally) -> Iterator[str]:
    """Write the section; nothing where no canary was ever planted."""
    if not tally.planted:
        return
    right, wrong, inconclusive = (
        sum(getattr(row, name) for row in tally.workers) for name in ("right", "wrong", "inconclusive")
    )
    yield tag("h2", "Canaries")
    yield tag(
        "p",
        f"{format_count(tally.planted)} videos with known answers were mixed into the queue, and are in no other "
        f"number of this page. {format_count(right + wrong + inconclusive)} answers were evaluated: "
        f"{format_count(right)} right, {format_count(wrong)} wrong, {format_count(inconclusive)} inconclusive. "
        f"{format_count(tally.waiting)} canaries wait.",
        class_="lead",
    )
    if tally.workers:
        header = ["machine", "", "right", "wrong", "inconclusive"]
        yield tag("div", table(header, map(_cells, tally.workers), numbers_from=2), class_="card scroll")


def _cells(row: MachineTally) -> Iterator[str]:
    yield escape(row.known_as)
    yield draw_bar([("accept", row.right), ("reject", row.wrong)], row.right + row.wrong + row.inconclusive)
    yield from map(format_count, (row.right, row.wrong, row.inconclusive))
