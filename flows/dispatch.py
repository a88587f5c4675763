"""Create flow runs of `validate-chunk`, so that as many wait as the online workers finish within two dispatches."""

from prefect import flow, get_run_logger

from blocks.control import open_control_services
from tasks.control import create_runs
from validation.ledger.queries import read_workload


@flow(name="dispatch-chunks", flow_run_name="dispatch")
def dispatch_chunks(chunk_videos: int = 50, period_s: float = 120) -> int:
    """Create as many runs of validate-chunk as the online workers finish in two periods; none if the queue is empty.

    Args:
        chunk_videos: Videos per claim, as PARQUET_SHARD_SIZE on the workers; used to count the chunks that are left.
        period_s: Seconds between two dispatches.
    """
    workload = read_workload(open_control_services().engine)
    created = create_runs(workload, chunk_videos=chunk_videos, period_s=period_s)
    get_run_logger().info(
        "created %d runs of validate-chunk", created, extra={"event": "runs_dispatched", "runs_created": created}
    )
    return created
