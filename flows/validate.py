"""Validate one chunk of videos: claim the chunk, prefetch and score groups of videos, write the shard, commit."""

from typing import Annotated, TypeAlias
from uuid import UUID, uuid4

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from blocks.box import open_box_services
from tasks.chunk import (
    claim_chunk,
    commit_chunk,
    describe_no_claim,
    describe_outcome,
    fetch_group,
    name_before_claim,
    rename_flow_run,
    score_group,
    write_shard,
)
from validation.worker.chunk.context import LeasedChunk
from validation.worker.chunk.errors import report_outcome

ChunkSize: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
Language: TypeAlias = Annotated[str, Field(min_length=2, max_length=35)]
"""A language tag. BCP 47 asks programs to accept tags of up to 35 characters."""


@flow(
    name="validate-chunk",
    flow_run_name=name_before_claim,
    # Two groups may be fetched at once; the chunk limits the videos and bytes that are prefetched.
    task_runner=ThreadPoolTaskRunner(max_workers=2),
)
def validate_chunk(size: ChunkSize | None = None, languages: list[Language] | None = None) -> State[None]:
    """Score every segment of up to `size` transcribed videos and commit the rows as one parquet shard.

    Args:
        size: Videos to claim, at most 1000. If empty, the setting of the worker decides (PARQUET_SHARD_SIZE, 50).
        languages: Only claim videos of these languages. If empty, the setting of the worker decides.
    """
    with report_outcome():
        return process_chunk(size, languages)


def process_chunk(size: int | None, languages: list[str] | None) -> State[None]:
    """Claim, process and commit one chunk; returns the final state of the flow run."""
    context, run_id = open_box_services(), UUID(flow_run.id)
    claim = claim_chunk(
        context,
        uuid4(),
        flow_run_id=run_id,
        size=size or context.settings.chunk_videos,
        languages=languages or list(context.settings.languages),
    )
    if claim is None:
        return Completed(message=describe_no_claim(context))
    with context.open_chunk(claim, flow_run_id=run_id) as chunk:
        rename_flow_run(claim)
        score_groups(chunk)
        write_shard(chunk)
        commit_chunk(chunk)
    return Completed(message=describe_outcome(chunk))


def score_groups(chunk: LeasedChunk) -> None:
    """Score the groups in order while later groups are being fetched.

    If the fetch of a group fails, the group is scored without the missing videos (see ``fail_missing``).
    """
    fetches = [fetch_group.submit(chunk, number) for number in range(len(chunk.runner.groups))]
    for number, fetch in enumerate(fetches):
        chunk.runner.prefetch.set_head(number)
        fetched = fetch.result(raise_on_failure=False)
        if isinstance(fetched, Exception):
            chunk.runner.fail_missing(number, fetched)
        score_group(chunk, number)
