"""Keep a little more work waiting than the workers online can take."""

from prefect import flow, get_run_logger

from blocks.control import open_control_services
from tasks.control import create_runs
from validation.ledger.queries import read_workload


@flow(name="dispatch-chunks", flow_run_name="dispatch")
def dispatch_chunks(chunk_videos: int = 50) -> int:
    """Create runs of validate-chunk: 1.2 per chunk that the workers online can take, none when the queue is empty.

    Args:
        chunk_videos: Videos per claim, as PARQUET_SHARD_SIZE on the workers; decides how many chunks are left.
    """
    created = create_runs(read_workload(open_control_services().engine), chunk_videos=chunk_videos)
    get_run_logger().info(
        "created %d runs of validate-chunk", created, extra={"event": "runs_dispatched", "runs_created": created}
    )
    return created
