import threading

import pytest

from validation.worker.chunk.prefetch import ChunkStopped, PrefetchLimiter


def acquires(limiter: PrefetchLimiter, group: int) -> threading.Thread:
    thread = threading.Thread(target=limiter.acquire, args=(group,), daemon=True)
    thread.start()
    return thread


def test_the_group_in_hand_never_waits():
    """Were its last video to wait for room that only its own scoring frees, nothing would ever move again."""
    limiter = PrefetchLimiter(max_videos=1, max_bytes=1)
    for _ in range(10):
        limiter.acquire(0)
        limiter.add_bytes(1000)


def test_later_groups_wait_for_room_in_videos():
    """No more videos than allowed are decoded ahead; one that leaves lets one in."""
    limiter = PrefetchLimiter(max_videos=2, max_bytes=1000)
    limiter.acquire(1)
    limiter.acquire(1)
    third = acquires(limiter, 1)
    third.join(0.05)
    assert third.is_alive()
    limiter.release(0)
    third.join(5)
    assert not third.is_alive()


def test_later_groups_wait_for_room_in_bytes():
    """Few large videos fill the room as many small ones do."""
    limiter = PrefetchLimiter(max_videos=100, max_bytes=1000)
    limiter.acquire(1)
    limiter.add_bytes(1000)
    second = acquires(limiter, 1)
    second.join(0.05)
    assert second.is_alive()
    limiter.release(1000)
    second.join(5)
    assert not second.is_alive()
    assert limiter.held_bytes == 0


def test_a_group_that_comes_to_hand_is_let_in():
    """What waited while it was ahead does not wait once it is next."""
    limiter = PrefetchLimiter(max_videos=1, max_bytes=1000)
    limiter.acquire(0)
    waiting = acquires(limiter, 1)
    waiting.join(0.05)
    assert waiting.is_alive()
    limiter.set_head(1)
    waiting.join(5)
    assert not waiting.is_alive()


def test_stopping_turns_everybody_away():
    """A chunk that ends leaves no fetcher waiting."""
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
