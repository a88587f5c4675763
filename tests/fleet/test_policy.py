"""A box is diagnosed by what it does, after the time-out of each reason and not before."""

from dataclasses import replace
from datetime import datetime

import pytest

from tests.support.fleet_builders import NOW, PREFIX, ago, make_offer
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.plan import Drain, Rent, Terminate, make_plan
from validation.fleet.policy import BAN_S, DAY_S, ReconcilerPolicy, diagnose
from validation.fleet.snapshot import BudgetState, DesiredFleet, FleetSnapshot
from validation.ledger.fleet import RentedInstance
from validation.vast.listings import Instance, Listing
from validation.vast.offer_filter import OfferFilter

POLICY = ReconcilerPolicy()


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
    """A box with a recent heartbeat, on the GPU that was rented."""
    working = {
        "heartbeat_at": ago(10), "gpu_seen": "NVIDIA GeForce RTX 3090", "first_running_at": ago(900), "open_chunks": 1,
        "video_completed_at": ago(60), "segments_per_s": 11.0,
    }  # fmt: skip
    return make_box(slot, state=state, **(working | more))


def diagnosis(of: RentedInstance, listed: Instance | None) -> str | None:
    return diagnose(of, listed, NOW, POLICY, max_usd_per_hour=0.6)


@pytest.mark.parametrize("state", ["renting", "working", "draining"])
def test_box_with_a_wrong_canary_is_quarantined(state):
    """A box that computed a canary wrongly goes, however well it works otherwise."""
    assert diagnosis(working_box(state=state, quarantine_reason="c: segment 0: no"), instance()) == "quarantined"
    assert BAN_S["quarantined"] == 30 * DAY_S


@pytest.mark.parametrize("state", ["renting", "working", "draining"])
@pytest.mark.parametrize("status", ["offline", "unknown"])
def test_offline_box_is_lost_after_five_minutes(state, status):
    """Most boxes that come back do so sooner."""
    assert diagnosis(working_box(state=state, vendor_status_since=ago(299)), instance(status=status)) is None
    assert diagnosis(working_box(state=state, vendor_status_since=ago(301)), instance(status=status)) == "lost"


@pytest.mark.parametrize(
    "listed",
    [instance(status="exited"), instance(status="stopped"), instance(status="frozen"), instance(cur_state="stopped")],
)
def test_stopped_box_goes_at_once_except_when_new(listed):
    """A stopped box bills its disk and may start again; a new one may be listed as stopped for a moment."""
    assert diagnosis(working_box(age=1000), listed) == "stopped"
    assert diagnosis(make_box(age=29), listed) is None


@pytest.mark.parametrize("status", ["loading", "created", None])
def test_box_that_does_not_boot_in_time_goes(status):
    """The time-out is the request's: twice the pull, at most twenty minutes."""
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
def test_fatal_vendor_message_ends_the_start_at_once(message, reason):
    """A worker that works is not judged by the vendor's message."""
    listed = instance(status="created", status_msg=message)
    assert diagnosis(make_box(age=40), listed) == reason
    assert diagnosis(working_box(), listed) is None


def test_running_box_must_send_a_heartbeat_within_six_minutes():
    """The vendor's status says that the box runs; only a heartbeat proves it."""
    assert diagnosis(make_box(first_running_at=ago(359)), instance()) is None
    assert diagnosis(make_box(first_running_at=ago(361)), instance()) == "heartbeat_timeout"


@pytest.mark.parametrize("state", ["renting", "working"])
def test_heartbeat_timeout_is_five_minutes(state):
    """Before and after the box is marked ready."""
    assert diagnosis(working_box(state=state, heartbeat_at=ago(299)), instance()) is None
    assert diagnosis(working_box(state=state, heartbeat_at=ago(301)), instance()) == "heartbeat_timeout"


@pytest.mark.parametrize("state", ["renting", "working"])
def test_other_gpu_than_rented_is_a_mismatch(state):
    """The driver on the box decides, from its first report on, whatever the offer said."""
    assert diagnosis(working_box(state=state, gpu_seen="NVIDIA GeForce GTX 1060"), instance()) == "gpu_mismatch"


def test_slow_and_no_progress_have_their_timeouts():
    """Slow for 15 minutes; a chunk held and no video completed for 45."""
    assert diagnosis(working_box(slow_since=ago(899)), instance()) is None
    assert diagnosis(working_box(slow_since=ago(901)), instance()) == "slow"
    still = {"age": 9000, "video_completed_at": ago(2701)}
    assert diagnosis(working_box(**still), instance()) == "no_progress"
    assert diagnosis(working_box(**still, open_chunks=0), instance()) is None, "a worker without a chunk may wait"


def test_box_above_the_price_limit_goes():
    """The vendor does not return the price of a rental; the listing shows it."""
    assert diagnosis(working_box(), instance(dph_total=0.61)) == "over_price"


def test_unlisted_box_with_heartbeats_stays():
    """Absence from the listing counts only together with missing heartbeats."""
    assert diagnosis(working_box(absences=5), None) is None
    assert diagnosis(make_box(absences=1), None) is None
    assert diagnosis(make_box(absences=2), None) == "vanished"


def make_snapshot(*boxes: RentedInstance, budget: BudgetState, wanted=10, now: datetime = NOW) -> FleetSnapshot:
    return FleetSnapshot(
        desired=DesiredFleet(boxes=wanted, chunks_left=100, max_usd_per_box=0.6),
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
        (1.9, set()),  # less than two hours with one more box: nothing changes
        (0.3, {Drain}),  # less than twenty minutes: drain
        (0.15, {Terminate}),  # less than ten minutes: 100 rate-limited destroys take five
    ],
)
def test_runway_decides_between_renting_draining_and_destroying(hours, expected):
    """The runway counts, whether the budget or the account's credit limits it."""
    boxes = [working_box(slot) for slot in range(1, 11)]
    for budget in (
        BudgetState(50.0, 100.0, 2.5, 100.0 - 2.5 * hours),
        BudgetState(50.0, 1000.0, 2.5, 0.0, credit_usd=2.5 * hours),
    ):
        actions = make_plan(make_snapshot(*boxes, budget=budget, wanted=11)).actions
        assert {type(action) for action in actions} == expected


def test_offer_must_last_24_hours():
    """No chunk takes longer than an hour, and a box that leaves early is not worth its pull."""

    assert OfferFilter().query()["duration"] == {"gte": 86_400}
    assert OfferFilter().rejection_reason(replace(make_offer(1), duration=86_399)) == "duration"


def test_renting_waits_only_while_most_pulls_are_refused():
    """A few refusals among many pulls are a registry's rate limit; if all pulls are refused, the image name is
    wrong."""
    refused = [
        replace(make_box(slot, state="gone"), reason=reason, changed_at=ago(60))
        for slot, reason in enumerate(("image_refused", "pull_limited", "image_refused"), 1)
    ]
    others = [working_box(slot, first_running_at=ago(300)) for slot in range(4, 9)]
    rich = BudgetState(50.0, 1000.0, 2.0, 0.0)
    held = make_plan(make_snapshot(*refused, budget=rich))
    assert (held.actions, held.notes[0][:38]) == ((), "several boxes may not pull the image: ")
    boxes = make_plan(make_snapshot(*refused, *others, budget=rich))
    assert {type(action) for action in boxes.actions} == {Rent}
