"""What an arena's room must keep to."""

from hypothesis import given
from hypothesis import strategies as st

from validation.inference.shared_memory import FreeList

CAPACITY = 50


@given(st.lists(st.one_of(st.integers(1, 30), st.tuples(st.integers(0, 9))), max_size=60))
def test_no_two_hold_the_same_sample_and_what_is_given_back_is_free(steps):
    """A number takes so many samples, a tuple gives back what was taken by that place. Nothing overlaps, nothing that
    would fit is refused, and at the end all of it is one gap again."""
    room, held = FreeList(CAPACITY), []
    for step in steps:
        if isinstance(step, tuple):
            if held:
                room.give(*held.pop(step[0] % len(held)))
            continue
        taken = {sample for offset, samples in held for sample in range(offset, offset + samples)}
        offset = room.take(step)
        if offset is None:
            runs = [all(at + n not in taken for n in range(step)) for at in range(CAPACITY - step + 1)]
            assert not any(runs)
        else:
            wanted = range(offset, offset + step)
            assert wanted.start >= 0
            assert wanted.stop <= CAPACITY
            assert taken.isdisjoint(wanted)
            held.append((offset, step))
    for one in held:
        room.give(*one)
    assert room.take(CAPACITY) == 0
