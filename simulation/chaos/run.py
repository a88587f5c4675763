"""One chaos run from an empty folder to a verdict."""

import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from simulation.chaos.checks import find_false_silence, find_violations, sweep_once
from simulation.chaos.environment import CHUNK_VIDEOS, ChaosEnvironment, open_environment
from simulation.chaos.report import ChaosReport, describe_run, print_report, write_report
from simulation.chaos.runner import ChaosRunner, Record, find_unproven
from simulation.chaos.schedule import plan_faults
from validation.control.audit import audit
from validation.control.sweep import delete_orphans
from validation.domain import Seconds
from validation.errors import FleetError
from validation.local.process import poll_until

WORK_WITHIN_S: Seconds = 120.0
SERVERS_WITHIN_S: Seconds = 60.0


def run_chaos(folder: Path, *, minutes: float, seed: int, boxes: int, drain_within_s: Seconds) -> int:
    """Strike a fleet for so many minutes, let it drain, and look for damage. Returns an exit code: 1 for damage."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    folder = folder.resolve() / "chaos"
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    began = time.monotonic()
    with open_environment(folder, seed=seed, boxes=boxes, report=console.print) as stage:
        stage.queue_videos(CHUNK_VIDEOS)  # no more than the first chunk: the poison in it needs three crashes
        conductor = ChaosRunner(stage, plan_faults(seed, duration_s=minutes * 60, boxes=boxes), console.print)
        conductor.await_work(within_s=WORK_WITHIN_S)
        console.rule(f"striking for {minutes:g} minutes, seed {seed}")
        conductor.strike_all(duration_s=minutes * 60)
        console.rule("draining")
        conductor.drain(within_s=drain_within_s)
        report = end_run(stage, conductor.record, seed)
    print_report(console, report)
    write_report(folder / f"report-{seed}.json", report)
    console.print(f"written to {folder / f'report-{seed}.json'} after {time.monotonic() - began:.0f} s")
    return 1 if report.violations else 0


def end_run(stage: ChaosEnvironment, record: Record, seed: int) -> ChaosReport:
    """Stop the fleet in order, sweep a last time, and look at everything."""
    violations = [] if record.drained_s is not None else ["the queue did not drain in time"]
    violations += find_unproven(record)
    violations += find_false_silence(stage)
    for box in stage.boxes:
        box.stop()
    for box in stage.control:
        box.stop()
    if not poll_until(stage.stack.prefect.is_ready, within_s=SERVERS_WITHIN_S):
        violations.append("the Prefect server did not come back")
    violations += filter(None, [sweep_once(stage)])
    violations += audit(stage.engine, stage.results)  # as an operator would, before anything is cleared away
    orphans = delete_orphans(stage.engine, stage.results, margin=timedelta(0))
    try:
        violations += find_violations(stage)
    except FleetError as error:
        violations.append(f"the run could not be judged: {error}")
    return describe_run(stage, record, seed=seed, orphans_deleted=len(orphans), violations=violations)
