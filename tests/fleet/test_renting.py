"""Renting: an intent before every request, one machine for every intent, and never above a cap."""

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


@pytest.mark.parametrize("fault", ["commit_then_drop", "commit_then_504", "slow"])
def test_a_create_that_took_effect_unseen_is_adopted(world, fault):
    """Its slot is not rented twice; the next listing shows the label, and the machine serves."""
    world.fake.connection.play_next("create", fault)
    world.want(1)
    assert world.tick().done == {"unknown": 1}
    assert world.states() == {"requested": 1}
    assert world.tick().done == {"adopted": 1}
    world.ticks(10)
    assert world.states() == {"working": 1}
    assert len(world.cloud.rentals) == 1


def test_a_create_that_came_to_nothing_is_proven_absent_first(world):
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


def test_an_intent_stands_in_the_ledger_before_the_request_leaves(world, monkeypatch):
    """With the label that the request bears, its offer and its price: whatever happens then, it is known."""
    rows = []
    ask = world.fake.handle

    def handle(request):
        if request.method == "PUT" and "/asks/" in request.path:
            rows.append((request.body["label"], request.path, read_rented_instances(world.ledger, FLEET)))
        return ask(request)

    monkeypatch.setattr(world.fake, "handle", handle)
    world.want(2)
    world.tick()
    assert len(rows) == 2
    for label, path, machines in rows:
        (asked,) = [machine for machine in machines if machine.label == label]
        assert (asked.state, asked.instance_id) == ("requested", None)
        assert path == f"/api/v0/asks/{asked.offer_id}/"
        assert asked.usd_per_hour > 0


def test_a_refused_create_that_left_a_machine_is_destroyed(world):
    """The vendor said no, and bills all the same: its id is in the refusal."""
    world.fake.connection.play_next("create", "commit_then_refuse")
    world.want(1)
    report = world.tick()
    assert report.done == {"refused": 1, "destroyed": 1}
    assert "it must be destroyed" in report.notes[0]
    assert world.cloud.living() == []
    world.ticks(14)
    assert world.states() == {"working": 1}
    assert read_bans(world.ledger) == [], "the machine is not at fault"


def test_an_offer_that_has_gone_is_replaced_by_the_next_best_at_once(world, monkeypatch):
    """Somebody else was faster between search and request: no second search, and no machine less."""
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


def test_an_account_at_its_spend_limit_rents_no_more_and_says_why(world):
    """One refusal is enough for a tick; machines and offers are not blamed."""
    world.play(FailureMix(strict=True, spend_limit_usd_per_hour=0.3))
    world.want(5)
    report = world.tick()
    assert 0 < len(world.cloud.rentals) < 4
    world.ticks(8)
    assert "spend rate limit" in world.tick().problem
    assert read_bans(world.ledger) == []
    assert report.done["rented"] == len(world.cloud.rentals)


def test_the_price_an_hour_is_never_exceeded(world):
    """Neither by plan nor in fact: the vendor's own sum stays below the cap."""
    world.want(50, usd_per_hour=2.0)
    for _ in range(10):
        report = world.tick()
        assert report.usd_per_hour <= 2.0
    assert world.cloud.peak_usd_per_hour <= 2.0
    assert "above its cap of $2.00" in report.problem


def test_the_budget_is_never_exceeded(world):
    """The fleet is drained while there is money to drain it, and ends by itself."""
    world.want(10, usd=2.0)
    ticks = 0
    while (world.tick().by_state or ticks < 10) and ticks < 200:
        ticks += 1
    assert world.cloud.living() == []
    assert world.cloud.billed_usd <= 2.0
    assert read_budget(world.ledger, FLEET).spent_usd <= 2.0
    assert read_budget(world.ledger, FLEET).spent_usd > 1.0, "and most of it is used"


def test_a_filter_that_nothing_meets_says_what_the_cheapest_costs(world):
    """One sentence for the operator, and nothing is rented."""
    world.want(3, max_usd_per_hour=0.01)
    report = world.tick()
    assert "the cheapest costs $0." in report.problem
    assert "raise --max-price" in report.problem
    assert world.cloud.rentals == {}


def test_an_account_without_credit_rents_nothing(world):
    """The sentence comes from the account, not from the market."""
    world.cloud.credit_usd = 0.0
    world.want(3)
    report = world.tick()
    assert "$0.00 are left" in report.problem
    assert world.cloud.rentals == {}


def test_a_wrong_key_rents_nothing(world):
    """It ends the tick with one sentence, and the turn is free again."""
    world.want(3)
    context = ReconcileContext(world.ledger, client_of(world.fake, "wrong"), FLEET, dict)
    with pytest.raises(VastKeyRefused):
        reconcile(context)
    assert world.tick().done == {"rented": 3}


def test_boxes_that_cannot_be_told_enough_are_not_rented(world):
    """And yet the machines that are there are looked after."""
    world.want(2)
    world.tick()
    world.cloud.stop(world.cloud.living()[0])
    context = replace(world.context, environment=lambda: read_box_environment({}))
    world.pass_time(300)
    assert reconcile(context).done["destroyed"] == 1
    world.pass_time(300)
    assert "BOX_DATABASE_URL is not set" in reconcile(context).problem
    assert len(world.cloud.rentals) == 2
