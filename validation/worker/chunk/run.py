"""One chunk from claim to commit in a plain loop: the whole job without an orchestrator."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from validation.domain import Progress
from validation.worker.chunk.context import ChunkContext, LeasedChunk
from validation.worker.chunk.runner import GroupIncomplete


def run_chunk(session: ChunkContext, *, size: int | None = None) -> Progress | None:
    """Claim a chunk and see it through. None: nothing was claimable. One attempt at everything, no retries."""
    settings = session.settings
    claim = session.claim(uuid4(), flow_run_id=None, size=size or settings.chunk_videos, languages=settings.languages)
    if claim is None:
        return None
    with session.hold(claim, flow_run_id=None) as held:
        _score_ahead(held)
        held.write_shard()
        held.commit()
    return held.work.progress()


def _score_ahead(held: LeasedChunk) -> None:
    work = held.work
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="look-ahead") as pool:
        ahead = [pool.submit(work.fetch_group, number) for number in range(len(work.groups))]
        try:
            for number, fetched in enumerate(ahead):
                work.room.advance(number)
                try:
                    fetched.result()
                except GroupIncomplete as incomplete:
                    work.give_up_group(number, incomplete)
                work.score_group(number, check=held.lease.require)
        finally:
            work.stop()  # a fetcher may be waiting for room that nobody will free
