"""Validate one chunk of videos: claim, fetch ahead, score, write a shard, commit."""

from uuid import UUID, uuid4

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from blocks.session import open_session
from tasks.chunk import claim_chunk, commit_chunk, fetch_group, score_group, write_shard
from tasks.naming import describe_no_claim, describe_outcome, name_after_claim
from validation.worker.chunk.context import LeasedChunk


@flow(
    name="validate-chunk",
    flow_run_name="validate a chunk",
    # Two groups may be on their way at once; how far they run ahead is bounded in videos and bytes by the chunk.
    task_runner=ThreadPoolTaskRunner(max_workers=2),
)
def validate_chunk(size: int | None = None, languages: list[str] | None = None) -> State[None]:
    """Check every segment of up to `size` transcribed videos and commit what was found as one parquet shard.

    Args:
        size: Videos to claim. Left empty, the worker's own setting decides (PARQUET_SHARD_SIZE, 50).
        languages: Only claim videos of these languages. Left empty, the worker's own setting decides.
    """
    session, run_id = open_session(), UUID(flow_run.id)
    claim = claim_chunk(
        session,
        uuid4(),
        flow_run_id=run_id,
        size=size or session.settings.chunk_videos,
        languages=languages or list(session.settings.languages),
    )
    if claim is None:
        return Completed(message=describe_no_claim(session))
    with session.hold(claim, flow_run_id=run_id) as held:
        name_after_claim(claim)
        score_ahead(held)
        write_shard(held)
        commit_chunk(held)
    return Completed(message=describe_outcome(held))


def score_ahead(held: LeasedChunk) -> None:
    """Score the groups in order while later ones are being fetched."""
    ahead = [fetch_group.submit(held, number) for number in range(len(held.work.groups))]
    for number, fetching in enumerate(ahead):
        held.work.room.advance(number)
        fetched = fetching.result(raise_on_failure=False)
        if isinstance(fetched, Exception):
            held.work.give_up_group(number, fetched)
        score_group(held, number)
