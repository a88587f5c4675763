"""Properties of every plan: it breaks no cap, touches only the fleet's boxes, and converges."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fleet_builders import NOW, PREFIX, ago, make_offer
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.plan import (
    Adopt,
    Destroy,
    DestroyOrphan,
    Drain,
    MarkClosed,
    MarkReady,
    Rent,
    Terminate,
    make_plan,
)
from validation.fleet.policy import OCCUPYING, SERVING, TRANSITIONS
from validation.fleet.snapshot import BudgetState, DesiredFleet, FleetSnapshot
from validation.ledger.fleet import Ban, RentedInstance
from validation.vast.listings import Instance, Listing

PROPERTY = settings(max_examples=40, deadline=None)
STEPS = {Adopt: "renting", MarkReady: "working", Drain: "draining", Terminate: "destroying", MarkClosed: "gone"}


@st.composite
def boxes(draw, slot: int) -> RentedInstance:
    """A box in any state that the ledger would allow."""
    state = draw(
        st.sampled_from(["requested", "renting", "working", "working", "draining", "destroying", "destroyed", "gone"])
    )
    age = st.sampled_from([5.0, 90.0, 400.0, 2000.0, 9000.0])
    maybe_age = st.one_of(st.none(), age)
    changed = draw(age)
    requested = changed + draw(age)
    heartbeat_age = draw(st.sampled_from([None, 10.0, 10.0, 1000.0]))
    running = draw(maybe_age)
    return RentedInstance(
        label=f"{PREFIX}{slot}/x", slot=slot, worker_id=f"val-{slot}", state=state, offer_id=slot, machine_id=slot,
        host_id=draw(st.integers(1, 4)), gpu_name="RTX 3090", usd_per_hour=0.25, usd_once=0.02, boot_timeout_s=900,
        instance_id=None if state == "requested" else 7000 + slot, requested_at=ago(requested), changed_at=ago(changed),
        vendor_status=draw(st.sampled_from([None, "loading", "running", "offline"])),
        vendor_status_since=ago(draw(age)), absences=draw(st.integers(0, 4)),
        first_running_at=None if running is None else ago(running),
        accepted_at=ago(changed) if state == "working" else None,
        slow_since=draw(st.sampled_from([None, None, ago(2000)])),
        reason=draw(st.sampled_from(["surplus", "stopped", "account_event", "image_refused"])) if state in
        {"draining", "destroying", "destroyed", "gone"} else None,
        heartbeat_at=None if heartbeat_age is None else ago(heartbeat_age),
        segments_per_s=draw(st.sampled_from([0.0, 4.0, 11.0])),
        open_chunks=draw(st.integers(0, 2)), gpu_seen=draw(st.sampled_from([None, "NVIDIA GeForce RTX 3090", "GTX"])),
    )  # fmt: skip


@st.composite
def listings(draw, fleet: list[RentedInstance]) -> Listing:
    """Some of the fleet's boxes, orphans, and foreign instances."""
    shown = [box for box in fleet if draw(st.integers(0, 4))]
    rows = [
        Instance(
            id=box.instance_id or 8000 + box.slot, label=box.label,
            dph_total=draw(st.sampled_from([0.25, 9.0])),
            actual_status=draw(st.sampled_from(["running", "running", "loading", "offline", "exited", None])),
            cur_state=draw(st.sampled_from(["running", "running", "stopped"])),
            status_msg=draw(st.sampled_from([None, None, "manifest unknown", "OCI runtime create failed"])),
        )
        for box in shown
    ]  # fmt: skip
    rows += [Instance(id=9000 + n, label=f"{PREFIX}{n + 1}/orphan") for n in range(draw(st.integers(0, 2)))]
    rows += [Instance(id=9100 + n, label=label) for n, label in enumerate(["", "notebook", "vfleet/blue-2/1/x"])]
    return Listing(tuple(rows), draw(st.sampled_from([None, None, None, "a page is missing"])))


@st.composite
def snapshots(draw) -> FleetSnapshot:
    fleet = [draw(boxes(slot + 1)) for slot in range(draw(st.integers(0, 8)))]
    offers = [
        make_offer(100 + n, usd=draw(st.sampled_from([0.1, 0.25, 0.5])), host=draw(st.integers(1, 6)),
                   machine=draw(st.sampled_from([None, 1, 2, 3])))
        for n in range(draw(st.integers(0, 12)))
    ]  # fmt: skip
    usd_per_hour = sum(box.usd_per_hour for box in fleet if box.state != "gone")
    spent = draw(st.sampled_from([0.0, 5.0, 9.9]))
    return FleetSnapshot(
        desired=DesiredFleet(
            boxes=draw(st.integers(0, 10)), chunks_left=draw(st.integers(0, 20)), max_usd_per_box=1.0,
            max_per_host=2, abandon=draw(st.booleans()) and draw(st.booleans()),
        ),
        boxes=fleet,
        listing=draw(listings(fleet)),
        label_prefix=PREFIX,
        launch_spec=LaunchSpec("worker:1"),
        budget=BudgetState(draw(st.sampled_from([0.5, 2.0, 50.0])), 10.0, usd_per_hour, spent,
                    draw(st.sampled_from([None, 0.1, 50.0]))),
        now=NOW,
        bans=[Ban(kind, draw(st.integers(1, 3)), "slow", NOW + timedelta(1)) for kind in ("machine", "host")],
        offers=draw(st.sampled_from([None, offers, offers])),
    )  # fmt: skip


def rents(plan) -> list[Rent]:
    return [action for action in plan.actions if isinstance(action, Rent)]


@st.composite
def rentable_snapshots(draw) -> FleetSnapshot:
    """Snapshots in which only the caps and the boxes that exist limit the renting."""
    snapshot = draw(snapshots())
    fleet = [replace(box, reason=box.reason and "surplus", absences=0) for box in snapshot.boxes]
    return replace(
        snapshot,
        desired=replace(snapshot.desired, chunks_left=40, abandon=False, boxes=draw(st.integers(4, 12))),
        boxes=fleet,
        listing=Listing(tuple(replace(i, cur_state="running", status_msg=None) for i in snapshot.listing.instances)),
        budget=replace(
            snapshot.budget, max_usd_per_hour=draw(st.sampled_from([2.5, 50.0])), spent_usd=0.0, credit_usd=None
        ),
        offers=[make_offer(100 + n, usd=0.25, host=n // 2 + 10) for n in range(20)],
    )


@PROPERTY
@given(st.one_of(snapshots(), rentable_snapshots()))
def test_plan_never_exceeds_a_cap(snapshot):
    """Boxes, dollars per hour and dollars in all, with everything counted that may bill."""
    new = rents(make_plan(snapshot))
    if not new:
        return
    there = [box for box in snapshot.boxes if box.state in OCCUPYING]
    assert len(there) + len(new) <= snapshot.desired.boxes
    rate = snapshot.budget.usd_per_hour + sum(rent.offer.usd_per_hour for rent in new)
    assert rate <= snapshot.budget.max_usd_per_hour
    assert 2 * rate + sum(rent.offer.usd_once for rent in new) <= snapshot.budget.left_usd


@PROPERTY
@given(st.one_of(snapshots(), rentable_snapshots()))
def test_plan_never_fills_a_slot_twice(snapshot):
    """No plan rents two boxes for a slot, one box or offer twice, or too many boxes of one host."""
    new = rents(make_plan(snapshot))
    open_rows = [box for box in snapshot.boxes if box.state != "gone"]
    for taken, fresh in (
        ({m.slot for m in open_rows}, [r.slot for r in new]),
        ({m.machine_id for m in open_rows}, [r.offer.machine_id for r in new]),
        ({m.offer_id for m in open_rows}, [r.offer.id for r in new]),
    ):
        assert len(set(fresh)) == len(fresh)
        assert not taken & set(fresh)
    hosts = Counter([m.host_id for m in open_rows])
    for rent in new:
        hosts[rent.offer.host_id] += 1
        assert hosts[rent.offer.host_id] <= snapshot.desired.max_per_host


@PROPERTY
@given(snapshots())
def test_plan_never_touches_foreign_instances(snapshot):
    """It acts only on ids that the ledger knows or that are listed under the fleet's label prefix."""
    ours = {i.id for i in snapshot.listing.of_fleet(PREFIX)} | {m.instance_id for m in snapshot.boxes}
    for action in make_plan(snapshot).actions:
        if isinstance(action, DestroyOrphan | Adopt):
            assert action.instance_id in ours
            assert action.instance_id < 9100


@PROPERTY
@given(snapshots())
def test_plan_never_rents_a_banned_machine(snapshot):
    bans = {(ban.kind, ban.vendor_id) for ban in snapshot.bans}
    plan = make_plan(snapshot)
    for offer in [*(rent.offer for rent in rents(plan)), *plan.spares]:
        assert not {("machine", offer.machine_id), ("host", offer.host_id)} & bans


@PROPERTY
@given(snapshots())
def test_plan_makes_at_most_one_allowed_transition_per_box(snapshot):
    """The ledger allows every transition that a plan asks for."""
    steps = [action for action in make_plan(snapshot).actions if not isinstance(action, Rent | DestroyOrphan)]
    assert max(Counter(action.box.label for action in steps).values(), default=0) <= 1
    for action in steps:
        if isinstance(action, Destroy):
            assert action.box.state in {"destroying", "destroyed"}
        else:
            assert STEPS[type(action)] in TRANSITIONS[action.box.state]


@PROPERTY
@given(snapshots())
def test_plan_with_an_incomplete_listing_only_destroys(snapshot):
    """On the evidence of an incomplete listing nothing is rented, marked ready, adopted, closed or called an orphan."""
    blind = replace(snapshot, listing=replace(snapshot.listing, why_incomplete="cut"))
    allowed = (Destroy, Terminate) if snapshot.desired.abandon else (Destroy,)
    assert all(isinstance(action, allowed) for action in make_plan(blind).actions)


@PROPERTY
@given(snapshots())
def test_plan_never_rents_and_scales_down_at_once(snapshot):
    """No plan has both a box too many and a box too few."""
    plan = make_plan(snapshot)
    too_many = [
        a for a in plan.actions if isinstance(a, Drain | Terminate) and a.reason in {"surplus", "budget", "dismissed"}
    ]
    assert not (too_many and rents(plan))


@PROPERTY
@given(snapshots())
def test_plan_rents_nothing_without_order_or_work(snapshot):
    """An order of zero boxes or an empty queue rents nothing."""
    for desired in (replace(snapshot.desired, boxes=0), replace(snapshot.desired, chunks_left=0)):
        assert rents(make_plan(replace(snapshot, desired=desired))) == []


def advance(snapshot: FleetSnapshot, number: int) -> FleetSnapshot:
    """The snapshot two minutes after a vendor without failures executed the plan."""
    plan = make_plan(snapshot)
    rows = {box.label: box for box in snapshot.boxes}
    listed = {i.id: replace(i, actual_status="running", cur_state="running", status_msg=None, dph_total=0.25)
              for i in snapshot.listing.instances}  # fmt: skip
    for action in plan.actions:
        match action:
            case Rent(slot, offer):
                label = f"{PREFIX}{slot}/{number}"
                rows[label] = RentedInstance(
                    label, slot, f"val-{slot}", "renting", offer.id, offer.machine_id, offer.host_id, offer.gpu_name,
                    offer.usd_per_hour, offer.usd_once, 900, 20_000 + 100 * number + slot, NOW, NOW,
                )  # fmt: skip
                listed[rows[label].instance_id] = Instance(rows[label].instance_id, label, dph_total=0.25)
            case Adopt(box, instance_id):
                rows[box.label] = replace(box, state="renting", instance_id=instance_id)
            case Terminate(box) | Destroy(box):
                rows[box.label] = replace(box, state="destroyed", reason="surplus", absences=0)
                listed.pop(box.instance_id, None)
            case DestroyOrphan(instance_id):
                listed.pop(instance_id)
            case MarkReady(box) | Drain(box) | MarkClosed(box):
                step = STEPS[type(action)]
                rows[box.label] = replace(
                    box, state=step, open_chunks=0, reason="surplus" if step != "working" else None
                )
    fresh = [
        replace(m, heartbeat_at=NOW, slow_since=None, gpu_seen=None, changed_at=ago(300), vendor_status_since=NOW,
                absences=0 if m.instance_id in listed else m.absences + 1, open_chunks=0)
        for m in rows.values() if m.state != "gone"
    ]  # fmt: skip
    usd_per_hour = sum(box.usd_per_hour for box in fresh)
    return replace(
        snapshot, boxes=fresh, listing=Listing(tuple(listed.values())),
        budget=replace(snapshot.budget, usd_per_hour=usd_per_hour, spent_usd=0.0, credit_usd=None),
    )  # fmt: skip


@PROPERTY
@given(snapshots())
def test_fleet_without_failures_converges(snapshot):
    """From any snapshot, ticks lead to the ordered state, in which further ticks do nothing."""
    now = replace(snapshot, budget=BudgetState(50.0, 1000.0, snapshot.budget.usd_per_hour, 0.0))
    now = replace(now, offers=[make_offer(300 + n) for n in range(60)])
    for number in range(20):
        now = advance(now, number)
    at_rest = make_plan(now)
    assert at_rest.actions == ()
    serving = [box for box in now.boxes if box.state in SERVING]
    assert now.desired.rent_up_to <= len(serving) <= now.desired.keep_up_to
    assert {box.state for box in now.boxes} <= {"working"}
