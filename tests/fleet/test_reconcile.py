"""A fleet in virtual time follows its order, loses no money, and leaves nothing behind."""

from dataclasses import replace
from uuid import uuid4

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

NO_FAILURES = {"ok": 1.0}


@pytest.fixture
def world(ledger) -> World:
    world = World(ledger)
    world.queue(100)
    return world


def test_fleet_comes_up_works_and_is_scaled_down(world):
    """Boxes are rented up to the order, marked ready by their heartbeats, drained and destroyed."""
    world.want(5)
    assert world.tick().done == {"rented": 5}
    world.ticks(12)
    assert world.states() == {"working": 5}
    assert len(world.cloud.rentals) == 5
    world.scale_to_zero()
    assert world.cloud.living() == []
    assert world.reasons() == {"surplus": 5}
    check = read_spend_check(world.ledger, FLEET)
    assert check.credit_decrease_usd <= check.recorded_spend_usd


def test_settled_fleet_sends_only_reads(world):
    """With nothing wrong and nothing new, ticks neither rent nor destroy nor search the market."""
    world.want(4)
    world.ticks(12)
    before = len(world.fake.requests)
    world.ticks(10)
    new = {path for _, path in world.fake.requests[before:]}
    assert new == {"/api/v1/instances/", "/api/v0/users/current"}


def test_box_is_marked_ready_by_real_claims_and_its_commits_survive_it(world):
    """Its worker uses the ledger's own functions. The chunk that a vanished box held returns to the queue; what it had
    committed stays."""
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
    world.scale_to_zero()
    assert set(world.chunk_states()) <= {"committed", "expired"}, "drained: no chunk was interrupted"
    assert [law for law in audit_ledger(world.ledger) if law.violations] == []


def test_quarantined_box_is_replaced_and_its_machine_banned(world):
    """The next box of its name works at once."""
    world.want(3)
    world.ticks(16)
    (label, chunk), *_ = fetch(
        world.ledger,
        "SELECT instance_label, chunk_id FROM validation_chunks WHERE state = 'committed' ORDER BY closed_at DESC",
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


def test_draining_box_finishes_its_chunk_and_claims_nothing(world):
    """The ledger tells the worker to drain; the box is destroyed when its chunk is committed."""
    world.want(2)
    world.ticks(10)
    done = world.chunk_states()["committed"]
    world.scale_to_zero()
    assert world.chunk_states() == {"committed": done + 2}


def test_orphan_is_destroyed_and_foreign_instances_are_not(world):
    """An instance with the fleet's label and no row must not bill; other labels are not touched."""
    world.want(1)
    world.tick()
    prefix = read_budget(world.ledger, FLEET).label_prefix
    free = [number for number, offer in world.cloud.offers.items() if offer["rentable"]]
    image = {"image": "i", "env": {"WORKER_ID": "x"}}
    orphan = world.cloud.create(free[0], image | {"label": f"{prefix}9/x", "env": {"WORKER_ID": "o"}})
    other_fleet = world.cloud.create(free[1], image | {"label": "vfleet/blue-00000000/1/x"})
    foreign = world.cloud.create(free[2], image | {"label": "my notebook", "env": {"WORKER_ID": "y"}})
    world.ticks(3)
    assert orphan.destroyed_at is not None
    world.scale_to_zero()
    assert {other_fleet.id, foreign.id} == {rental.id for rental in world.cloud.living()}


def test_incomplete_listing_changes_nothing(world):
    """Nothing is rented, marked ready or closed on its evidence."""
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
def test_box_that_does_not_come_up_is_replaced_and_its_machine_banned(world, lifecycle, reason):
    """Each failed start has its own reason; the same box is not rented again."""
    world.cloud.lifecycles = {lifecycle: 1.0}
    world.want(1)
    world.tick()
    (bad,) = read_rented_instances(world.ledger, FLEET)
    world.cloud.lifecycles = NO_FAILURES
    world.ticks(30)
    assert world.states() == {"working": 1}
    assert world.reasons() == {reason: 1}
    assert [(ban.vendor_id, ban.reason) for ban in read_bans(world.ledger)] == [(bad.machine_id, reason)]


def test_slow_and_mismatched_boxes_are_replaced(world):
    """A box at a fifth of its class's speed for 15 minutes, and one with another GPU than the one paid for."""
    world.want(6, gpu_names=("RTX 3090",), inet_down_mbps=800)  # slower lines may exceed their boot time-out
    world.tick()
    slow, mismatched = world.cloud.living()[:2]
    world.workers.wrong_gpu.add(mismatched.id)
    world.ticks(11)
    slow.phases = tuple(replace(phase, speed=phase.speed * 0.2) for phase in slow.phases)
    world.ticks(30)
    assert world.reasons() == {"slow": 1, "gpu_mismatch": 1}
    assert world.states() == {"working": 6}
    assert {slow.offer["machine_id"], mismatched.offer["machine_id"]} == {
        ban.vendor_id for ban in read_bans(world.ledger)
    }


def test_empty_account_bans_no_machine(world):
    """When all boxes stop at once they are destroyed, no box is banned, and renting waits."""
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


def test_missing_heartbeats_of_the_whole_fleet_destroy_no_box(world):
    """When no heartbeat arrives at all, the ledger or the network was away: boxes are kept."""
    world.want(5)
    world.ticks(12)
    execute(world.ledger, "UPDATE worker_validators SET last_heartbeat_at = last_heartbeat_at - interval '1 h'")
    report = reconcile(world.context)
    assert report.done == {}
    assert world.states() == {"working": 5}


def test_fleet_follows_the_chunks_that_are_left(world):
    """The fleet grows and shrinks with the work."""
    world.want(8)
    world.queue(3)
    world.ticks(12)
    assert world.states() == {"working": 2}, "half of what is left: a box takes as long to come as a chunk to do"
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


def test_unknown_fleet_is_bad_input(world):
    with pytest.raises(FleetUnknown):
        reconcile(world.context)


def test_any_reconciler_destroys_an_abandoned_fleet(world):
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
    """The second finds the lock taken and does nothing."""
    world.want(3)
    acquire_lock(world.ledger, FLEET, uuid4(), lease_s=60)
    assert reconcile(world.context) is None
    assert world.cloud.rentals == {}


def test_abandoned_fleet_is_destroyed_without_draining(world):
    """All boxes are destroyed at the vendor's rate limit, until complete listings are empty."""
    world.want(8)
    world.ticks(10)
    scale_to_zero(world.ledger, FLEET, abandon=True)
    assert world.tick().done == {"destroyed": 8}
    assert world.cloud.living() == []
    assert world.fake.throttle.refusals == 0
    assert world.tick().by_state == {"destroyed": 8}
    assert world.tick().is_empty


@pytest.mark.parametrize("seed", range(2))
def test_failing_market_breaks_no_cap_and_leaves_nothing_billing(ledger, seed):
    """With failing boxes, connections and market the fleet works, stays below its caps, and goes completely."""
    world = World(ledger, seed=seed)
    world.play(STANDARD)
    world.queue(60)
    world.want(8, usd_per_hour=4.0, usd=60.0)
    world.ticks(45)
    working_h = world.workers.useful_s / 3600
    world.scale_to_zero()
    assert world.cloud.living() == []
    assert world.cloud.peak_machines <= 8
    assert world.cloud.peak_usd_per_hour <= 4.0
    assert world.cloud.billed_usd <= read_budget(ledger, FLEET).spent_usd <= 60.0
    assert working_h > 4, "of 12 that a fleet without a fault would have"
    assert world.fake.connection.played
