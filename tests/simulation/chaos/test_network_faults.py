"""Mishaps come as often as the weather says, and in the same order every time."""

from collections import Counter
from random import Random

import pytest

from simulation.chaos.network_faults import NONE, SEVERE, NetworkFault, draw_network_fault, read_profile, write_profile


def test_in_calm_weather_nothing_happens():
    """The line is then as good as none."""
    assert {draw_network_fault(NONE, Random(seed)) for seed in range(100)} == {None}


def test_every_mishap_has_its_share():
    """Each comes as often as its share says."""
    random = Random(1)
    drawn = Counter(draw_network_fault(SEVERE, random) for _ in range(20_000))
    for mishap, share in SEVERE.items():
        assert drawn[mishap] / 20_000 == pytest.approx(share, abs=0.01)
    assert drawn[None] / 20_000 == pytest.approx(1 - sum(SEVERE.values()), abs=0.01)


def test_equal_seeds_draw_equal_mishaps():
    """What a run found can be looked for again."""
    first, second = Random(5), Random(5)
    assert [draw_network_fault(SEVERE, first) for _ in range(100)] == [
        draw_network_fault(SEVERE, second) for _ in range(100)
    ]


def test_weather_survives_its_file(tmp_path):
    """What the run writes is what the line reads."""
    write_profile(tmp_path / "weather.json", {NetworkFault.CUT_ANSWER: 0.25})
    assert read_profile(tmp_path / "weather.json") == {NetworkFault.CUT_ANSWER: 0.25}
    assert [path.name for path in tmp_path.iterdir()] == ["weather.json"]
