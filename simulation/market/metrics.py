"""What a simulated day cost, and what came of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulation.market.invariant_monitor import InvariantMonitor
from simulation.market.ledger import read_committed
from validation.domain import Seconds

SHOWN = 10
"""Violations that are printed; the written report has all."""


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """One arm's day."""

    name: str
    rentals: int
    paid_h: float
    """Machine-hours for which a card was billed."""
    useful_h: float
    """Machine-hours spent on chunks that were committed."""
    money_usd: float
    """As the vendor billed it, until the last machine was gone or the arm believed so."""
    audio_h: float
    """In committed shards."""
    duplicates: int
    orphans: int
    cap_violations: int
    left_usd_per_hour: float
    """What still billed after the arm believed that nothing was left."""
    faults: int
    """Requests that the vendor or the line spoiled."""
    throttled: int
    fates: Mapping[str, int]
    sentences: Sequence[str]

    @property
    def usd_per_1000_audio_h(self) -> float:
        return self.money_usd / self.audio_h * 1000 if self.audio_h else float("inf")

    @property
    def violations(self) -> int:
        return self.duplicates + self.orphans + self.cap_violations


@dataclass(frozen=True, slots=True)
class SoakReport:
    """Both arms on one seed."""

    seed: int
    hours: float
    machines: int
    took_s: Seconds
    arms: Sequence[StrategyMetrics]

    @property
    def is_clean(self) -> bool:
        """Whether the fleet, the first arm, did nothing that must never happen."""
        return self.arms[0].violations == 0


def measure(name: str, watcher: InvariantMonitor) -> StrategyMetrics:
    """Gather one arm's figures at its end."""
    world, cloud = watcher.world, watcher.world.cloud
    contracts = list(cloud.contracts.values())
    fates: dict[str, int] = {}
    for contract in contracts:
        fates[contract.fate] = fates.get(contract.fate, 0) + 1
    return StrategyMetrics(
        name=name,
        rentals=len(contracts),
        paid_h=sum(contract.running_s for contract in contracts) / 3600,
        useful_h=world.boxes.useful_s / 3600,
        money_usd=cloud.billed_usd,
        audio_h=read_committed(world.ledger).audio_s / 3600,
        duplicates=len(watcher.duplicates),
        orphans=len(watcher.orphans),
        cap_violations=watcher.cap_violations,
        left_usd_per_hour=cloud.usd_per_hour(),
        faults=sum(world.fake.faults.played.values()),
        throttled=world.fake.throttle.refusals,
        fates=fates,
        sentences=watcher.sentences,
    )


ROWS: Mapping[str, str] = {
    "rentals": "{a.rentals}",
    "machine-hours paid": "{a.paid_h:.0f}",
    "machine-hours useful": "{a.useful_h:.0f}",
    "of 100 paid hours, useful": "{share:.0f}",
    "money": "${a.money_usd:.2f}",
    "audio hours": "{a.audio_h:.0f}",
    "per 1,000 audio hours": "${a.usd_per_1000_audio_h:.2f}",
    "requests spoiled": "{a.faults}",
    "duplicates": "{a.duplicates}",
    "orphans": "{a.orphans}",
    "cap violations": "{a.cap_violations}",
    "left billing, an hour": "${a.left_usd_per_hour:.2f}",
}


def print_report(console: Console, report: SoakReport) -> None:
    """A table with a column an arm, then what the fleet did wrong, if anything."""
    title = f"{report.hours:g} simulated hours, {report.machines} slots, seed {report.seed}, in {report.took_s:.0f} s"
    table = Table("", *(arm.name for arm in report.arms), title=title)
    for row, form in ROWS.items():
        cells = (form.format(a=arm, share=100 * arm.useful_h / arm.paid_h if arm.paid_h else 0) for arm in report.arms)
        table.add_row(row, *cells)
    console.print(table)
    for sentence in report.arms[0].sentences[:SHOWN]:
        console.print("[bold red]not as it must be:[/]", escape(sentence))
    console.print("[bold green]kept honest[/]" if report.is_clean else "[bold red]VIOLATED[/]")


def write_report(path: Path, report: SoakReport) -> None:
    """Write everything as JSON."""
    arms = [asdict(arm) | {"usd_per_1000_audio_h": arm.usd_per_1000_audio_h} for arm in report.arms]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(report) | {"arms": arms}, indent=1))
