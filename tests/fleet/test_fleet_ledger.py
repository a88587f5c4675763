"""The ledger's rows of boxes and money stay consistent, whichever program writes them."""

from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from tests.support.fleet_helpers import HOLDER, box_of, label_for, pass_time, request, want
from tests.support.ledger_helpers import claim, execute, fetch
from validation.domain import WorkerProfile
from validation.fleet.policy import TRANSITIONS
from validation.ledger.fleet import (
    FleetUnknown,
    ObservedInstance,
    RentalRequest,
    acquire_lock,
    acquire_search_quota,
    ban_machine,
    lift_ban,
    read_bans,
    read_budget,
    read_spend_check,
    read_transitions,
    record_credit,
    record_observations,
    release_lock,
    request_machine,
    scale_to_zero,
    transition_instance,
)
from validation.ledger.workers import register_worker

OTHER_HOLDER = UUID(int=2)


def observe(ledger, *labels, status="running", usd_per_hour=0.2, complete=True, min_class_size=3) -> None:
    """Record a listing that shows these boxes, as the instances 7, 8 and so on."""
    seen = [ObservedInstance(label, 7 + n, status, None, usd_per_hour) for n, label in enumerate(labels)]
    record_observations(ledger, "blue", seen, complete=complete, slow_share=0.5, min_class_size=min_class_size)


def test_transitions_are_equal_in_python_and_sql(ledger):
    """The planner knows exactly the transitions that the ledger allows."""
    assert read_transitions(ledger) == {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


def test_other_transitions_are_refused(ledger):
    """A transition that the table lacks changes nothing; repeating one changes nothing either."""
    want(ledger)
    label, _ = request(ledger)
    assert not transition_instance(ledger, label, "working")
    assert transition_instance(ledger, label, "renting", instance_id=7)
    assert transition_instance(ledger, label, "renting", instance_id=8)
    assert (box_of(ledger, label).state, box_of(ledger, label).instance_id) == ("renting", 7)


@pytest.mark.parametrize(
    ("edit", "law"),
    [
        ("state = 'asleep', instance_id = 1, reason = 'x'", "state_is_known"),
        ("state = 'renting'", "rented_has_an_id"),
        ("state = 'destroying', instance_id = 1", "leaves_for_a_reason"),
        ("state = 'working', instance_id = 1", "accepted_before_work"),
        ("state = 'gone', reason = 'x'", "closed_iff_gone"),
    ],
)
def test_illegal_row_is_refused(ledger, edit, law):
    """CHECK constraints refuse inconsistent rows, whatever code writes them."""
    want(ledger)
    request(ledger)
    with pytest.raises(IntegrityError, match=law):
        execute(ledger, f"UPDATE fleet_instances SET {edit}")


def test_ledger_enforces_the_caps(ledger):
    """A rental request above the number of boxes, the dollars per hour or the dollars in all is refused with the
    reason."""
    want(ledger, machines=2, max_usd_per_hour=0.6, max_usd=5)
    assert request(ledger, 1)[1] is None
    assert request(ledger, 2, usd_per_hour=0.4)[1] == (
        "the fleet would cost $0.6500 per hour with it, above its cap of $0.6"
    )
    assert request(ledger, 2)[1] is None
    assert request(ledger, 3, usd_per_hour=0.01)[1] == "the fleet has 2 boxes, of 2 ordered"
    want(ledger, machines=9, max_usd_per_hour=9, max_usd=0.05)
    assert request(ledger, 3)[1] == "$0.04 of the budget of $0.05 is spent"


def test_slot_and_offer_are_taken_once(ledger):
    """No two boxes have one name, and no offer is requested twice."""
    want(ledger)
    request(ledger, 1)
    assert request(ledger, 1, offer_id=99)[1] == "slot 1 has a box"
    assert request(ledger, 2, offer_id=1)[1] == "offer 1 is rented already"


def test_only_the_lock_holder_may_rent(ledger):
    """A second reconciler, or one whose lock expired, can request nothing."""
    want(ledger)
    assert not acquire_lock(ledger, "blue", OTHER_HOLDER, lease_s=300)
    pass_time(ledger, 301)
    assert request(ledger)[1] == "another reconciler holds the lock"
    assert acquire_lock(ledger, "blue", OTHER_HOLDER, lease_s=300)
    assert request(ledger)[1] == "another reconciler holds the lock"
    release_lock(ledger, "blue", OTHER_HOLDER)
    assert acquire_lock(ledger, "blue", HOLDER, lease_s=300)


def test_foreign_label_is_refused(ledger):
    """Every label begins with the fleet's prefix, which tells the fleet's instances from others."""
    want(ledger)
    intent = RentalRequest(1, 1, 1, "RTX 3090", 0.1, 0, 900)
    refusal = request_machine(ledger, "blue", HOLDER, label="vfleet/blue/1/x", slot=1, request=intent)
    assert "does not begin with" in refusal
    assert label_for(ledger, 1).startswith("vfleet/blue-")


def test_spend_counts_unknown_outcomes(ledger):
    """A create with unknown outcome costs its full price until it is proven absent, and then nothing."""
    want(ledger)
    label, _ = request(ledger, usd_per_hour=0.5, usd_once=0.1)
    pass_time(ledger, 3600)
    assert read_budget(ledger, "blue").spent_usd == pytest.approx(0.6, abs=0.001)
    assert read_budget(ledger, "blue").usd_per_hour == 0.5
    transition_instance(ledger, label, "gone", reason="never_rented")
    assert read_budget(ledger, "blue").spent_usd == 0


def test_spend_resumes_if_a_destroyed_box_is_listed(ledger):
    """A box that is listed after its destruction was confirmed has been billing all along."""
    want(ledger)
    label, _ = request(ledger, usd_per_hour=1.0, usd_once=0)
    transition_instance(ledger, label, "renting", instance_id=7)
    pass_time(ledger, 1800)
    for state in ("destroying", "destroyed"):
        transition_instance(ledger, label, state, reason="surplus")
    pass_time(ledger, 1800)
    assert read_budget(ledger, "blue").spent_usd == pytest.approx(0.5, abs=0.001)
    transition_instance(ledger, label, "destroying")
    assert read_budget(ledger, "blue").spent_usd == pytest.approx(1.0, abs=0.001)


def test_higher_listed_price_counts(ledger):
    """The vendor does not return the price of a rental: the listed price counts if it is higher than the offer's."""
    want(ledger)
    label, _ = request(ledger)
    transition_instance(ledger, label, "renting", instance_id=7)
    observe(ledger, label, usd_per_hour=0.9)
    observe(ledger, label, usd_per_hour=0.1)
    assert box_of(ledger, label).usd_per_hour == 0.9


def test_absences_count_in_complete_listings_30_s_apart(ledger):
    """An incomplete listing, or one within 30 s of another, proves nothing."""
    want(ledger)
    label, _ = request(ledger)
    observe(ledger)  # too soon after the request
    pass_time(ledger, 31)
    observe(ledger, complete=False)
    assert box_of(ledger, label).absences == 0
    observe(ledger)
    observe(ledger)
    assert box_of(ledger, label).absences == 1
    pass_time(ledger, 31)
    observe(ledger)
    assert box_of(ledger, label).absences == 2
    observe(ledger, label)
    assert box_of(ledger, label).absences == 0


def test_status_time_starts_at_the_change_of_status(ledger):
    """How long a box has had its status decides about it, so a repeated status does not restart the time."""
    want(ledger)
    label, _ = request(ledger)
    transition_instance(ledger, label, "renting", instance_id=7)
    observe(ledger, label, status="loading")
    since = box_of(ledger, label).vendor_status_since
    observe(ledger, label, status="loading")
    assert box_of(ledger, label).vendor_status_since == since
    observe(ledger, label)
    seen = box_of(ledger, label)
    assert seen.vendor_status_since > since
    assert seen.first_running_at == seen.vendor_status_since


def test_box_is_slow_below_half_of_the_median_speed_of_its_gpu(ledger):
    """A box is slow if enough boxes of its GPU have shown their speed; the time starts at the first slow listing."""
    want(ledger)
    labels = []
    for slot, segments_per_s in enumerate((10.0, 10.0, 4.9), start=1):
        label, _ = request(ledger, slot)
        transition_instance(ledger, label, "renting", instance_id=6 + slot)
        register_worker(ledger, WorkerProfile(f"val-{slot}", config={"instance": "a"}))
        transition_instance(ledger, label, "working")
        execute(ledger, "UPDATE worker_validators SET avg_segs_per_second = :s WHERE worker_id = :w",
                s=segments_per_s, w=f"val-{slot}")  # fmt: skip
        labels.append(label)
    observe(ledger, *labels, min_class_size=4)
    assert [box_of(ledger, label).slow_since for label in labels] == [None, None, None]
    observe(ledger, *labels)
    fast, also_fast, since = (box_of(ledger, label).slow_since for label in labels)
    assert (fast, also_fast, since is None) == (None, None, False)
    observe(ledger, *labels)
    assert box_of(ledger, labels[2]).slow_since == since
    execute(ledger, "UPDATE worker_validators SET avg_segs_per_second = 5 WHERE worker_id = 'val-3'")
    observe(ledger, *labels)
    assert box_of(ledger, labels[2]).slow_since is None


def test_heartbeat_of_an_earlier_box_is_ignored(ledger):
    """Slots are reused: a heartbeat from before the request is of the slot's earlier box."""
    want(ledger)
    register_worker(ledger, WorkerProfile("val-1", config={"instance": "a"}))
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '1 s'")
    label, _ = request(ledger)
    transition_instance(ledger, label, "renting", instance_id=7)
    assert box_of(ledger, label).heartbeat_at is None
    register_worker(ledger, WorkerProfile("val-1", config={"instance": "a", "gpus": [{"name": "NVIDIA A"}]}))
    assert box_of(ledger, label).heartbeat_at is not None
    assert box_of(ledger, label).gpu_seen == "NVIDIA A"


def test_draining_box_claims_nothing_and_destroyed_box_returns_its_chunk(ledger, seed):
    """The ledger refuses a draining worker new chunks, and releases the chunk of a destroyed box at once."""
    seed(4)
    want(ledger)
    label, _ = request(ledger)
    transition_instance(ledger, label, "renting", instance_id=7)
    register_worker(ledger, WorkerProfile("val-1", config={"instance": "a"}))
    transition_instance(ledger, label, "working")
    held = claim(ledger, worker_id="val-1", size=2)
    assert box_of(ledger, label).open_chunks == 1
    transition_instance(ledger, label, "draining", reason="surplus")
    assert claim(ledger, worker_id="val-1", size=2) is None
    assert claim(ledger, worker_id="val-1", size=2, chunk_id=held.chunk_id) is not None, "a repeated claim is not new"
    for state in ("destroying", "destroyed"):
        transition_instance(ledger, label, state)
    assert fetch(ledger, "SELECT state FROM validation_chunks") == [("released",)]


def test_ban_expires_and_third_machine_bans_its_host(ledger):
    """Bans expire or are lifted by hand; a shorter ban never shortens a longer one."""
    want(ledger)
    for slot in (1, 2, 3):
        label, _ = request(ledger, slot)
        ban_machine(ledger, box_of(ledger, label), reason="slow", ttl_s=1000)
        ban_machine(ledger, box_of(ledger, label), reason="lost", ttl_s=10)
    bans = {(ban.kind, ban.vendor_id): ban.reason for ban in read_bans(ledger)}
    assert bans == {
        ("host", 100): "3 of its machines are banned",
        ("machine", 10): "slow",
        ("machine", 20): "slow",
        ("machine", 30): "slow",
    }
    assert lift_ban(ledger, "machine", 20)
    assert not lift_ban(ledger, "machine", 20)
    pass_time(ledger, 1001)
    assert read_bans(ledger) == []


def test_searches_are_spread_over_the_day(ledger):
    """The first 100 searches of a day may follow each other after two minutes, later ones after eight, within the
    quota."""
    want(ledger)
    assert acquire_search_quota(ledger, "blue", HOLDER)
    assert not acquire_search_quota(ledger, "blue", HOLDER)
    assert not acquire_search_quota(ledger, "blue", OTHER_HOLDER)
    pass_time(ledger, 120)
    acquire_lock(ledger, "blue", HOLDER, lease_s=300)
    assert acquire_search_quota(ledger, "blue", HOLDER)
    midnight = fetch(ledger, "SELECT extract(epoch FROM now() - date_trunc('day', now(), 'UTC'))")[0][0]
    if midnight > 1000:  # else the editing of time below would cross into another day
        execute(ledger, "UPDATE fleets SET searches_today = 100")
        pass_time(ledger, 120)
        assert not acquire_search_quota(ledger, "blue", HOLDER)
        pass_time(ledger, 361)
        acquire_lock(ledger, "blue", HOLDER, lease_s=300)
        assert acquire_search_quota(ledger, "blue", HOLDER)


def test_spend_is_compared_with_the_account(ledger):
    """An interval with a top-up is left out, because it would count as negative spend."""
    want(ledger)
    assert read_spend_check(ledger, "blue") is None
    request(ledger, usd_per_hour=1.0, usd_once=0)
    for credit in (50.0, 49.0, 100.0, 99.5):
        record_credit(ledger, "blue", credit)
        execute(ledger, "UPDATE fleet_credit_readings SET read_at = read_at - interval '30 min'")
        pass_time(ledger, 1800)
    check = read_spend_check(ledger, "blue")
    assert (check.credit_decrease_usd, check.intervals) == (1.5, 2)
    assert check.recorded_spend_usd == pytest.approx(1.0, abs=0.001)


def test_unknown_fleet_is_bad_input(ledger):
    """The message names the command that creates a fleet."""
    with pytest.raises(FleetUnknown, match="`vfleet fleet up` creates one"):
        scale_to_zero(ledger, "red")
    with pytest.raises(FleetUnknown):
        read_budget(ledger, "red")
