"""Network faults are drawn with the shares of the profile, repeatably per seed."""

from collections import Counter
from random import Random

import pytest

from simulation.chaos.network_faults import NONE, SEVERE, NetworkFault, draw_network_fault, read_profile, write_profile


def test_empty_profile_draws_no_fault():
    """With the profile `NONE` the proxy only forwards."""
    assert {draw_network_fault(NONE, Random(seed)) for seed in range(100)} == {None}


def test_every_fault_is_drawn_with_its_share():
    """Over 20,000 draws each fault is within one percentage point of its share."""
    random = Random(1)
    drawn = Counter(draw_network_fault(SEVERE, random) for _ in range(20_000))
    for fault, share in SEVERE.items():
        assert drawn[fault] / 20_000 == pytest.approx(share, abs=0.01)
    assert drawn[None] / 20_000 == pytest.approx(1 - sum(SEVERE.values()), abs=0.01)


def test_equal_seeds_draw_equal_faults():
    """A run can be repeated."""
    first, second = Random(5), Random(5)
    assert [draw_network_fault(SEVERE, first) for _ in range(100)] == [
        draw_network_fault(SEVERE, second) for _ in range(100)
    ]


def test_profile_round_trips_through_its_file(tmp_path):
    """The profile that the run writes is the one that the proxy reads, and no temporary file is left."""
    write_profile(tmp_path / "profile.json", {NetworkFault.TRUNCATED_RESPONSE: 0.25})
    assert read_profile(tmp_path / "profile.json") == {NetworkFault.TRUNCATED_RESPONSE: 0.25}
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]
