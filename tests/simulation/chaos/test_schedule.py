"""A chaos run can be repeated, and leaves no kind of fault out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from simulation.chaos.schedule import LASTS_S, LEASE_S, ROUND_S, FaultKind, plan_faults

SEEDS = st.integers(min_value=0, max_value=2**32)
MINUTES = st.integers(min_value=1, max_value=30)


@given(SEEDS, MINUTES)
def test_equal_seeds_make_equal_plans(seed, minutes):
    """What a run found can be looked for again."""
    assert plan_faults(seed, duration_s=minutes * 60, boxes=3) == plan_faults(seed, duration_s=minutes * 60, boxes=3)


def test_other_seeds_make_other_plans():
    """More seeds see more."""
    orders = {tuple(fault.kind for fault in plan_faults(seed, duration_s=120, boxes=3)) for seed in range(20)}
    assert len(orders) == 20


@given(SEEDS, MINUTES)
def test_every_kind_of_fault_comes_once_a_round(seed, minutes):
    """A long run favours nothing; one shorter than a round leaves out the fault that lasts for half of it."""
    rounds = max(1, round(minutes * 60 / ROUND_S))
    plan = plan_faults(seed, duration_s=minutes * 60, boxes=3)
    left_out = {FaultKind.LOSE_PREFECT} if minutes * 60 < ROUND_S else set()
    assert Counter(fault.kind for fault in plan) == dict.fromkeys(set(FaultKind) - left_out, rounds)


@given(SEEDS, MINUTES, st.integers(min_value=1, max_value=5))
def test_faults_come_in_order_strike_a_box_that_exists_and_end_in_time(seed, minutes, boxes):
    """When the time is up, nothing is broken any more by the run's own hand."""
    plan = plan_faults(seed, duration_s=minutes * 60, boxes=boxes)
    assert plan == sorted(plan, key=lambda fault: fault.at_s)
    for fault in plan:
        assert 0 <= fault.at_s <= fault.over_s <= minutes * 60 + 1e-6
        assert 0 <= fault.box < boxes


def test_what_is_said_to_outlast_the_lease_does():
    """A box that comes back within its lease and one that comes back after it are different faults."""
    assert LASTS_S[FaultKind.FREEZE_BOX][1] < LEASE_S
    for kind in (FaultKind.FREEZE_BOX_LONG, FaultKind.FREEZE_FLOW, FaultKind.FREEZE_CALL, FaultKind.LOSE_BOX):
        assert LASTS_S[kind][0] > LEASE_S
