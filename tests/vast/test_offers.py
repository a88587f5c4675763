"""Offers are filtered by the operator's bounds and ranked by their expected cost for the work."""

from dataclasses import replace

import pytest

from tests.support.fleet_builders import make_offer
from validation.errors import BadInput
from validation.vast.listings import Offer, OfferUnreadable, SearchResult
from validation.vast.offer_filter import (
    OfferFilter,
    boot_timeout_s,
    expected_usd_per_1000_segments,
    explain_no_offers,
    rank_offers,
)

BOUNDS = OfferFilter()


def test_default_filter_is_the_users():
    """RTX 3090 or 4090, 50 GB of disk, 200 Mb/s down: as the search sends it."""
    query = BOUNDS.query(banned_machines=[3, 1])
    assert query["gpu_name"] == {"in": ["RTX 3090", "RTX 4090"]}
    assert (query["disk_space"], query["inet_down"]) == ({"gte": 50.0}, {"gte": 200.0})
    assert query["machine_id"] == {"notin": [1, 3]}


@pytest.mark.parametrize(
    ("field", "value"),
    [("gpu_name", "RTX 2060"), ("num_gpus", 4), ("verified", False), ("disk_space", 49.9), ("inet_down", 199.0),
     ("inet_down_cost", 0.026), ("reliability", 0.9), ("cuda_max_good", 12.8),
     ("cpu_cores_effective", 2.0), ("cpu_ram", 15_999),
     ("duration", 3600.0)],
)  # fmt: skip
def test_every_bound_is_checked_again(field, value):
    """The vendor's searches return rows that break their filter."""
    good = make_offer(1)
    assert BOUNDS.rejection_reason(good) is None
    assert BOUNDS.rejection_reason(replace(good, **{field: value})) == field


def test_price_includes_traffic():
    """The vendor's dollars per hour exclude traffic, which on an expensive line costs more than the GPU."""
    dear = replace(make_offer(1), dph_total=0.5, inet_down_cost=0.0099)
    assert dear.usd_per_hour == pytest.approx(0.5 + 15 * 0.0099)
    assert BOUNDS.rejection_reason(dear) == "usd_per_hour"


def test_offers_are_ranked_by_expected_cost():
    """A faster GPU at a higher price, or a more reliable machine, can be better value; a machine counts once."""
    slow = make_offer(1, usd=0.20)
    fast = replace(make_offer(2, usd=0.30), gpu_name="RTX 4090")
    shaky = replace(make_offer(3, usd=0.16), reliability=0.96)
    slice_of_slow = replace(slow, id=4, dph_total=0.25)
    ranked = rank_offers([shaky, slice_of_slow, slow, fast], BOUNDS, {})
    assert [offer.id for offer in ranked] == [2, 1, 3]
    assert [offer.id for offer in rank_offers([slow, fast], BOUNDS, {"RTX 4090": 9.0})] == [1, 2]


def test_expected_cost_is_dollars_per_1000_segments():
    """By hand: $0.289 per hour with traffic, 11 segments per second, 45 % of rentals that work."""
    offer = replace(make_offer(1, usd=0.25), inet_down_cost=0.0026)
    by_hand = (0.25 + 15 * 0.0026 + 10 * 0.0026 / 12) / (11 * 3600 / 1000) / 0.45
    assert expected_usd_per_1000_segments(offer, {}) == pytest.approx(by_hand)


def test_boot_timeout_is_at_most_twenty_minutes():
    """Twice the pull at the machine's own speed, and two minutes."""
    assert boot_timeout_s(replace(make_offer(1), inet_down=1000.0)) == 280
    assert boot_timeout_s(replace(make_offer(1), inet_down=60.0)) == 1200


def test_row_with_missing_fields_is_no_offer():
    """A field that decides must be there and be a number."""
    row = {name: getattr(make_offer(1), name) for name in Offer.__dataclass_fields__} | {"verification": "verified"}
    assert Offer.parse(row) == make_offer(1)
    for hole in ({"inet_down": None}, {"dph_total": "free"}):
        with pytest.raises(OfferUnreadable, match=next(iter(hole))):
            Offer.parse(row | hole)


def test_explanation_of_an_empty_search():
    assert "the cheapest costs $0.939" in explain_no_offers(SearchResult((make_offer(1, usd=0.9),)), BOUNDS)
    assert "has no RTX 3090 or RTX 4090" in explain_no_offers(SearchResult(), BOUNDS)


def test_unreadable_offers_are_not_an_empty_market():
    """If the vendor renames a field, the message counts the offers and names the field."""
    rows = [{name: getattr(make_offer(n), name) for name in Offer.__dataclass_fields__} for n in range(3)]
    for row in rows:
        del row["cpu_cores_effective"]
    found = SearchResult.parse([*rows, "no row"])
    assert (len(found), found.unreadable) == (0, {"cpu_cores_effective": 3, "id": 1})
    sentence = explain_no_offers(found, BOUNDS)
    assert "4 offers were found and none could be read" in sentence
    assert "cpu_cores_effective (3), id (1)" in sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"gpu_names": ()}, "names no GPU"), ({"disk_gb": -1}, "disk_gb is -1"), ({"min_reliability": 98}, "at most 1")],
)
def test_impossible_filter_is_refused(given, sentence):
    with pytest.raises(BadInput, match=sentence):
        OfferFilter(**given)


def test_filter_survives_the_ledger():
    """A filter stored as JSON is read back equal, and unknown fields are ignored."""
    bounds = OfferFilter(gpu_names=("RTX 4090",), max_usd_per_hour=0.5)
    assert OfferFilter.from_json(bounds.to_json() | {"unheard_of": 1}) == bounds
