"""Tasks of the flow validate-chunk with their retry options, and the names of its flow runs."""

from typing import Any, TypedDict
from uuid import UUID

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from validation.domain import ChunkClaim, ShardReceipt
from validation.errors import BadInput, Transient
from validation.settings import load_settings
from validation.worker.chunk.context import ChunkContext, LeasedChunk
from validation.worker.chunk.runner import GroupReport


def is_retryable(_task: object, _run: object, state: Any) -> bool:
    """Return whether the error of a task is transient. A lost claim or a broken file is not: a retry cannot help."""
    return isinstance(state.data, Transient)


class StepOptions(TypedDict, total=False):
    """The Prefect options that the tasks of a chunk share."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any
    cache_policy: Any


STEP_OPTIONS = StepOptions(
    retries=4,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),  # 2, 4, 8, 16 s: 30 s in all, within a lease of 75 s
    retry_jitter_factor=0.5,  # a hundred boxes that lost the same service must not retry at once
    retry_condition_fn=is_retryable,
    cache_policy=NO_CACHE,  # every step has side effects: no call may return a cached result
)
"""The options of a chunk's tasks. Each task may be repeated: the chunk keeps the videos that an attempt completed."""

SAVING_STEP_OPTIONS = STEP_OPTIONS | StepOptions(retries=720, retry_delay_seconds=[2, 4, 5])
"""The options of the tasks that save scored videos. Each attempt first checks that the chunk still holds its lease.

During an outage of the ledger the lease expires, which ends the retries. During an outage of the object store alone the
retries end after an hour."""


def name_before_claim() -> str:
    """Return the name of a flow run without a chunk: it contains the worker id, if the settings are valid.

    A flow run that fails before its claim keeps this name.
    """
    try:
        return f"{load_settings().worker_id} · no chunk yet"
    except BadInput:  # the flow itself reports the invalid setting
        return "no chunk yet"


def rename_flow_run(claim: ChunkClaim) -> None:
    """Rename the flow run after its chunk: worker id, shard number, number of videos. An error is only logged."""
    name = f"{claim.worker_id} · shard {claim.shard_number:04d} · {len(claim.videos)} videos"
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("this flow run could not be renamed to %s: %s", name, error)


def describe_outcome(chunk: LeasedChunk) -> str:
    """Describe the outcome of a chunk: numbers of videos validated, failed and returned, and whether it drained."""
    done = chunk.runner.progress()
    back = len(chunk.runner.claim.videos) - done.videos_validated - done.videos_failed
    drained = " Drained on request." if chunk.runner.draining() else ""
    return (
        f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed, "
        f"{back} returned.{drained}"
    )


def describe_no_claim(context: ChunkContext) -> str:
    """Describe why a flow run got no chunk: its worker drains, or no video is waiting."""
    why = "this worker takes no new chunk, it drains" if context.draining() else "no transcribed video is waiting"
    return f"Nothing to claim: {why}."


@task(name="claim-chunk", task_run_name="claim up to {size} videos", **STEP_OPTIONS)
def claim_chunk(
    context: ChunkContext, chunk_id: UUID, *, flow_run_id: UUID, size: int, languages: list[str]
) -> ChunkClaim | None:
    """Claim videos under the token ``chunk_id``. A retry sends the same token and gets a claim whose reply was lost."""
    return context.claim(chunk_id, flow_run_id=flow_run_id, size=size, languages=languages)


@task(name="fetch-group", task_run_name="fetch group {number}", **STEP_OPTIONS)
def fetch_group(chunk: LeasedChunk, number: int) -> GroupReport:
    """Download and decode a group of videos; a retry fetches only the missing ones."""
    return chunk.runner.fetch_group(number)


@task(name="score-group", task_run_name="score group {number}", **STEP_OPTIONS)
def score_group(chunk: LeasedChunk, number: int) -> GroupReport:
    """Score a group of videos; a retry scores only the videos without rows."""
    return chunk.runner.score_group(number, ensure_held=chunk.lease.ensure_held)


@task(name="write-shard", task_run_name="write shard", **SAVING_STEP_OPTIONS)
def write_shard(chunk: LeasedChunk) -> ShardReceipt | None:
    """Encode the rows as a shard and upload it. A retry accepts an uploaded shard with the same bytes.

    Returns None if the chunk has no rows.
    """
    encoded = chunk.write_shard()
    return encoded.receipt if encoded else None


@task(name="commit-chunk", task_run_name="commit", **SAVING_STEP_OPTIONS)
def commit_chunk(chunk: LeasedChunk) -> None:
    """Commit the chunk in the ledger. A retry after a commit whose reply was lost changes nothing."""
    chunk.commit()
