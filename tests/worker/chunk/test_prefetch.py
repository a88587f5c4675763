"""The prefetch limiter: how far downloads run ahead of scoring."""

import threading

import pytest

from validation.worker.chunk.prefetch import ChunkStopped, PrefetchLimiter


def start_acquire(limiter: PrefetchLimiter, group: int) -> threading.Thread:
    """Acquire a place of the group in another thread."""
    thread = threading.Thread(target=limiter.acquire, args=(group,), daemon=True)
    thread.start()
    return thread


def test_head_group_never_waits():
    """The group that is scored next always gets a place; only scoring it could free one, so waiting would be a
    deadlock."""
    limiter = PrefetchLimiter(max_videos=1, max_bytes=1)
    for _ in range(10):
        limiter.acquire(0)
        limiter.add_bytes(1000)


def test_later_groups_wait_for_the_video_limit():
    """At most `max_videos` videos are fetched ahead; each release lets one more in."""
    limiter = PrefetchLimiter(max_videos=2, max_bytes=1000)
    limiter.acquire(1)
    limiter.acquire(1)
    third = start_acquire(limiter, 1)
    third.join(0.05)
    assert third.is_alive()
    limiter.release(0)
    third.join(5)
    assert not third.is_alive()


def test_later_groups_wait_for_the_byte_limit():
    """Few large videos fill the limit just as many small ones do."""
    limiter = PrefetchLimiter(max_videos=100, max_bytes=1000)
    limiter.acquire(1)
    limiter.add_bytes(1000)
    second = start_acquire(limiter, 1)
    second.join(0.05)
    assert second.is_alive()
    limiter.release(1000)
    second.join(5)
    assert not second.is_alive()
    assert limiter.held_bytes == 0


def test_waiting_group_proceeds_when_it_becomes_the_head():
    """A fetcher that waits for a later group proceeds once that group is scored next."""
    limiter = PrefetchLimiter(max_videos=1, max_bytes=1000)
    limiter.acquire(0)
    waiting = start_acquire(limiter, 1)
    waiting.join(0.05)
    assert waiting.is_alive()
    limiter.set_head(1)
    waiting.join(5)
    assert not waiting.is_alive()


def test_stop_ends_every_waiting_fetcher():
    """After the stop, fetchers that wait or come later get `ChunkStopped`."""
    limiter = PrefetchLimiter(max_videos=1, max_bytes=1)
    limiter.acquire(0)
    outcome: list[type] = []

    def wait() -> None:
        try:
            limiter.acquire(5)
        except ChunkStopped as stopped:
            outcome.append(type(stopped))

    waiting = threading.Thread(target=wait)
    waiting.start()
    limiter.stop()
    waiting.join(5)
    assert outcome == [ChunkStopped]
    with pytest.raises(ChunkStopped):
        limiter.acquire(0)
