"""Take back what dead workers held, and make Prefect's states true."""

from prefect import flow, get_run_logger

from blocks.session import open_control
from tasks.control import find_ended_runs, leave_report, tell_prefect
from validation.control.canaries import judge_canaries
from validation.control.sweep import sweep
from validation.ledger.views import read_open_chunks, read_worker_lives


@flow(name="sweep-stale-claims", flow_run_name="sweep")
def sweep_stale_claims(*, orphans: bool = True) -> str:
    """Take back what dead workers held, and make Prefect's states true. Safe to run by hand at any time.

    Releases the claims of flow runs that ended and of leases that expired, fails videos that kill their process,
    deletes orphan shards, flags silent workers, marks zombie runs Crashed and judges canaries. Prefect is asked first
    and the clock second; if Prefect does not answer, the clock alone decides.

    Args:
        orphans: whether to look for orphan shards too, which lists all of the results store.
    """
    control, log = open_control(), get_run_logger()
    ended = find_ended_runs(read_open_chunks(control.engine), return_state=True)
    if ended.is_failed():
        log.warning("Prefect cannot be asked, so only the clock decides: %s", ended.message)
    ended_runs = ended.result() if ended.is_completed() else []
    report = sweep(control.engine, control.results if orphans else None, ended_runs=ended_runs)
    held, lives = read_open_chunks(control.engine), read_worker_lives(control.engine)
    told = tell_prefect(report.swept, held, lives, return_state=True)
    leave_report(report, told.result() if told.is_completed() else [], judge_canaries(control.engine, control.results))
    return f"{len(report.swept)} chunks, {len(report.orphans)} orphans, {len(report.silent_workers)} silent workers"
