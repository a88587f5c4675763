"""A chaos run fails if the fleet stood still while it could have worked."""

from simulation.chaos.standstill import MAX_STANDSTILL_S, StallDetector


def watch(*seen: tuple[float, int, bool, bool]) -> StallDetector:
    watched = StallDetector()
    for now_s, claims, waiting, up in seen:
        watched.observe(now_s, claims=claims, is_work_waiting=waiting, is_worker_up=up)
    return watched


def test_standstill_is_the_time_without_a_claim_while_work_waits():
    """From the last claim to the next one."""
    watched = watch((0, 1, True, True), (100, 1, True, True), (190, 1, True, True), (191, 2, True, True))
    assert watched.longest_s == 190
    (violation,) = watched.violations()
    assert "190 s" in violation


def test_claims_empty_queues_and_missing_workers_are_no_standstill():
    """Each begins the time anew."""
    gap = MAX_STANDSTILL_S - 1
    claims = watch(*((gap * n, n, True, True) for n in range(9)))
    idle = watch(*((gap * n, 0, n % 2 == 0, True) for n in range(9)))
    down = watch(*((gap * n, 0, True, n % 2 == 0) for n in range(9)))
    assert [watched.violations() for watched in (claims, idle, down)] == [[], [], []]


def test_standstill_that_does_not_end_counts():
    """A fleet that never claims again stands still until the last look."""
    assert watch((0, 0, True, True), (1000, 0, True, True)).longest_s == 1000
