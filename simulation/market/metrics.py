"""Measure and report a simulated day: its cost, its results and its violations."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulation.market.invariant_monitor import InvariantMonitor
from simulation.market.ledger import read_committed
from validation.domain import Seconds

MAX_PRINTED_VIOLATIONS = 10
"""Maximum number of violations that are printed. The report file has all violations."""


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """The metrics of one strategy for one simulated day."""

    name: str
    rentals: int
    paid_h: float
    """Box-hours for which a GPU was billed."""
    useful_h: float
    """Box-hours spent on chunks that were committed."""
    money_usd: float
    """Dollars billed by the vendor until the strategy had scaled down."""
    audio_h: float
    """Hours of audio in committed shards."""
    duplicates: int
    orphans: int
    cap_violations: int
    left_usd_per_hour: float
    """Dollars per hour of the instances that still existed after the strategy had scaled down."""
    failed_requests: int
    """Requests for which a failure of the vendor or of the connection was injected."""
    throttled: int
    """Requests that the vendor refused because of a rate limit."""
    lifecycles: Mapping[str, int]
    messages: Sequence[str]

    @property
    def usd_per_1000_audio_h(self) -> float:
        return self.money_usd / self.audio_h * 1000 if self.audio_h else float("inf")

    @property
    def violations(self) -> int:
        return self.duplicates + self.orphans + self.cap_violations


@dataclass(frozen=True, slots=True)
class SoakReport:
    """The metrics of both strategies for one seed. ``took_s`` is real time."""

    seed: int
    hours: float
    machines: int
    took_s: Seconds
    strategies: Sequence[StrategyMetrics]

    @property
    def is_clean(self) -> bool:
        """Whether the first strategy, this project's fleet, had no violation."""
        return self.strategies[0].violations == 0


def measure(name: str, monitor: InvariantMonitor) -> StrategyMetrics:
    """Compute the metrics of one strategy at the end of its simulation."""
    world, cloud = monitor.world, monitor.world.cloud
    rentals = list(cloud.rentals.values())
    lifecycles: dict[str, int] = {}
    for rental in rentals:
        lifecycles[rental.lifecycle] = lifecycles.get(rental.lifecycle, 0) + 1
    return StrategyMetrics(
        name=name,
        rentals=len(rentals),
        paid_h=sum(rental.running_s for rental in rentals) / 3600,
        useful_h=world.workers.useful_s / 3600,
        money_usd=cloud.billed_usd,
        audio_h=read_committed(world.ledger).audio_s / 3600,
        duplicates=len(monitor.duplicates),
        orphans=len(monitor.orphans),
        cap_violations=monitor.cap_violations,
        left_usd_per_hour=cloud.usd_per_hour(),
        failed_requests=sum(world.fake.connection.played.values()),
        throttled=world.fake.throttle.refusals,
        lifecycles=lifecycles,
        messages=monitor.messages,
    )


ROWS: Mapping[str, Callable[[StrategyMetrics], str]] = {
    "rentals": lambda day: f"{day.rentals}",
    "box-hours paid": lambda day: f"{day.paid_h:.0f}",
    "box-hours useful": lambda day: f"{day.useful_h:.0f}",
    "of 100 paid hours, useful": lambda day: f"{100 * day.useful_h / day.paid_h if day.paid_h else 0:.0f}",
    "money": lambda day: f"${day.money_usd:.2f}",
    "audio hours": lambda day: f"{day.audio_h:.0f}",
    "per 1,000 audio hours": lambda day: f"${day.usd_per_1000_audio_h:.2f}",
    "requests failed": lambda day: f"{day.failed_requests}",
    "duplicates": lambda day: f"{day.duplicates}",
    "orphans": lambda day: f"{day.orphans}",
    "cap violations": lambda day: f"{day.cap_violations}",
    "left billing, per hour": lambda day: f"${day.left_usd_per_hour:.2f}",
}
"""For each row of the printed table, a function that formats the cell of a strategy."""


def print_report(console: Console, report: SoakReport) -> None:
    """Print a table with a column per strategy, then the first violations of this project's fleet."""
    title = f"{report.hours:g} simulated hours, {report.machines} slots, seed {report.seed}, in {report.took_s:.0f} s"
    table = Table("", *(strategy.name for strategy in report.strategies), title=title)
    for row, cell in ROWS.items():
        table.add_row(row, *(cell(strategy) for strategy in report.strategies))
    console.print(table)
    for message in report.strategies[0].messages[:MAX_PRINTED_VIOLATIONS]:
        console.print("[bold red]violation:[/]", escape(message))
    console.print("[bold green]no violations[/]" if report.is_clean else "[bold red]VIOLATED[/]")


def write_report(path: Path, report: SoakReport) -> None:
    """Write the report to a JSON file."""
    strategies = [
        asdict(strategy) | {"usd_per_1000_audio_h": strategy.usd_per_1000_audio_h} for strategy in report.strategies
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(report) | {"strategies": strategies}, indent=1), encoding="utf-8")
