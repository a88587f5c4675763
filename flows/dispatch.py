"""Keep as much work waiting as the workers online finish until the dispatcher has come twice."""

from prefect import flow, get_run_logger

from blocks.control import open_control_services
from tasks.control import create_runs
from validation.ledger.queries import read_workload


@flow(name="dispatch-chunks", flow_run_name="dispatch")
def dispatch_chunks(chunk_videos: int = 50, period_s: float = 120) -> int:
    """Create runs of validate-chunk: what the workers online finish in two periods, none when the queue is empty.

    Args:
        chunk_videos: Videos per claim, as PARQUET_SHARD_SIZE on the workers; decides how many chunks are left.
        period_s: Seconds between two dispatches.
    """
    workload = read_workload(open_control_services().engine)
    created = create_runs(workload, chunk_videos=chunk_videos, period_s=period_s)
    get_run_logger().info(
        "created %d runs of validate-chunk", created, extra={"event": "runs_dispatched", "runs_created": created}
    )
    return created
