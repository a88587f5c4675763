import threading

import pytest

from validation.worker.chunk.prefetch import PrefetchLimiter, Stopped


def enters(room: PrefetchLimiter, group: int) -> threading.Thread:
    thread = threading.Thread(target=room.enter, args=(group,), daemon=True)
    thread.start()
    return thread


def test_the_group_in_hand_never_waits():
    """Were its last video to wait for room that only its own scoring frees, nothing would ever move again."""
    room = PrefetchLimiter(max_videos=1, max_bytes=1)
    for _ in range(10):
        room.enter(0)
        room.fill(1000)


def test_later_groups_wait_for_room_in_videos():
    """No more videos than allowed are decoded ahead; one that leaves lets one in."""
    room = PrefetchLimiter(max_videos=2, max_bytes=1000)
    room.enter(1)
    room.enter(1)
    third = enters(room, 1)
    third.join(0.05)
    assert third.is_alive()
    room.leave(0)
    third.join(5)
    assert not third.is_alive()


def test_later_groups_wait_for_room_in_bytes():
    """Few large videos fill the room as many small ones do."""
    room = PrefetchLimiter(max_videos=100, max_bytes=1000)
    room.enter(1)
    room.fill(1000)
    second = enters(room, 1)
    second.join(0.05)
    assert second.is_alive()
    room.leave(1000)
    second.join(5)
    assert not second.is_alive()
    assert room.peak_bytes == 1000


def test_a_group_that_comes_to_hand_is_let_in():
    """What waited while it was ahead does not wait once it is next."""
    room = PrefetchLimiter(max_videos=1, max_bytes=1000)
    room.enter(0)
    waiting = enters(room, 1)
    waiting.join(0.05)
    assert waiting.is_alive()
    room.advance(1)
    waiting.join(5)
    assert not waiting.is_alive()


def test_stopping_turns_everybody_away():
    """A chunk that ends leaves no fetcher waiting."""
    room = PrefetchLimiter(max_videos=1, max_bytes=1)
    room.enter(0)
    outcome: list[type] = []

    def wait() -> None:
        try:
            room.enter(5)
        except Stopped as stopped:
            outcome.append(type(stopped))

    waiting = threading.Thread(target=wait)
    waiting.start()
    room.stop()
    waiting.join(5)
    assert outcome == [Stopped]
    with pytest.raises(Stopped):
        room.enter(0)
