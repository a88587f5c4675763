"""Render the fleet's status for a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from validation.analysis.charts.numbers import UNKNOWN, format_count, format_share
from validation.analysis.status.fleet_status import FleetStatus, Row
from validation.analysis.status.format import facts, headline, worker_cells
from validation.escape import for_terminal

COLOURS = {
    "online": "green",
    "late": "yellow",
    "stale": "red",
    "offline": "dim",
    "draining": "cyan",
    "quarantined": "red",
}
BLOCKS = "▁▂▃▄▅▆▇█"
"""Characters of a spark line, from the lowest to the highest value."""
ERROR = "last error"
"""The cell of a worker that is shown below the table of workers."""
NUMBER_COLUMNS = {"silent", "segments/s", "chunks", "validated", "failed"}


def render_status(status: FleetStatus, *, max_workers: int | None = None) -> RenderableType:
    """Return the status as a Rich renderable with the first ``max_workers`` workers; None shows all workers."""
    parts: list[RenderableType] = [Text(headline(status), style="bold")]
    if status.videos:
        parts += ["", _make_facts_table(status), "", _make_languages_table(status.languages)]
    if status.workers:
        parts += [
            "",
            _make_workers_table(status.workers[:max_workers]),
            *_make_error_lines(status.workers[:max_workers]),
        ]
        if hidden := len(status.workers[len(status.workers[:max_workers]) :]):
            parts.append(Text(f"and {hidden} more", style="dim"))
    return Group(*parts)


def _make_facts_table(status: FleetStatus) -> Table:
    """Return the table of ``facts``, with a spark line of the segments per second."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts(status):
        table.add_row(name, value)
    if any(row["segments"] for row in status.history):
        table.add_row("so far", draw_spark([row["segments"] / row["duration_s"] for row in status.history]))
    return table


def _make_languages_table(languages: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("language")
    table.add_column("", width=30)
    for name in ("done", "videos", "validated", "failed", "waiting"):
        table.add_column(name, justify="right")
    for row in languages:
        table.add_row(
            Text(for_terminal(row["language"], max_chars=40)),
            ProgressBar(total=1.0, completed=float(row["done_share"]), width=30),
            format_share(row["done_share"]),
            *map(format_count, (row["videos"], row["validated"], row["failed"], row["pending"] + row["validating"])),
        )
    return table


def _make_workers_table(workers: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in worker_cells(workers[0]):
        if name != ERROR:
            table.add_column(name, justify="right" if name in NUMBER_COLUMNS else "left", no_wrap=True)
    for row in workers:
        cells = {name: text for name, text in worker_cells(row).items() if name != ERROR}
        colour = COLOURS[cells["state"]]
        table.add_row(*(Text(text, style=colour if name == "state" else "") for name, text in cells.items()))
    return table


def _make_error_lines(workers: Sequence[Row]) -> list[RenderableType]:
    """Return one line per worker with an error. As a column of the table, errors would not fit into 80 characters."""
    errors = [(cells["worker"], cells[ERROR]) for cells in map(worker_cells, workers) if cells[ERROR] != UNKNOWN]
    return [Text(f"{worker}: {error}", style="red") for worker, error in errors]


def draw_spark(values: Sequence[float], *, width: int = 60) -> str:
    """Draw the last ``width`` values as a line of block characters. The highest value gets the highest block."""
    shown = values[-width:]
    top = max(shown) or 1.0
    return "".join(BLOCKS[min(int(value / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in shown)
