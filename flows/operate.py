"""Runs all regular steps of the control plane in one flow run, every two minutes."""

from contextlib import ExitStack

from prefect import flow
from prefect.states import Completed, Failed, State

from blocks.control import open_control_services
from flows.alerts import evaluate_alerts
from flows.dispatch import dispatch_chunks
from flows.sweep import sweep_stale_claims
from tasks.control import delete_late_control_runs, is_due, run_step
from validation.errors import FleetError
from validation.ledger.control_lock import hold_control_lock
from validation.ledger.fleet import read_fleets
from validation.ledger.queries import Workload, read_workload

HOUR_S = 3600.0
"""Period of the search for orphan shards, and of the progress report while no worker works."""
PAGE_S = 600.0
"""Period of the progress report while workers work."""
LOCK_WAIT_S = 300
"""Seconds that a run waits at most for another control run, which takes minutes while it rents many boxes."""


@flow(name="operate-fleet", flow_run_name="operate the fleet")
def operate_fleet(chunk_videos: int = 50, period_s: float = 120) -> State[None]:
    """Sweep, dispatch, keep the rented boxes as ordered, check the alerts and publish the progress.

    Safe to run by hand at any time: a second run waits for the first.

    Each step is also a deployment of its own, to be run by hand. If a step fails, the other steps still run; the run
    then ends Failed with one sentence per failed step. The module of a step is imported when the step is due: most runs
    have nothing to do, and imports would take most of their time.

    Args:
        chunk_videos: Videos per claim, as PARQUET_SHARD_SIZE on the workers.
        period_s: Seconds between two runs, as in the schedule.
    """
    with ExitStack() as held:
        try:
            held.enter_context(hold_control_lock(open_control_services().engine, wait_s=LOCK_WAIT_S))
        except FleetError as error:
            return Failed(message=f"no step was done: {error}")
        return run_steps(chunk_videos, period_s)


def run_steps(chunk_videos: int, period_s: float) -> State[None]:
    """Run the steps that are due at the time of this run, or at the times of the late runs that this run replaces."""
    times = delete_late_control_runs()
    is_hour = is_due(times, every_s=HOUR_S, period_s=period_s)
    is_page = is_hour or is_due(times, every_s=PAGE_S, period_s=period_s)
    engine = open_control_services().engine
    failures = [
        run_step("sweep", lambda: sweep_stale_claims.fn(orphans=is_hour)),
        run_step("dispatch", lambda: dispatch_chunks.fn(chunk_videos, period_s)),
        run_step("alerts", lambda: evaluate_alerts(times, period_s)),
    ]
    if is_hour or (is_page and is_at_work(read_workload(engine))):
        failures.append(run_step("progress", report_progress))
    if read_fleets(engine):
        failures.append(run_step("boxes", reconcile_fleet))
    failed = [failure for failure in failures if failure]
    return Failed(message=" ".join(failed)) if failed else Completed(message="Every step is done.")


def is_at_work(workload: Workload) -> bool:
    """Return whether a worker holds a chunk, or a chunk was committed within the last half hour."""
    return workload.open_chunks > 0 or workload.chunk_s is not None


def report_progress() -> object:
    """Run the body of the flow ``report-progress`` within this flow run."""
    from flows import progress  # noqa: PLC0415 - see operate_fleet

    return progress.report_progress.fn()


def reconcile_fleet() -> object:
    """Run the body of the flow ``reconcile-fleet`` within this flow run."""
    from flows import reconcile  # noqa: PLC0415 - see operate_fleet

    return reconcile.reconcile_fleet.fn()
