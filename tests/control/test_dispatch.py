"""How many flow runs a dispatch creates."""

from hypothesis import given
from hypothesis import strategies as st

from validation.control.dispatch import plan_runs
from validation.ledger.queries import Workload

COUNTS = st.integers(0, 600_000)


@given(COUNTS, st.integers(0, 300), st.integers(0, 300), COUNTS, st.integers(1, 100))
def test_runs_never_outnumber_slots_or_chunks(videos, chunks, slots, active, size):
    """Created or active, there are never more runs than two per slot before a chunk was measured, nor than chunks."""
    new = plan_runs(Workload(videos, chunks, slots), active_runs=active, chunk_videos=size, period_s=120)
    assert new >= 0
    if new:
        assert active + new <= slots * 2
        assert active + new <= videos / size + 1 + chunks


@given(st.integers(1, 600_000), st.integers(1, 300))
def test_every_slot_finds_a_run_while_there_is_work(videos, slots):
    """And more runs wait."""
    new = plan_runs(Workload(videos, 0, slots), active_runs=0, chunk_videos=1, period_s=120)
    assert new >= min(slots, videos)


def test_dispatching_twice_creates_nothing_twice():
    """The runs that the first tick created count in the second."""
    workload = Workload(claimable_videos=1000, open_chunks=0, slots_online=10)
    first = plan_runs(workload, active_runs=0, chunk_videos=50, period_s=120)
    assert (first, plan_runs(workload, active_runs=first, chunk_videos=50, period_s=120)) == (20, 0)


@given(st.floats(2, 5000), st.integers(1, 300), st.floats(10, 600))
def test_slots_find_work_for_two_periods_at_the_measured_rate(chunk_s, slots, period_s):
    """Whatever a chunk takes, no slot runs out of runs although the dispatcher misses one period."""
    workload = Workload(10**7, 0, slots, chunk_s=chunk_s)
    new = plan_runs(workload, active_runs=0, chunk_videos=1, period_s=period_s)
    assert (new - slots) * chunk_s >= slots * 2 * period_s - 1e-3 * slots


def test_an_empty_queue_gets_no_runs():
    """Nothing claimable: runs that hold chunks are enough."""
    assert plan_runs(Workload(0, 3, 200), active_runs=3, chunk_videos=50, period_s=120) == 0


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 100))
def test_crash_suspects_count_as_small_chunks(fresh, suspects, alone, size):
    """Videos of a crashed chunk are claimed in five small chunks, then alone: each chunk finds a run."""
    workload = Workload(fresh + suspects + alone, 0, 10_000, suspects=suspects, isolated_suspects=alone)
    new = plan_runs(workload, active_runs=0, chunk_videos=size, period_s=120)
    assert new >= fresh / size + suspects / max(size / 5, 1) + alone
