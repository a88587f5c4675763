"""Report a chaos run: the injected faults, the outcomes of the affected chunks, and the violations."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulation.chaos.environment import ChaosEnvironment
from simulation.chaos.injections import Injection
from simulation.chaos.ledger import ChunkEnd, read_chunk_ends
from simulation.chaos.runner import RunRecord, find_unproven
from simulation.chaos.schedule import FaultKind
from validation.domain import Seconds
from validation.ledger.queries import read_view

STARTED = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}
MAX_PRINTED = 20
"""Maximum number of violations that are printed. The report file has all violations."""


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """The outcome of a chunk whose worker was the target of a fault."""

    kind: FaultKind
    end: str
    """``committed``, or the reason why the chunk was closed."""
    after_s: Seconds
    """Seconds from the fault to the end of the chunk. If the chunk was not committed, its videos could then be claimed
    again."""


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """The results of a chaos run. Counts of faults are by kind; ``missed`` counts the faults without a target."""

    seed: int
    faults: Mapping[str, int]
    missed: Mapping[str, int]
    unproven: Sequence[str]
    """Kinds of fault that were planned, but found no target in the whole run."""
    standstill_s: Seconds
    """The longest time without a claim while videos waited and a worker was up."""
    outcomes: Sequence[ChunkOutcome]
    worker_drains_s: Sequence[Seconds]
    queue_drained_s: Seconds | None
    worker_sessions: Mapping[str, int]
    orphans_deleted: int
    overview: Mapping[str, Any]
    flow_runs: Mapping[str, int]
    violations: Sequence[str]

    def to_json(self) -> str:
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "outcomes"}
        facts["outcomes"] = [{"kind": f.kind.name, "end": f.end, "after_s": round(f.after_s, 2)} for f in self.outcomes]
        return json.dumps(facts, indent=1, default=str)


def describe_run(
    environment: ChaosEnvironment, record: RunRecord, *, seed: int, orphans_deleted: int, violations: Sequence[str]
) -> ChaosReport:
    """Collect the results of a run from the ledger, from Prefect and from the run's record."""
    ends = read_chunk_ends(environment.engine)
    (overview,) = read_view(environment.engine, "fleet_overview")
    return ChaosReport(
        seed=seed,
        faults=Counter(injection.fault.kind.name for injection in record.injections),
        missed=Counter(fault.kind.name for fault in record.missed),
        unproven=[kind.name for kind in find_unproven(record)],
        standstill_s=round(record.standstill.longest_s, 1),
        outcomes=list(_trace_chunks(record.injections, ends)),
        worker_drains_s=sorted(seconds for box in environment.boxes for seconds in box.drains_s),
        queue_drained_s=record.drained_s,
        worker_sessions={box.name: box.sessions for box in (*environment.boxes, *environment.control)},
        orphans_deleted=orphans_deleted,
        overview=overview,
        flow_runs=Counter(run["state_name"] for run in environment.prefect.flow_runs(flow_runs=STARTED)),
        violations=violations,
    )


def _trace_chunks(injections: Sequence[Injection], ends: Mapping[UUID, ChunkEnd]) -> Iterator[ChunkOutcome]:
    for injection in injections:
        for end in filter(None, map(ends.get, injection.chunks)):
            yield ChunkOutcome(
                injection.fault.kind, end.close_reason or end.state, end.closed_at - injection.injected_at
            )


def print_report(console: Console, report: ChaosReport) -> None:
    """Print the faults with the outcomes of their chunks, then the counts, then the violations."""
    table = Table("fault", "times", "its chunks", "p50 s", "max s", title=f"seed {report.seed}")
    for kind in FaultKind:
        ends: dict[str, list[Seconds]] = {}
        for outcome in report.outcomes:
            if outcome.kind == kind:
                ends.setdefault(outcome.end, []).append(outcome.after_s)
        missed = f" ({report.missed[kind.name]} found no target)" if report.missed.get(kind.name) else ""
        first = (kind.value, f"{report.faults.get(kind.name, 0)}{missed}")
        for end, seconds in sorted(ends.items()) or [("", [])]:
            cells = (f"{len(seconds)} {end}", f"{median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("",) * 3
            table.add_row(*first, *cells)
            first = ("", "")
    console.print(table)
    _print_counts(console, report)
    for violation in report.violations[:MAX_PRINTED]:
        console.print("[bold red]violation:[/]", escape(violation))
    if (more := len(report.violations) - MAX_PRINTED) > 0:
        console.print(f"[bold red]and {more} more[/]: see the report file")


def _print_counts(console: Console, report: ChaosReport) -> None:
    row, drains = report.overview, report.worker_drains_s
    console.print(
        f"{row['validated']} videos validated with {row['segments']} segments, {row['failed']} failed, "
        f"{row['pending']} pending, {row['validating']} validating; chunks: {row['chunks_committed']} committed, "
        f"{row['chunks_expired']} taken back, {row['chunks_open']} open"
    )
    if drains:
        console.print(f"workers drained on SIGTERM in {median(drains):.1f} s (p50), {drains[-1]:.1f} s (max)")
    emptied = "never" if report.queue_drained_s is None else f"{report.queue_drained_s:.0f} s after the last fault"
    console.print(f"queue empty {emptied}; {report.orphans_deleted} orphan objects deleted")
    console.print(f"worker sessions: {dict(report.worker_sessions)}; flow runs: {dict(report.flow_runs)}")
    console.print(f"longest standstill: {report.standstill_s:.0f} s without a claim while videos waited")
    if report.unproven:
        console.print(f"[bold yellow]unproven[/], because they found no target: {', '.join(report.unproven)}")
    passed = "[bold yellow]unproven[/]" if report.unproven else "[bold green]passed[/]"
    verdict = "[bold red]VIOLATED[/]" if report.violations else passed
    console.print(f"{sum(report.faults.values())} faults, {len(report.violations)} violations: {verdict}")


def write_report(path: Path, report: ChaosReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.to_json(), encoding="utf-8")
