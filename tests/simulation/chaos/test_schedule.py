"""The schedule of a chaos run is repeatable and contains every kind of fault."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from simulation.chaos.schedule import DURATION_S, LEASE_S, ROUND_S, FaultKind, plan_faults

SEEDS = st.integers(min_value=0, max_value=2**32)
MINUTES = st.integers(min_value=1, max_value=30)


@given(SEEDS, MINUTES)
def test_equal_seeds_make_equal_plans(seed, minutes):
    """A run can be repeated by its seed."""
    assert plan_faults(seed, duration_s=minutes * 60, boxes=3) == plan_faults(seed, duration_s=minutes * 60, boxes=3)


def test_different_seeds_make_different_plans():
    """Twenty seeds give twenty orders of faults."""
    orders = {tuple(fault.kind for fault in plan_faults(seed, duration_s=120, boxes=3)) for seed in range(20)}
    assert len(orders) == 20


@given(SEEDS, MINUTES)
def test_every_kind_of_fault_comes_once_per_round(seed, minutes):
    """Every kind is equally frequent; a run shorter than a round leaves out `LOSE_PREFECT`."""
    rounds = max(1, round(minutes * 60 / ROUND_S))
    plan = plan_faults(seed, duration_s=minutes * 60, boxes=3)
    left_out = {FaultKind.LOSE_PREFECT} if minutes * 60 < ROUND_S else set()
    assert Counter(fault.kind for fault in plan) == dict.fromkeys(set(FaultKind) - left_out, rounds)


@given(SEEDS, MINUTES, st.integers(min_value=1, max_value=5))
def test_faults_are_ordered_and_end_within_the_run(seed, minutes, boxes):
    """Each fault has an existing box and ends before the run does."""
    plan = plan_faults(seed, duration_s=minutes * 60, boxes=boxes)
    assert plan == sorted(plan, key=lambda fault: fault.at_s)
    for fault in plan:
        assert 0 <= fault.at_s <= fault.at_s + fault.duration_s <= minutes * 60 + 1e-6
        assert 0 <= fault.box < boxes


def test_durations_are_on_the_intended_side_of_the_lease():
    """A box that returns within its lease and one that returns after it are different faults."""
    assert DURATION_S[FaultKind.FREEZE_BOX][1] < LEASE_S
    for kind in (FaultKind.FREEZE_BOX_LONG, FaultKind.FREEZE_FLOW, FaultKind.FREEZE_CALL, FaultKind.LOSE_BOX):
        assert DURATION_S[kind][0] > LEASE_S
