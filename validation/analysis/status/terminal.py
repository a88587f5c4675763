"""Where the fleet stands, in a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from validation.analysis.charts.numbers import format_count, format_share
from validation.analysis.status.fleet_status import FleetStatus, Row
from validation.analysis.status.format import facts, headline, worker_cells

COLOURS = {
    "online": "green",
    "late": "yellow",
    "stale": "red",
    "offline": "dim",
    "draining": "cyan",
    "quarantined": "red",
}
BLOCKS = "▁▂▃▄▅▆▇█"
RIGHT = {"silent", "segments/s", "chunks", "validated", "failed"}
"""Columns of numbers."""


def show_status(standing: FleetStatus, *, most_workers: int | None = None) -> RenderableType:
    """Lay out everything; of the workers at most so many, those in trouble first."""
    parts: list[RenderableType] = [Text(headline(standing), style="bold")]
    if standing.videos:
        parts += ["", _show_facts(standing), "", _show_languages(standing.languages)]
    if standing.workers:
        parts += ["", _show_workers(standing.workers[:most_workers])]
        if hidden := len(standing.workers[len(standing.workers[:most_workers]) :]):
            parts.append(Text(f"and {hidden} more", style="dim"))
    return Group(*parts)


def _show_facts(standing: FleetStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts(standing):
        table.add_row(name, value)
    if any(row["segments"] for row in standing.history):
        table.add_row("so far", draw_spark([row["segments"] / row["duration_s"] for row in standing.history]))
    return table


def _show_languages(languages: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("language")
    table.add_column("", width=30)
    for name in ("done", "videos", "validated", "failed", "waiting"):
        table.add_column(name, justify="right")
    for row in languages:
        table.add_row(
            Text(row["language"]),
            ProgressBar(total=1.0, completed=float(row["done_share"]), width=30),
            format_share(row["done_share"]),
            *map(format_count, (row["videos"], row["validated"], row["failed"], row["pending"] + row["validating"])),
        )
    return table


def _show_workers(workers: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in worker_cells(workers[0]):
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name != "last error")
    for row in workers:
        cells = worker_cells(row)
        colour = COLOURS[cells["state"]]
        table.add_row(*(Text(text, style=colour if name == "state" else "") for name, text in cells.items()))
    return table


def draw_spark(values: Sequence[float], *, width: int = 60) -> str:
    """The last values as a line of blocks, the highest block for the highest value."""
    shown = values[-width:]
    top = max(shown) or 1.0
    return "".join(BLOCKS[min(int(value / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in shown)
