"""A fleet in virtual time does what its operator wants, loses no money, and leaves nothing behind."""

from dataclasses import replace

import pytest
from fleet_world import FLEET, World
from ledger_steps import execute
from vast_steps import client_of

from validation.fleet.faults import VastKeyRefused
from validation.fleet.order import read_box_environment
from validation.fleet.reconcile import Desk, reconcile
from validation.ledger.fleet import FleetUnknown, read_bans, read_budget, read_machines, read_spend_check, take_turn

GOOD = {"ok": 1.0}


@pytest.fixture
def world(ledger) -> World:
    world = World(ledger)
    world.cloud.fates = GOOD
    world.queue(100)
    return world


def test_a_fleet_comes_up_works_and_goes(world):
    """Machines are rented up to the number wanted, accepted by their heartbeats, drained and destroyed."""
    world.want(5)
    assert world.tick().done == {"rented": 5}
    world.ticks(12)
    assert world.states() == {"working": 5}
    assert len(world.cloud.contracts) == 5
    world.dismiss()
    assert world.cloud.living() == []
    assert world.reasons() == {"surplus": 5}
    check = read_spend_check(world.ledger, FLEET)
    assert check.credit_fell_usd <= check.books_rose_usd


def test_a_settled_fleet_is_left_alone(world):
    """With nothing wrong and nothing new, ticks neither rent nor destroy, and do not even ask the market."""
    world.want(4)
    world.ticks(12)
    before = len(world.fake.requests)
    world.ticks(10)
    new = {path for _, path in world.fake.requests[before:]}
    assert new == {"/api/v1/instances/", "/api/v0/users/current"}


@pytest.mark.parametrize("fault", ["commit_then_drop", "commit_then_504", "slow"])
def test_a_create_that_took_effect_unseen_is_adopted(world, fault):
    """Its slot is not rented twice; the next listing shows the label, and the machine serves."""
    world.fake.faults.play_next("create", fault)
    world.want(1)
    assert world.tick().done == {"unknown": 1}
    assert world.states() == {"requested": 1}
    assert world.tick().done == {"adopted": 1}
    world.ticks(10)
    assert world.states() == {"working": 1}
    assert len(world.cloud.contracts) == 1


def test_a_create_that_came_to_nothing_is_proven_absent_first(world):
    """Its money stays reserved for three complete listings; then its slot is rented again."""
    world.fake.faults.play_next("create", "reject_then_502")
    world.want(1)
    world.tick()
    reserved = read_budget(world.ledger, FLEET).usd_per_hour
    assert reserved > 0
    assert [world.tick().done for _ in range(2)] == [{}, {}]
    assert world.cloud.contracts == {}
    world.ticks(12)
    assert world.states() == {"working": 1}
    assert world.reasons() == {"never_rented": 1}


def test_an_orphan_is_destroyed_and_a_stranger_is_not(world):
    """What bears our label and stands in no row must not bill; what bears another's is none of our business."""
    world.want(1)
    world.tick()
    prefix = read_budget(world.ledger, FLEET).label_prefix
    free = [number for number, offer in world.cloud.offers.items() if offer["rentable"]]
    image = {"image": "i", "env": {"WORKER_ID": "x"}}
    orphan = world.cloud.create(free[0], image | {"label": f"{prefix}9/x", "env": {"WORKER_ID": "o"}})
    rival = world.cloud.create(free[1], image | {"label": "vfleet/blue-00000000/1/x"})
    stranger = world.cloud.create(free[2], image | {"label": "my notebook", "env": {"WORKER_ID": "y"}})
    world.ticks(3)
    assert orphan.destroyed_at is not None
    world.dismiss()
    assert {rival.id, stranger.id} == {contract.id for contract in world.cloud.living()}


def test_an_incomplete_listing_rents_accepts_and_closes_nothing(world):
    """Blind, the fleet only destroys what it already knew must go."""
    world.want(3)
    world.tick()
    world.spoil({"wrong_total": 1.0}, ["list"])
    before = world.states()
    for _ in range(5):
        report = world.tick()
        assert (report.done, report.listing_complete) == ({}, False)
    assert world.states() == before
    assert "not complete" in report.notes[0]


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("stuck_loading", "never_booted"),
        ("oci_error", "runtime_failed"),
        ("exits_on_start", "stopped"),
        ("zombie_running", "silent"),
    ],
)
def test_a_machine_that_does_not_come_up_is_replaced_and_banned(world, fate, reason):
    """Each failure of the market by its name; the same machine is not rented again."""
    world.cloud.fates = {fate: 1.0}
    world.want(1)
    world.tick()
    (bad,) = read_machines(world.ledger, FLEET)
    world.cloud.fates = GOOD
    world.ticks(30)
    assert world.states() == {"working": 1}
    assert world.reasons() == {reason: 1}
    assert [(ban.vendor_id, ban.reason) for ban in read_bans(world.ledger)] == [(bad.machine_id, reason)]


def test_slow_and_lying_machines_are_replaced(world):
    """A fifth of its class's speed for a quarter of an hour, or another card than the one paid for: both go."""
    world.want(6, gpu_names=("RTX 3090",), inet_down_mbps=800)  # slower lines may miss their time
    world.ticks(12)
    slow, liar = sorted(world.cloud.living(), key=lambda contract: contract.id)[:2]
    slow.life = tuple(type(phase)(phase.at_s, phase.status, phase.message, phase.speed * 0.2) for phase in slow.life)
    world.lying.add(liar.id)
    world.ticks(30)
    assert world.reasons() == {"slow": 1, "lying": 1}
    assert world.states() == {"working": 6}
    assert {slow.offer["machine_id"], liar.offer["machine_id"]} == {ban.vendor_id for ban in read_bans(world.ledger)}


def test_an_empty_account_is_not_mistaken_for_bad_machines(world):
    """Everything stops at once: all is destroyed, nobody is banned, and nothing is rented until it is over."""
    world.want(5)
    world.ticks(12)
    for contract in world.cloud.living():
        world.cloud.stop(contract)
    report = world.tick()
    assert "check the account's credit" in report.problem
    world.ticks(2)
    assert world.cloud.living() == []
    assert world.reasons() == {"account_event": 5}
    assert read_bans(world.ledger) == []
    world.ticks(20)
    assert world.states() == {"working": 5}


def test_silence_of_the_whole_fleet_is_ours_not_theirs(world):
    """When nobody's heartbeat arrives, the ledger or the network was away: machines are kept."""
    world.want(5)
    world.ticks(12)
    execute(world.ledger, "UPDATE worker_validators SET last_heartbeat_at = last_heartbeat_at - interval '1 h'")
    report = reconcile(world.desk)
    assert report.done == {}
    assert world.states() == {"working": 5}


def test_no_more_machines_than_chunks_and_none_for_an_empty_queue(world):
    """The fleet grows and shrinks with the work that is left."""
    world.want(8)
    world.queue(3)
    world.ticks(12)
    assert world.states() == {"working": 2}, "half of what is left: a machine takes as long to come as a chunk to do"
    world.queue(100)
    world.ticks(12)
    assert world.states() == {"working": 8}
    world.queue(5)
    world.ticks(8)
    assert world.states() == {"working": 5}
    world.queue(0)
    world.ticks(8)
    assert world.states() == {}
    assert world.cloud.living() == []


def test_the_price_an_hour_is_never_exceeded(world):
    """Neither by plan nor in fact: the vendor's own sum stays below the cap."""
    world.want(50, usd_per_hour=2.0)
    for _ in range(10):
        report = world.tick()
        assert report.usd_per_hour <= 2.0
    assert world.cloud.peak_usd_per_hour <= 2.0
    assert "above the cap of $2.00" in report.problem


def test_the_budget_is_never_exceeded(world):
    """The fleet is drained while there is money to drain it, and ends by itself."""
    world.want(10, usd=3.0)
    ticks = 0
    while (world.tick().by_state or ticks < 10) and ticks < 200:
        ticks += 1
    assert world.cloud.living() == []
    assert world.cloud.billed_usd <= 3.0
    assert read_budget(world.ledger, FLEET).spent_usd <= 3.0
    assert read_budget(world.ledger, FLEET).spent_usd > 1.5, "and most of it is used"


def test_a_filter_that_nothing_meets_says_what_the_cheapest_costs(world):
    """One sentence for the operator, and nothing is rented."""
    world.want(3, max_usd_per_hour=0.01)
    report = world.tick()
    assert "the cheapest costs $0." in report.problem
    assert "raise --max-price" in report.problem
    assert world.cloud.contracts == {}


def test_an_account_without_credit_rents_nothing(world):
    """The sentence comes from the account, not from the market."""
    world.cloud.credit_usd = 0.0
    world.want(3)
    report = world.tick()
    assert "$0.00 are left" in report.problem
    assert world.cloud.contracts == {}


def test_a_wrong_key_rents_nothing(world):
    """It ends the tick with one sentence, and the turn is free again."""
    world.want(3)
    desk = Desk(world.ledger, client_of(world.fake, "wrong"), FLEET, dict)
    with pytest.raises(VastKeyRefused):
        reconcile(desk)
    assert world.tick().done == {"rented": 3}


def test_boxes_that_cannot_be_told_enough_are_not_rented(world):
    """And yet the machines that are there are looked after."""
    world.want(2)
    world.tick()
    world.cloud.stop(world.cloud.living()[0])
    desk = replace(world.desk, environment=lambda: read_box_environment({}))
    world.pass_time(300)
    assert reconcile(desk).done == {"destroyed": 1}
    world.pass_time(300)
    assert "BOX_DATABASE_URL is not set" in reconcile(desk).problem
    assert len(world.cloud.contracts) == 2


def test_a_fleet_that_nobody_wants_is_bad_input(world):
    with pytest.raises(FleetUnknown):
        reconcile(world.desk)


def test_only_one_reconciler_acts(world):
    """The second finds the turn taken and goes home."""
    from uuid import uuid4

    world.want(3)
    take_turn(world.ledger, FLEET, uuid4(), lease_s=60)
    assert reconcile(world.desk) is None
    assert world.cloud.contracts == {}


def test_down_now_destroys_without_draining(world):
    """Paced, until complete listings are empty."""
    world.want(8)
    world.ticks(10)
    assert world.tick(abandon=True).done == {"destroyed": 8}
    assert world.cloud.living() == []
    assert world.fake.throttle.refusals == 0
    assert world.tick(abandon=True).by_state == {"destroyed": 8}
    assert world.tick(abandon=True).is_empty


FAULTS = {"commit_then_drop": 0.06, "commit_then_504": 0.04, "reject_then_502": 0.04, "slow": 0.02, "truncated": 0.02,
          "refuse_politely": 0.02, "wrong_total": 0.02}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_chaos_ends_with_nothing_billing_and_no_cap_was_ever_broken(ledger, seed):
    """Bad machines, bad connections, a bad market: the fleet works, stays below its caps, and goes completely."""
    world = World(ledger, seed=seed)
    world.queue(60)
    world.spoil(FAULTS)
    world.want(8, usd_per_hour=4.0, usd=60.0)
    world.ticks(45)
    working_h = world.useful_s / 3600
    world.dismiss()
    assert world.cloud.living() == []
    assert world.cloud.peak_machines <= 8
    assert world.cloud.peak_usd_per_hour <= 4.0
    assert world.cloud.billed_usd <= read_budget(ledger, FLEET).spent_usd <= 60.0
    assert working_h > 4, "of 12 that a fleet without a fault would have"
    assert world.fake.faults.played
