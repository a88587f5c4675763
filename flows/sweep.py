"""Take back what dead workers held, and make Prefect's states true."""

from prefect import flow

from blocks.session import open_control
from tasks.control import ask_ended_runs, publish_report, reconcile_flow_runs
from validation.control.sweep import sweep
from validation.ledger.queries import read_open_chunks, read_recently_closed_chunks, read_worker_sessions


@flow(name="sweep-stale-claims", flow_run_name="sweep")
def sweep_stale_claims(*, orphans: bool = True) -> str:
    """Take back what dead workers held, and make Prefect's states true. Safe to run by hand at any time.

    Releases the claims of leases that expired and of flow runs that ended, fails videos that kill their process, flags
    silent workers, judges canaries, deletes orphan shards and marks zombie runs Crashed. The clock decides first and
    Prefect is asked second; if it does not answer, the clock was all. No step depends on another's success: what failed
    is told at the end.

    Args:
        orphans: whether to look for orphan shards too, which lists all of the results store.
    """
    control = open_control()
    report = sweep(control.engine, control.results, orphans=orphans, find_ended=ask_ended_runs)
    held = [*read_open_chunks(control.engine), *read_recently_closed_chunks(control.engine)]
    told = reconcile_flow_runs(report.swept, held, read_worker_sessions(control.engine), return_state=True)
    publish_report(report, told.result() if told.is_completed() else [])
    report.raise_if_incomplete()
    return f"{len(report.swept)} chunks, {len(report.orphans)} orphans, {len(report.stale_workers)} silent workers"
