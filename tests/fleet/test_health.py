"""A machine goes for what it does or does not do, after the time that its fault is given, and not before."""

from dataclasses import replace
from datetime import datetime

import pytest

from tests.support.fleet_builders import NOW, PREFIX, ago, make_offer
from validation.fleet.health import diagnose
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.plan import Drain, Rent, Terminate, make_plan
from validation.fleet.policy import BAN_S, DAY_S, ControllerPolicy
from validation.fleet.snapshot import BudgetState, Desired, FleetSnapshot
from validation.ledger.fleet import RentedInstance
from validation.vast.instances import Instance, Listing
from validation.vast.offer_filter import OfferFilter

POLICY = ControllerPolicy()


def make_box(slot=1, *, state="renting", age=1000.0, **more) -> RentedInstance:
    given = {
        "label": f"{PREFIX}{slot}/x", "slot": slot, "worker_id": f"val-{slot}", "state": state, "offer_id": slot,
        "machine_id": slot, "host_id": slot, "gpu_name": "RTX 3090", "usd_per_hour": 0.25, "usd_once": 0.02,
        "boot_timeout_s": 900, "instance_id": 7000 + slot, "requested_at": ago(age), "changed_at": ago(age),
        "vendor_status_since": ago(age), "accepted_at": ago(age) if state == "working" else None,
    }  # fmt: skip
    return RentedInstance(**(given | more))


def instance(*, status="running", slot=1, **more) -> Instance:
    shown = {"id": 7000 + slot, "label": f"{PREFIX}{slot}/x", "cur_state": "running", "dph_total": 0.25}
    return Instance(actual_status=status, **(shown | more))


def working_box(slot=1, *, state="working", **more) -> RentedInstance:
    """Heard a moment ago, on the card that we pay for."""
    well = {
        "heartbeat_at": ago(10), "gpu_seen": "NVIDIA GeForce RTX 3090", "first_running_at": ago(900), "open_chunks": 1,
        "video_completed_at": ago(60), "segments_per_s": 11.0,
    }  # fmt: skip
    return make_box(slot, state=state, **(well | more))


def diagnosis(of: RentedInstance, listed: Instance | None) -> str | None:
    return diagnose(of, listed, NOW, POLICY, max_usd_per_hour=0.6)


@pytest.mark.parametrize("state", ["renting", "working", "draining"])
def test_a_machine_whose_canary_was_wrong_goes(state):
    """However well it looks: what it says is worth nothing."""
    assert diagnosis(working_box(state=state, quarantine_reason="c: segment 0: no"), instance()) == "quarantined"
    assert BAN_S["quarantined"] == 30 * DAY_S


@pytest.mark.parametrize("state", ["renting", "working", "draining"])
@pytest.mark.parametrize("status", ["offline", "unknown"])
def test_a_machine_out_of_sight_goes_after_five_minutes(state, status):
    """Most that come back do so sooner."""
    assert diagnosis(working_box(state=state, vendor_status_since=ago(299)), instance(status=status)) is None
    assert diagnosis(working_box(state=state, vendor_status_since=ago(301)), instance(status=status)) == "lost"


@pytest.mark.parametrize(
    "seen",
    [instance(status="exited"), instance(status="stopped"), instance(status="frozen"), instance(cur_state="stopped")],
)
def test_a_stopped_machine_goes_at_once_but_for_its_first_blip(seen):
    """It bills its disk, and may come back as a surprise."""
    assert diagnosis(working_box(age=1000), seen) == "stopped"
    assert diagnosis(make_box(age=29), seen) is None


@pytest.mark.parametrize("status", ["loading", "created", None])
def test_a_machine_that_does_not_boot_in_its_time_goes(status):
    """Its time is twice its pull, at most twenty minutes."""
    assert diagnosis(make_box(age=899), instance(status=status)) is None
    assert diagnosis(make_box(age=901), instance(status=status)) == "never_booted"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("toomanyrequests: You have reached your pull rate limit", "pull_limited"),
        ("manifest unknown", "image_refused"),
        ("unauthorized: authentication required", "image_refused"),
        ("denied: requested access to the resource", "image_refused"),
        ("failed to register layer: no space left on device", "pull_failed"),
        ("error pulling image: connection reset by peer", "pull_failed"),
        ("OCI runtime create failed: x", "runtime_failed"),
        ("unsatisfied condition: cuda>=12.8", "runtime_failed"),
    ],
)
def test_a_message_after_which_nothing_comes_ends_it_at_once(message, reason):
    """While it starts; a worker at work is not judged by what its vendor says."""
    seen = instance(status="created", status_msg=message)
    assert diagnosis(make_box(age=40), seen) == reason
    assert diagnosis(working_box(), seen) is None


def test_a_running_machine_is_heard_of_within_six_minutes_or_goes():
    """Running is its vendor's word; its worker's heartbeat is the proof."""
    assert diagnosis(make_box(first_running_at=ago(359)), instance()) is None
    assert diagnosis(make_box(first_running_at=ago(361)), instance()) == "heartbeat_timeout"


@pytest.mark.parametrize("state", ["renting", "working"])
def test_a_machine_that_falls_silent_goes_after_five_minutes(state):
    """Accepted or not yet."""
    assert diagnosis(working_box(state=state, heartbeat_at=ago(299)), instance()) is None
    assert diagnosis(working_box(state=state, heartbeat_at=ago(301)), instance()) == "heartbeat_timeout"


@pytest.mark.parametrize("state", ["renting", "working"])
def test_another_card_than_the_one_paid_for_is_a_lie(state):
    """By the driver on the box, whatever the offer said, from its first word on."""
    assert diagnosis(working_box(state=state, gpu_seen="NVIDIA GeForce GTX 1060"), instance()) == "gpu_mismatch"


def test_slowness_and_standstill_have_their_times():
    """Below half of its class for a quarter of an hour; a chunk held, and no video finished in three quarters."""
    assert diagnosis(working_box(slow_since=ago(899)), instance()) is None
    assert diagnosis(working_box(slow_since=ago(901)), instance()) == "slow"
    still = {"age": 9000, "video_completed_at": ago(2701)}
    assert diagnosis(working_box(**still), instance()) == "no_progress"
    assert diagnosis(working_box(**still, open_chunks=0), instance()) is None, "who holds nothing may wait"


def test_a_rental_that_costs_more_than_it_may_goes():
    """The vendor does not echo what was rented; the listing does."""
    assert diagnosis(working_box(), instance(dph_total=0.61)) == "over_price"


def test_a_machine_that_is_not_listed_but_works_stays():
    """Absence is proof only for who is silent too."""
    assert diagnosis(working_box(absences=5), None) is None
    assert diagnosis(make_box(absences=1), None) is None
    assert diagnosis(make_box(absences=2), None) == "vanished"


def make_snapshot(*boxes: RentedInstance, budget: BudgetState, wanted=10, now: datetime = NOW) -> FleetSnapshot:
    return FleetSnapshot(
        desired=Desired(boxes=wanted, chunks_left=100, max_usd_per_box=0.6),
        boxes=boxes,
        listing=Listing(tuple(instance(slot=m.slot) for m in boxes if m.state != "gone")),
        label_prefix=PREFIX,
        launch_spec=LaunchSpec("worker:1"),
        budget=budget,
        now=now,
        offers=[make_offer(100 + n) for n in range(20)],
    )


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (2.6, {Rent}),
        (1.9, set()),  # not two hours with one more: nobody is rented, nobody goes
        (0.3, {Drain}),  # less than twenty minutes: finish and go
        (0.15, {Terminate}),  # less than ten: a hundred paced destroys take five
    ],
)
def test_the_money_that_is_left_decides_what_may_still_be_done(hours, expected):
    """By how long it lasts, be it the budget's or the account's."""
    there = [working_box(slot) for slot in range(1, 11)]
    for budget in (
        BudgetState(50.0, 100.0, 2.5, 100.0 - 2.5 * hours),
        BudgetState(50.0, 1000.0, 2.5, 0.0, credit_usd=2.5 * hours),
    ):
        actions = make_plan(make_snapshot(*there, budget=budget, wanted=11)).actions
        assert {type(action) for action in actions} == expected


def test_an_offer_must_last_as_long_as_the_work_and_more():
    """Twenty-four hours: no chunk is longer than an hour, and a machine that leaves at once is not worth its pull."""

    assert OfferFilter().query()["duration"] == {"gte": 86_400}
    assert OfferFilter().rejection_reason(replace(make_offer(1), duration=86_399)) == "duration"


def test_an_image_that_nobody_may_pull_holds_the_renting_and_one_that_most_may_does_not():
    """Three refusals among many pulls are three addresses that a registry counts; three of three are our mistake."""
    refused = [
        replace(make_box(slot, state="gone"), reason=reason, changed_at=ago(60))
        for slot, reason in enumerate(("image_refused", "pull_limited", "image_refused"), 1)
    ]
    others = [working_box(slot, first_running_at=ago(300)) for slot in range(4, 9)]
    rich = BudgetState(50.0, 1000.0, 2.0, 0.0)
    held = make_plan(make_snapshot(*refused, budget=rich))
    assert (held.actions, held.notes[0][:38]) == ((), "several boxes may not pull the image: ")
    there = make_plan(make_snapshot(*refused, *others, budget=rich))
    assert {type(action) for action in there.actions} == {Rent}
