"""Renting: every request is recorded first, every record gets at most one box, and no cap is exceeded."""

from dataclasses import replace

import pytest

from simulation.fake_vast.failures import FailureMix
from tests.support.fleet_world import FLEET, World
from tests.support.vast_helpers import client_of
from validation.fleet.launch_spec import read_box_environment
from validation.fleet.reconcile import ReconcileContext, reconcile
from validation.ledger.fleet import (
    read_bans,
    read_budget,
    read_rented_instances,
)
from validation.vast.errors import VastKeyRefused


@pytest.fixture
def world(ledger) -> World:
    world = World(ledger)
    world.queue(100)
    return world


@pytest.mark.parametrize("failure", ["commit_then_drop", "commit_then_504", "slow"])
def test_create_with_lost_response_is_adopted_when_listed(world, failure):
    """Its slot is not rented twice; the next listing shows the label, and the box serves."""
    world.fake.connection.play_next("create", failure)
    world.want(1)
    assert world.tick().done == {"unknown": 1}
    assert world.states() == {"requested": 1}
    assert world.tick().done == {"adopted": 1}
    world.ticks(10)
    assert world.states() == {"working": 1}
    assert len(world.cloud.rentals) == 1


def test_unanswered_create_is_closed_after_three_listings(world):
    """Its money stays reserved for three complete listings; then its slot is rented again."""
    world.fake.connection.play_next("create", "reject_then_502")
    world.want(1)
    world.tick()
    reserved = read_budget(world.ledger, FLEET).usd_per_hour
    assert reserved > 0
    assert [world.tick().done for _ in range(2)] == [{}, {}]
    assert world.cloud.rentals == {}
    world.ticks(12)
    assert world.states() == {"working": 1}
    assert world.reasons() == {"never_rented": 1}


def test_rental_is_recorded_before_the_request_is_sent(world, monkeypatch):
    """With its label, offer and price, so that any outcome is known to the ledger."""
    recorded = []
    ask = world.fake.handle

    def handle(request):
        if request.method == "PUT" and "/asks/" in request.path:
            recorded.append((request.body["label"], request.path, read_rented_instances(world.ledger, FLEET)))
        return ask(request)

    monkeypatch.setattr(world.fake, "handle", handle)
    world.want(2)
    world.tick()
    assert len(recorded) == 2
    for label, path, boxes in recorded:
        (asked,) = [box for box in boxes if box.label == label]
        assert (asked.state, asked.instance_id) == ("requested", None)
        assert path == f"/api/v0/asks/{asked.offer_id}/"
        assert asked.usd_per_hour > 0


def test_instance_left_by_a_refused_create_is_destroyed(world):
    """The vendor refused and bills all the same: the refusal carries the instance's id."""
    world.fake.connection.play_next("create", "commit_then_refuse")
    world.want(1)
    report = world.tick()
    assert report.done == {"refused": 1, "destroyed": 1}
    assert "it must be destroyed" in report.notes[0]
    assert world.cloud.living() == []
    world.ticks(14)
    assert world.states() == {"working": 1}
    assert read_bans(world.ledger) == [], "the box is not at failure"


def test_gone_offer_is_replaced_by_the_next_best(world, monkeypatch):
    """The next offer is taken in the same tick, without a second search."""
    find = world.client.search

    def search_late(query):
        found = find(query)
        for offer in found[:40]:
            world.cloud.offers[offer.id]["rentable"] = False
        return found

    monkeypatch.setattr(world.client, "search", search_late)
    world.want(3)
    done = world.tick().done
    assert done["rented"] == 3
    assert done["offers_gone"] > 0
    assert sum(path == "/api/v0/bundles/" for _, path in world.fake.requests) == 1


def test_spend_limit_of_the_account_stops_renting(world):
    """The first refusal ends the renting of the tick; no machine is banned for it."""
    world.play(FailureMix(strict=True, spend_limit_usd_per_hour=0.3))
    world.want(5)
    report = world.tick()
    assert 0 < len(world.cloud.rentals) < 4
    world.ticks(8)
    assert "spend rate limit" in world.tick().problem
    assert read_bans(world.ledger) == []
    assert report.done["rented"] == len(world.cloud.rentals)


def test_price_per_hour_is_never_exceeded(world):
    """Neither the plan nor the vendor's own sum exceeds the cap."""
    world.want(50, usd_per_hour=2.0)
    for _ in range(10):
        report = world.tick()
        assert report.usd_per_hour <= 2.0
    assert world.cloud.peak_usd_per_hour <= 2.0
    assert "above its cap of $2.00" in report.problem


def test_budget_is_never_exceeded(world):
    """The fleet is drained while there is money to drain it, and ends by itself."""
    world.want(10, usd=2.0)
    ticks = 0
    while (world.tick().by_state or ticks < 10) and ticks < 200:
        ticks += 1
    assert world.cloud.living() == []
    assert world.cloud.billed_usd <= 2.0
    assert read_budget(world.ledger, FLEET).spent_usd <= 2.0
    assert read_budget(world.ledger, FLEET).spent_usd > 1.0, "and most of it is used"


def test_filter_without_offers_names_the_cheapest_price(world):
    """The operator gets one sentence with the cheapest price, and nothing is rented."""
    world.want(3, max_usd_per_hour=0.01)
    report = world.tick()
    assert "the cheapest costs $0." in report.problem
    assert "raise --max-price" in report.problem
    assert world.cloud.rentals == {}


def test_account_without_credit_rents_nothing(world):
    """The message names the account, not the market."""
    world.cloud.credit_usd = 0.0
    world.want(3)
    report = world.tick()
    assert "$0.00 are left" in report.problem
    assert world.cloud.rentals == {}


def test_wrong_key_rents_nothing(world):
    """The tick ends with one sentence, and the lock is free again."""
    world.want(3)
    context = ReconcileContext(world.ledger, client_of(world.fake, "wrong"), FLEET, dict)
    with pytest.raises(VastKeyRefused):
        reconcile(context)
    assert world.tick().done == {"rented": 3}


def test_nothing_is_rented_without_the_boxes_environment(world):
    """The boxes that exist are looked after all the same."""
    world.want(2)
    world.tick()
    world.cloud.stop(world.cloud.living()[0])
    context = replace(world.context, environment=lambda: read_box_environment({}))
    world.pass_time(300)
    assert reconcile(context).done["destroyed"] == 1
    world.pass_time(300)
    assert "BOX_DATABASE_URL is not set" in reconcile(context).problem
    assert len(world.cloud.rentals) == 2
