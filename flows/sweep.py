"""Take back the chunks of dead workers, and correct the states of their flow runs in Prefect."""

from prefect import flow, get_run_logger

from blocks.control import open_control_services
from tasks.control import ask_ended_runs, log_sweep, publish_sweep, reconcile_flow_runs
from validation.control.sweep import sweep
from validation.ledger.queries import (
    read_expired_chunks,
    read_open_chunks,
    read_recently_closed_chunks,
    read_worker_sessions,
)


@flow(name="sweep-stale-claims", flow_run_name="sweep")
def sweep_stale_claims(*, orphans: bool = True) -> str:
    """Take back the chunks of dead workers, and correct the states of their flow runs. Safe to run by hand at any time.

    Takes back chunks whose lease expired or whose flow run ended, fails videos that crash their process, marks silent
    workers stale, evaluates canaries, deletes orphan shards, and marks flow runs without a process Crashed. Chunks with
    an expired lease are taken back first, by the database clock; then Prefect is asked which flow runs ended. If
    Prefect does not answer, only chunks with an expired lease are taken back. A failed step does not stop the other
    steps; the errors of all steps are raised at the end.

    Args:
        orphans: Whether to look for orphan shards too. The search lists the whole results store.
    """
    control = open_control_services()
    report = sweep(control.engine, control.results, orphans=orphans, find_ended=ask_ended_runs)
    held = [*read_open_chunks(control.engine), *read_recently_closed_chunks(control.engine)]
    sessions = read_worker_sessions(control.engine)
    expired = read_expired_chunks(control.engine)  # taken back by this sweep, an earlier sweep or a claim
    corrected = reconcile_flow_runs(expired, held, sessions, return_state=True)
    corrections = corrected.result() if corrected.is_completed() else []
    publish_sweep(report, corrections)
    log_sweep(get_run_logger(), report, corrections)
    report.raise_if_incomplete()
    return f"{len(report.swept)} chunks, {len(report.orphans)} orphans, {len(report.stale_workers)} silent workers"
