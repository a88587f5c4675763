"""Keep a little more work waiting than the workers online can hold."""

from prefect import flow

from blocks.session import open_control
from tasks.control import create_runs
from validation.ledger.queries import read_workload


@flow(name="dispatch-chunks", flow_run_name="dispatch")
def dispatch_chunks(chunk_videos: int = 50) -> int:
    """Create runs of validate-chunk: 1.2 for each chunk that the workers online can hold, none when the queue is empty.

    Args:
        chunk_videos: Videos a run claims, as PARQUET_SHARD_SIZE on the workers; decides how many chunks are left.
    """
    return create_runs(read_workload(open_control().engine), chunk_videos=chunk_videos)
