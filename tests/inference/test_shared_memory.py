"""The allocator of an arena."""

from hypothesis import given
from hypothesis import strategies as st

from validation.inference.shared_memory import FreeList

CAPACITY = 50


@given(st.lists(st.one_of(st.integers(1, 30), st.tuples(st.integers(0, 9))), max_size=60))
def test_allocations_do_not_overlap_and_freed_samples_are_free_again(steps):
    """A step that is a number allocates so many samples, a tuple frees the allocation at that place. Allocations do
    not overlap, one that fits is not refused, and when all are freed the arena is one gap again."""
    free_list, held = FreeList(CAPACITY), []
    for step in steps:
        if isinstance(step, tuple):
            if held:
                free_list.free(*held.pop(step[0] % len(held)))
            continue
        taken = {sample for offset, samples in held for sample in range(offset, offset + samples)}
        offset = free_list.allocate(step)
        if offset is None:
            runs = [all(at + n not in taken for n in range(step)) for at in range(CAPACITY - step + 1)]
            assert not any(runs)
        else:
            allocated = range(offset, offset + step)
            assert allocated.start >= 0
            assert allocated.stop <= CAPACITY
            assert taken.isdisjoint(allocated)
            held.append((offset, step))
    for allocation in held:
        free_list.free(*allocation)
    assert free_list.allocate(CAPACITY) == 0
