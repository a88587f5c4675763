"""How far the machines behind the numbers can be trusted: what became of the videos with known answers."""

from collections.abc import Iterator
from html import escape

from validation.analysis.charts.numbers import say_count
from validation.analysis.charts.svg import tag
from validation.analysis.report.tables import draw_bar, table
from validation.canaries.evaluate import CanaryTally, MachineTally


def write_canaries(tally: CanaryTally) -> Iterator[str]:
    """Write the section; nothing where no canary was ever planted."""
    if not tally.planted:
        return
    right, wrong, moot = (sum(getattr(row, name) for row in tally.workers) for name in ("right", "wrong", "moot"))
    yield tag("h2", "Canaries")
    yield tag(
        "p",
        f"{say_count(tally.planted)} videos with known answers were mixed into the queue, and are in no other number "
        f"of this page. {say_count(right + wrong + moot)} answers were judged: {say_count(right)} right, "
        f"{say_count(wrong)} wrong, {say_count(moot)} without anything to compare. {say_count(tally.waiting)} "
        "canaries wait.",
        class_="lead",
    )
    if tally.workers:
        header = ["machine", "", "right", "wrong", "moot"]
        yield tag("div", table(header, map(_cells, tally.workers), numbers_from=2), class_="card scroll")


def _cells(row: MachineTally) -> Iterator[str]:
    yield escape(row.known_as)
    yield draw_bar([("accept", row.right), ("reject", row.wrong)], row.right + row.wrong + row.moot)
    yield from map(say_count, (row.right, row.wrong, row.moot))
