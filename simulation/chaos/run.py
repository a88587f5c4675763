"""Run a chaos run: start a fleet, inject faults, check the result, and write a report."""

import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from simulation.chaos.checks import find_false_silence, find_violations, sweep_once
from simulation.chaos.environment import CHUNK_VIDEOS, ChaosEnvironment, open_environment
from simulation.chaos.report import ChaosReport, describe_run, print_report, write_report
from simulation.chaos.runner import ChaosRunner, RunRecord
from simulation.chaos.schedule import plan_faults
from validation.control.audit import audit, delete_orphans
from validation.domain import Seconds
from validation.errors import FleetError
from validation.exit_codes import ExitCode
from validation.local.process import poll_until

FIRST_CLAIM_TIMEOUT_S: Seconds = 120.0
SERVER_TIMEOUT_S: Seconds = 60.0
UNPROVEN = 4
"""The exit code of a run without a violation, in which a planned kind of fault found no target."""


def run_chaos(folder: Path, *, minutes: float, seed: int, boxes: int, drain_timeout_s: Seconds) -> int:
    """Inject faults for some minutes, wait until the queue is empty, and run the checks.

    Return an exit code: 1 after a violation, ``UNPROVEN`` if a kind of fault found no target, else 0.
    """
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    folder = folder.resolve() / "chaos"
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    started = time.monotonic()
    with open_environment(folder, seed=seed, boxes=boxes, report=console.print) as environment:
        # Only one chunk is queued, so that its poison video is claimed early enough to crash three times.
        environment.queue_videos(CHUNK_VIDEOS)
        runner = ChaosRunner(environment, plan_faults(seed, duration_s=minutes * 60, boxes=boxes), console.print)
        runner.await_work(timeout_s=FIRST_CLAIM_TIMEOUT_S)
        console.rule(f"injecting faults for {minutes:g} minutes, seed {seed}")
        runner.inject_all(duration_s=minutes * 60)
        console.rule("draining")
        runner.drain(timeout_s=drain_timeout_s)
        report = end_run(environment, runner.record, seed)
    print_report(console, report)
    write_report(folder / f"report-{seed}.json", report)
    console.print(f"written to {folder / f'report-{seed}.json'} after {time.monotonic() - started:.0f} s")
    if report.violations:
        return ExitCode.FAILED
    return UNPROVEN if report.unproven else ExitCode.OK


def end_run(environment: ChaosEnvironment, record: RunRecord, seed: int) -> ChaosReport:
    """Stop the workers, run the sweep once more, run every check, and return the report."""
    violations = [] if record.drained_s is not None else ["the queue did not drain in time"]
    violations += record.standstill.violations()
    violations += find_false_silence(environment)
    for box in environment.boxes:
        box.stop()
    for box in environment.control:
        box.stop()
    if not poll_until(environment.stack.prefect.is_ready, within_s=SERVER_TIMEOUT_S):
        violations.append("the Prefect server did not come back")
    violations += filter(None, [sweep_once(environment)])
    violations += audit(environment.engine, environment.results)  # before orphans are deleted, as an operator does
    orphans = delete_orphans(environment.engine, environment.results, margin=timedelta(0))
    try:
        violations += find_violations(environment)
    except FleetError as error:
        violations.append(f"the checks could not run: {error}")
    return describe_run(environment, record, seed=seed, orphans_deleted=len(orphans), violations=violations)
