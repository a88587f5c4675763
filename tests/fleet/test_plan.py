"""Whatever the snapshot, a plan breaks no cap, touches nothing of others, and comes to rest."""

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
from validation.fleet.snapshot import BudgetState, Desired, FleetSnapshot
from validation.ledger.fleet import Ban, RentedInstance
from validation.vast.instances import Instance, Listing

LAW = settings(max_examples=40, deadline=None)
STEPS = {Adopt: "renting", MarkReady: "working", Drain: "draining", Terminate: "destroying", MarkClosed: "gone"}


@st.composite
def boxes(draw, slot: int) -> RentedInstance:
    """A machine in any state that the ledger would allow."""
    state = draw(
        st.sampled_from(["requested", "renting", "working", "working", "draining", "destroying", "destroyed", "gone"])
    )
    age = st.sampled_from([5.0, 90.0, 400.0, 2000.0, 9000.0])
    maybe_age = st.one_of(st.none(), age)
    changed = draw(age)
    requested = changed + draw(age)
    heard = draw(st.sampled_from([None, 10.0, 10.0, 1000.0]))
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
        heartbeat_at=None if heard is None else ago(heard), segments_per_s=draw(st.sampled_from([0.0, 4.0, 11.0])),
        open_chunks=draw(st.integers(0, 2)), gpu_seen=draw(st.sampled_from([None, "NVIDIA GeForce RTX 3090", "GTX"])),
    )  # fmt: skip


@st.composite
def listings(draw, fleet: list[RentedInstance]) -> Listing:
    """Some of the fleet's machines, orphans, and machines of others."""
    shown = [machine for machine in fleet if draw(st.integers(0, 4))]
    rows = [
        Instance(
            id=machine.instance_id or 8000 + machine.slot, label=machine.label,
            dph_total=draw(st.sampled_from([0.25, 9.0])),
            actual_status=draw(st.sampled_from(["running", "running", "loading", "offline", "exited", None])),
            cur_state=draw(st.sampled_from(["running", "running", "stopped"])),
            status_msg=draw(st.sampled_from([None, None, "manifest unknown", "OCI runtime create failed"])),
        )
        for machine in shown
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
    burn = sum(machine.usd_per_hour for machine in fleet if machine.state != "gone")
    spent = draw(st.sampled_from([0.0, 5.0, 9.9]))
    return FleetSnapshot(
        desired=Desired(
            boxes=draw(st.integers(0, 10)), chunks_left=draw(st.integers(0, 20)), max_usd_per_box=1.0,
            max_per_host=2, abandon=draw(st.booleans()) and draw(st.booleans()),
        ),
        boxes=fleet,
        listing=draw(listings(fleet)),
        label_prefix=PREFIX,
        launch_spec=LaunchSpec("worker:1"),
        budget=BudgetState(draw(st.sampled_from([0.5, 2.0, 50.0])), 10.0, burn, spent,
                    draw(st.sampled_from([None, 0.1, 50.0]))),
        now=NOW,
        bans=[Ban(kind, draw(st.integers(1, 3)), "slow", ago(9), NOW + timedelta(1)) for kind in ("machine", "host")],
        offers=draw(st.sampled_from([None, offers, offers])),
    )  # fmt: skip


def rents(chosen) -> list[Rent]:
    return [action for action in chosen.actions if isinstance(action, Rent)]


@st.composite
def eager_snapshots(draw) -> FleetSnapshot:
    """Pictures in which nothing stands in the way of renting but the caps and what is there already."""
    snapshot = draw(snapshots())
    fleet = [replace(machine, reason=machine.reason and "surplus", absences=0) for machine in snapshot.boxes]
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


@LAW
@given(st.one_of(snapshots(), eager_snapshots()))
def test_a_plan_never_goes_above_a_cap(snapshot):
    """Number, dollars an hour and dollars in all, with everything counted that may bill."""
    new = rents(make_plan(snapshot))
    if not new:
        return
    there = [machine for machine in snapshot.boxes if machine.state in OCCUPYING]
    assert len(there) + len(new) <= snapshot.desired.boxes
    rate = snapshot.budget.usd_per_hour + sum(rent.offer.usd_per_hour for rent in new)
    assert rate <= snapshot.budget.max_usd_per_hour
    assert 2 * rate + sum(rent.offer.usd_once for rent in new) <= snapshot.budget.left_usd


@LAW
@given(st.one_of(snapshots(), eager_snapshots()))
def test_a_plan_never_gives_a_slot_a_second_machine(snapshot):
    """Nor rents one machine or one offer twice, nor more than its share from a host."""
    new = rents(make_plan(snapshot))
    open_rows = [machine for machine in snapshot.boxes if machine.state != "gone"]
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


@LAW
@given(snapshots())
def test_a_plan_never_touches_what_is_not_ours(snapshot):
    """Only ids that the ledger knows, or that are listed under our own label."""
    ours = {i.id for i in snapshot.listing.of_fleet(PREFIX)} | {m.instance_id for m in snapshot.boxes}
    for action in make_plan(snapshot).actions:
        if isinstance(action, DestroyOrphan | Adopt):
            assert action.instance_id in ours
            assert action.instance_id < 9100


@LAW
@given(snapshots())
def test_a_plan_never_rents_what_is_banned(snapshot):
    bans = {(ban.kind, ban.vendor_id) for ban in snapshot.bans}
    chosen = make_plan(snapshot)
    for offer in [*(rent.offer for rent in rents(chosen)), *chosen.spares]:
        assert not {("machine", offer.machine_id), ("host", offer.host_id)} & bans


@LAW
@given(snapshots())
def test_every_step_of_a_plan_is_one_of_the_table_and_no_machine_takes_two(snapshot):
    """What the plan asks for, the ledger allows."""
    steps = [action for action in make_plan(snapshot).actions if not isinstance(action, Rent | DestroyOrphan)]
    assert max(Counter(action.box.label for action in steps).values(), default=0) <= 1
    for action in steps:
        if isinstance(action, Destroy):
            assert action.box.state in {"destroying", "destroyed"}
        else:
            assert STEPS[type(action)] in TRANSITIONS[action.box.state]


@LAW
@given(snapshots())
def test_an_incomplete_listing_is_for_reading_only(snapshot):
    """On its evidence nothing is rented, accepted, adopted, closed or called an orphan."""
    blind = replace(snapshot, listing=replace(snapshot.listing, why_incomplete="cut"))
    allowed = (Destroy, Terminate) if snapshot.desired.abandon else (Destroy,)
    assert all(isinstance(action, allowed) for action in make_plan(blind).actions)


@LAW
@given(snapshots())
def test_a_plan_does_not_rent_with_one_hand_and_dismiss_with_the_other(snapshot):
    """In one plan there is never both a machine too many and one too few."""
    chosen = make_plan(snapshot)
    too_many = [
        a for a in chosen.actions if isinstance(a, Drain | Terminate) and a.reason in {"surplus", "budget", "dismissed"}
    ]
    assert not (too_many and rents(chosen))


@LAW
@given(snapshots())
def test_nothing_wanted_is_nothing_rented(snapshot):
    """Neither for an operator who wants nothing, nor for an empty queue."""
    for desired in (replace(snapshot.desired, boxes=0), replace(snapshot.desired, chunks_left=0)):
        assert rents(make_plan(replace(snapshot, desired=desired))) == []


def advance(snapshot: FleetSnapshot, number: int) -> FleetSnapshot:
    """What a vendor and a world without faults make of a plan, and two minutes later."""
    chosen = make_plan(snapshot)
    rows = {machine.label: machine for machine in snapshot.boxes}
    listed = {i.id: replace(i, actual_status="running", cur_state="running", status_msg=None, dph_total=0.25)
              for i in snapshot.listing.instances}  # fmt: skip
    for action in chosen.actions:
        match action:
            case Rent(slot, offer):
                label = f"{PREFIX}{slot}/{number}"
                rows[label] = RentedInstance(
                    label, slot, f"val-{slot}", "renting", offer.id, offer.machine_id, offer.host_id, offer.gpu_name,
                    offer.usd_per_hour, offer.usd_once, 900, 20_000 + 100 * number + slot, NOW, NOW,
                )  # fmt: skip
                listed[rows[label].instance_id] = Instance(rows[label].instance_id, label, dph_total=0.25)
            case Adopt(machine, instance_id):
                rows[machine.label] = replace(machine, state="renting", instance_id=instance_id)
            case Terminate(machine) | Destroy(machine):
                rows[machine.label] = replace(machine, state="destroyed", reason="surplus", absences=0)
                listed.pop(machine.instance_id, None)
            case DestroyOrphan(instance_id):
                listed.pop(instance_id)
            case MarkReady(machine) | Drain(machine) | MarkClosed(machine):
                step = STEPS[type(action)]
                rows[machine.label] = replace(
                    machine, state=step, open_chunks=0, reason="surplus" if step != "working" else None
                )
    fresh = [
        replace(m, heartbeat_at=NOW, slow_since=None, gpu_seen=None, changed_at=ago(300), vendor_status_since=NOW,
                absences=0 if m.instance_id in listed else m.absences + 1, open_chunks=0)
        for m in rows.values() if m.state != "gone"
    ]  # fmt: skip
    burn = sum(machine.usd_per_hour for machine in fresh)
    return replace(
        snapshot, boxes=fresh, listing=Listing(tuple(listed.values())),
        budget=replace(snapshot.budget, usd_per_hour=burn, spent_usd=0.0, credit_usd=None),
    )  # fmt: skip


@LAW
@given(snapshots())
def test_in_a_world_without_faults_the_fleet_comes_to_rest_and_stays(snapshot):
    """From any snapshot, ticks lead to a state in which the next ones do nothing, and which is the one wanted."""
    now = replace(snapshot, budget=BudgetState(50.0, 1000.0, snapshot.budget.usd_per_hour, 0.0))
    now = replace(now, offers=[make_offer(300 + n) for n in range(60)])
    for number in range(20):
        now = advance(now, number)
    at_rest = make_plan(now)
    assert at_rest.actions == ()
    serving = [machine for machine in now.boxes if machine.state in SERVING]
    assert now.desired.rent_up_to <= len(serving) <= now.desired.keep_up_to
    assert {machine.state for machine in now.boxes} <= {"working"}
