"""A fleet in virtual time does what its operator wants, loses no money, and leaves nothing behind."""

from dataclasses import replace

import pytest

from simulation.fake_vast.failures import STANDARD
from tests.support.fleet_world import FLEET, World
from tests.support.ledger_helpers import execute, fetch
from validation.fleet.reconcile import ReconcileContext, reconcile
from validation.ledger.fleet import (
    FleetUnknown,
    acquire_lock,
    read_bans,
    read_budget,
    read_rented_instances,
    read_spend_check,
    scale_to_zero,
)
from validation.ledger.queries import audit_ledger

GOOD = {"ok": 1.0}


@pytest.fixture
def world(ledger) -> World:
    world = World(ledger)
    world.queue(100)
    return world


def test_a_fleet_comes_up_works_and_goes(world):
    """Machines are rented up to the number wanted, accepted by their heartbeats, drained and destroyed."""
    world.want(5)
    assert world.tick().done == {"rented": 5}
    world.ticks(12)
    assert world.states() == {"working": 5}
    assert len(world.cloud.rentals) == 5
    world.dismiss()
    assert world.cloud.living() == []
    assert world.reasons() == {"surplus": 5}
    check = read_spend_check(world.ledger, FLEET)
    assert check.credit_decrease_usd <= check.recorded_spend_usd


def test_a_settled_fleet_is_left_alone(world):
    """With nothing wrong and nothing new, ticks neither rent nor destroy, and do not even ask the market."""
    world.want(4)
    world.ticks(12)
    before = len(world.fake.requests)
    world.ticks(10)
    new = {path for _, path in world.fake.requests[before:]}
    assert new == {"/api/v1/instances/", "/api/v0/users/current"}


def test_a_machine_is_accepted_by_real_claims_and_its_work_outlives_it(world):
    """Its worker registers, claims and commits through the ledger's own functions; what it held when its machine
    vanished goes back to the queue, and what it had committed stays."""
    world.want(3)
    world.ticks(16)
    assert world.states() == {"working": 3}
    chunks = world.chunk_states()
    assert chunks["open"] == 3
    assert chunks["committed"] > 3
    victim = world.cloud.living()[0]
    victim.phases = (
        *victim.phases,
        replace(victim.phases[-1], at_s=world.cloud.now - victim.phases_from, listed=False),
    )
    world.ticks(16)
    assert (world.reasons(), world.states()) == ({"vanished": 1}, {"working": 3})
    assert world.chunk_states()["expired"] == 1
    world.dismiss()
    assert set(world.chunk_states()) <= {"committed", "expired"}, "drained: nobody was interrupted"
    assert [law for law in audit_ledger(world.ledger) if law.violations] == []


def test_a_machine_that_is_distrusted_is_replaced_and_banned(world):
    """Whoever bears its name next works at once."""
    world.want(3)
    world.ticks(16)
    (label, chunk), *_ = fetch(
        world.ledger,
        "SELECT machine, chunk_id FROM validation_chunks WHERE state = 'committed' ORDER BY closed_at DESC",
    )
    execute(world.ledger, "INSERT INTO validation.canaries VALUES ('c', 's', '{}', '[{}]')")
    execute(
        world.ledger,
        "INSERT INTO validation.canary_evaluations (video_id, chunk_id, outcome, finding) "
        "VALUES ('c', :c, 'wrong', 'segment 0')",
        c=chunk,
    )
    world.ticks(16)
    assert (world.reasons(), world.states()) == ({"quarantined": 1}, {"working": 3})
    assert fetch(world.ledger, "SELECT reason FROM fleet_instances WHERE label = :l", l=label) == [("quarantined",)]
    assert [ban.reason for ban in read_bans(world.ledger)] == ["quarantined"]
    assert world.chunk_states()["open"] == 3


def test_a_drained_machine_finishes_what_it_holds_and_claims_nothing_new(world):
    """The request reaches its worker through the ledger; it is destroyed when its chunk is committed."""
    world.want(2)
    world.ticks(10)
    done = world.chunk_states()["committed"]
    world.dismiss()
    assert world.chunk_states() == {"committed": done + 2}


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
    assert {rival.id, stranger.id} == {rental.id for rental in world.cloud.living()}


def test_an_incomplete_listing_rents_accepts_and_closes_nothing(world):
    """Blind, the fleet only destroys what it already knew must go."""
    world.want(3)
    world.tick()
    world.corrupt({"wrong_total": 1.0}, ["list"])
    before = world.states()
    for _ in range(5):
        report = world.tick()
        assert (report.done, report.listing_complete) == ({}, False)
    assert world.states() == before
    assert "not complete" in report.notes[0]


@pytest.mark.parametrize(
    ("lifecycle", "reason"),
    [
        ("stuck_loading", "never_booted"),
        ("oci_error", "runtime_failed"),
        ("exits_on_start", "stopped"),
        ("zombie_running", "heartbeat_timeout"),
    ],
)
def test_a_machine_that_does_not_come_up_is_replaced_and_banned(world, lifecycle, reason):
    """Each failure of the market by its name; the same machine is not rented again."""
    world.cloud.lifecycles = {lifecycle: 1.0}
    world.want(1)
    world.tick()
    (bad,) = read_rented_instances(world.ledger, FLEET)
    world.cloud.lifecycles = GOOD
    world.ticks(30)
    assert world.states() == {"working": 1}
    assert world.reasons() == {reason: 1}
    assert [(ban.vendor_id, ban.reason) for ban in read_bans(world.ledger)] == [(bad.machine_id, reason)]


def test_slow_and_lying_machines_are_replaced(world):
    """A fifth of its class's speed for a quarter of an hour, or another card than the one paid for: both go."""
    world.want(6, gpu_names=("RTX 3090",), inet_down_mbps=800)  # slower lines may miss their time
    world.tick()
    slow, liar = world.cloud.living()[:2]
    world.workers.wrong_gpu.add(liar.id)
    world.ticks(11)
    slow.phases = tuple(replace(phase, speed=phase.speed * 0.2) for phase in slow.phases)
    world.ticks(30)
    assert world.reasons() == {"slow": 1, "gpu_mismatch": 1}
    assert world.states() == {"working": 6}
    assert {slow.offer["machine_id"], liar.offer["machine_id"]} == {ban.vendor_id for ban in read_bans(world.ledger)}


def test_an_empty_account_is_not_mistaken_for_bad_machines(world):
    """Everything stops at once: all is destroyed, nobody is banned, and nothing is rented until it is over."""
    world.want(5)
    world.ticks(12)
    for rental in world.cloud.living():
        world.cloud.stop(rental)
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
    report = reconcile(world.context)
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
    world.ticks(12)
    assert world.states() == {"working": 5}
    world.queue(0)
    world.ticks(12)
    assert world.states() == {}
    assert world.cloud.living() == []


def test_a_fleet_that_nobody_wants_is_bad_input(world):
    with pytest.raises(FleetUnknown):
        reconcile(world.context)


def test_a_fleet_once_abandoned_is_destroyed_by_whoever_ticks_next(world):
    """The order of `down --now` is in the ledger: the flow neither rents nor drains in between, until it is wanted."""
    world.want(4)
    world.ticks(10)
    scale_to_zero(world.ledger, FLEET, abandon=True)
    scale_to_zero(world.ledger, FLEET)
    assert reconcile(ReconcileContext(world.ledger, world.client, FLEET, dict)).done == {"destroyed": 4}
    assert world.reasons() == {"dismissed": 4}
    world.ticks(4)
    assert world.cloud.living() == []
    world.want(1)
    assert world.tick().done == {"rented": 1}


def test_only_one_reconciler_acts(world):
    """The second finds the turn taken and goes home."""
    from uuid import uuid4

    world.want(3)
    acquire_lock(world.ledger, FLEET, uuid4(), lease_s=60)
    assert reconcile(world.context) is None
    assert world.cloud.rentals == {}


def test_down_now_destroys_without_draining(world):
    """Paced, until complete listings are empty."""
    world.want(8)
    world.ticks(10)
    scale_to_zero(world.ledger, FLEET, abandon=True)
    assert world.tick().done == {"destroyed": 8}
    assert world.cloud.living() == []
    assert world.fake.throttle.refusals == 0
    assert world.tick().by_state == {"destroyed": 8}
    assert world.tick().is_empty


@pytest.mark.parametrize("seed", range(2))
def test_chaos_ends_with_nothing_billing_and_no_cap_was_ever_broken(ledger, seed):
    """Bad machines, bad connections, a bad market: the fleet works, stays below its caps, and goes completely."""
    world = World(ledger, seed=seed)
    world.play(STANDARD)
    world.queue(60)
    world.want(8, usd_per_hour=4.0, usd=60.0)
    world.ticks(45)
    working_h = world.workers.useful_s / 3600
    world.dismiss()
    assert world.cloud.living() == []
    assert world.cloud.peak_machines <= 8
    assert world.cloud.peak_usd_per_hour <= 4.0
    assert world.cloud.billed_usd <= read_budget(ledger, FLEET).spent_usd <= 60.0
    assert working_h > 4, "of 12 that a fleet without a fault would have"
    assert world.fake.connection.played
