"""Choose the actions of one tick. The functions are pure: equal snapshots give equal plans. No plan exceeds a cap.

If the listing is incomplete, a plan rents no box and marks no box as ready or closed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from validation.domain import Seconds
from validation.fleet.policy import (
    OCCUPYING,
    SERVING,
    Reason,
    ReconcilerPolicy,
    diagnose,
    is_correlated_failure,
    is_ready,
)
from validation.fleet.snapshot import BudgetState, FleetSnapshot
from validation.ledger.fleet import RentedInstance
from validation.vast.listings import Instance, Offer


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record the instance of a create whose response was lost: a listing shows the label of the box."""

    box: RentedInstance
    instance_id: int


@dataclass(frozen=True, slots=True)
class MarkReady:
    """Record that the box works, because its worker sends heartbeats."""

    box: RentedInstance


@dataclass(frozen=True, slots=True)
class Drain:
    """Let the box finish the chunks that it holds."""

    box: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Terminate:
    """Destroy the box. Ban its machine if ``BAN_S`` holds the reason."""

    box: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Destroy:
    """Send the destroy again, because the vendor has not confirmed it, or still lists the instance."""

    box: RentedInstance


@dataclass(frozen=True, slots=True)
class DestroyOrphan:
    """Destroy an instance with the fleet's label that belongs to no open row of the ledger."""

    instance_id: int
    label: str


@dataclass(frozen=True, slots=True)
class MarkClosed:
    """Record that the box is gone. Complete listings prove that it was destroyed or never rented."""

    box: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Rent:
    """Rent this offer for a free slot."""

    slot: int
    offer: Offer


Step: TypeAlias = Adopt | MarkReady | Drain | Terminate | Destroy | MarkClosed
"""An action on one box of the ledger."""
Action: TypeAlias = Step | DestroyOrphan | Rent


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions of one tick, in order: actions that save money precede those that spend it."""

    actions: tuple[Action, ...] = ()
    to_rent: int = 0
    """Number of boxes that may be rented if the market has offers: the missing boxes, at most the limit per tick."""
    spares: tuple[Offer, ...] = ()
    """Offers to rent instead of those that turn out to be gone."""
    notes: tuple[str, ...] = ()
    """Sentences that explain to an operator why the plan does less than expected."""


def make_plan(snapshot: FleetSnapshot) -> Plan:
    """Choose the actions of one tick."""
    if not snapshot.listing.complete:
        return _plan_without_listing(snapshot)
    listed = snapshot.match_instances()
    diagnoses = _diagnose_all(snapshot, listed)
    steps = [step for box in snapshot.boxes if (step := _choose_step(box, listed, diagnoses, snapshot))]
    leaving = {step.box.label for step in steps if isinstance(step, Terminate | MarkClosed)}
    scaled_down = _scale_down(snapshot, leaving)
    scaled_down_labels = {step.box.label for step in scaled_down}
    steps = [step for step in steps if step.box.label not in scaled_down_labels]  # one step per box
    saving = _limit_per_tick([*_find_orphans(snapshot, listed), *steps, *scaled_down], snapshot.policy)
    hold = _hold_reason(snapshot, diagnoses)
    if hold:
        return Plan(tuple(saving), notes=(hold,))
    rents = plan_rentals(snapshot, _count_missing(snapshot, leaving | scaled_down_labels))
    return replace(rents, actions=(*saving, *rents.actions))


def plan_rentals(snapshot: FleetSnapshot, missing: int) -> Plan:
    """Return a plan that rents up to ``missing`` boxes: the best offers, each for the lowest free slot.

    The plan respects the caps, the runway, the bans, and the maximum numbers of boxes per host and of rentals per tick.
    Before the market was searched it has no rentals, only their number.
    """
    policy, budget = snapshot.policy, snapshot.budget
    count = min(missing, policy.max_rents_per_tick)
    if count == 0 or snapshot.offers is None:
        refusal = budget.rejection_reason(0.0, 0.0, hours=policy.min_runway_to_rent_h) if count else None
        return Plan(to_rent=0 if refusal else count, notes=(refusal,) if refusal else ())
    slots, boxes_per_host = _free_slots(snapshot), _count_boxes_per_host(snapshot)
    rents: list[Rent] = []
    spares: list[Offer] = []
    notes: list[str] = []
    for offer in _eligible_offers(snapshot):
        if boxes_per_host[offer.host_id] >= snapshot.desired.max_per_host:
            continue
        boxes_per_host[offer.host_id] += 1
        if len(rents) == count:
            spares.append(offer)  # the ledger checks the caps again if a spare is rented
            continue
        refusal = budget.rejection_reason(offer.usd_per_hour, offer.usd_once, hours=policy.min_runway_to_rent_h)
        if refusal:
            notes.append(refusal)
            break
        budget = _budget_after_rental(budget, offer)
        rents.append(Rent(next(slots), offer))
    if len(rents) < count and not notes:
        notes.append(f"{count} more boxes are wanted, and the market has {len(rents)} offers that are good enough")
    return Plan(tuple(rents), count, tuple(spares), tuple(notes))


def _eligible_offers(snapshot: FleetSnapshot) -> Iterator[Offer]:
    """Yield the offers of machines that are neither banned nor rented, one offer per machine."""
    banned = {(ban.kind, ban.vendor_id) for ban in snapshot.bans if ban.expires_at > snapshot.now}
    taken = {box.machine_id for box in snapshot.boxes if box.state != "gone"}
    for offer in snapshot.offers or ():
        if offer.machine_id in taken or ("machine", offer.machine_id) in banned or ("host", offer.host_id) in banned:
            continue
        taken.add(offer.machine_id)
        yield offer


def _free_slots(snapshot: FleetSnapshot) -> Iterator[int]:
    """Yield the numbers of the free slots from 1 on, without an end."""
    taken = {box.slot for box in snapshot.boxes if box.state != "gone"}
    slot = 1
    while True:
        if slot not in taken:
            yield slot
        slot += 1


def _count_boxes_per_host(snapshot: FleetSnapshot) -> Counter[int]:
    """Return the number of boxes that are not ``gone`` per id of their host."""
    return Counter(box.host_id for box in snapshot.boxes if box.state != "gone")


def _budget_after_rental(budget: BudgetState, offer: Offer) -> BudgetState:
    return replace(
        budget, usd_per_hour=budget.usd_per_hour + offer.usd_per_hour, spent_usd=budget.spent_usd + offer.usd_once
    )


def _plan_without_listing(snapshot: FleetSnapshot) -> Plan:
    """Return the plan for an incomplete listing.

    The plan destroys only boxes that are in state ``destroying``, or all boxes if the operator abandoned the fleet. A
    box without a known instance is left out. These decisions do not depend on the listing.
    """
    known = [box for box in snapshot.boxes if box.instance_id is not None]
    actions: list[Action] = [Destroy(box) for box in known if box.state == "destroying"]
    if snapshot.desired.abandon:
        actions += [Terminate(box, "dismissed") for box in known if box.state in {"renting", "working", "draining"}]
    note = f"the listing is not complete ({snapshot.listing.why_incomplete}): nothing is rented on its evidence"
    return Plan(tuple(_limit_per_tick(actions, snapshot.policy)), notes=(note,))


def _find_orphans(snapshot: FleetSnapshot, listed: Mapping[str, Instance]) -> list[DestroyOrphan]:
    """Return a destroy for each listed instance with the fleet's label that no open row of the ledger describes."""
    known = {instance.id for instance in listed.values()}
    ours = snapshot.listing.of_fleet(snapshot.label_prefix)
    return [DestroyOrphan(instance.id, instance.label) for instance in ours if instance.id not in known]


def _diagnose_all(snapshot: FleetSnapshot, listed: Mapping[str, Instance]) -> dict[str, Reason]:
    """Return the reason why each faulty box must leave, by label.

    If so large a part of the fleet is stopped that ``is_correlated_failure`` holds, these boxes get the reason
    ``account_event``, which bans no machine. If so large a part sends no heartbeats, these boxes get no reason.
    """
    policy, limit = snapshot.policy, snapshot.desired.max_usd_per_box
    alive = [box for box in snapshot.boxes if box.state in {"renting", "working", "draining"}]
    found = [(box, diagnose(box, listed.get(box.label), snapshot.now, policy, max_usd_per_hour=limit)) for box in alive]
    diagnoses = {box.label: reason for box, reason in found if reason}
    stopped = [box for box, reason in found if reason == "stopped"]
    silent = [box for box, reason in found if reason == "heartbeat_timeout" and box.state != "renting"]
    if is_correlated_failure(stopped, len(alive), policy):
        diagnoses |= {box.label: "account_event" for box in stopped}
    if is_correlated_failure(silent, sum(box.state != "renting" for box in alive), policy):
        for box in silent:
            del diagnoses[box.label]  # the ledger or the network failed: the boxes may be working
    return diagnoses


def _choose_step(
    box: RentedInstance, listed: Mapping[str, Instance], diagnoses: Mapping[str, Reason], snapshot: FleetSnapshot
) -> Step | None:
    """Return the one step that a box needs in its state; None if the box needs none."""
    instance = listed.get(box.label)
    match box.state:
        case "requested":
            return _step_requested(box, instance, snapshot.policy)
        case "destroying":
            return Destroy(box)
        case "destroyed":
            return _step_destroyed(box, instance, snapshot)
        case "gone":
            return None
    return _step_rented(box, diagnoses.get(box.label), snapshot)


def _step_rented(box: RentedInstance, diagnosis: Reason | None, snapshot: FleetSnapshot) -> Step | None:
    """Return the step of a box that is renting, working or draining. ``diagnosis`` is its fault, if any."""
    reason = diagnosis or ("dismissed" if snapshot.desired.abandon else None)
    if reason:
        return Terminate(box, reason)
    if box.state == "renting":
        return MarkReady(box) if is_ready(box, snapshot.now, snapshot.policy) else None
    drained = box.open_chunks == 0 or _time_in_state_s(box, snapshot) > snapshot.policy.drain_timeout_s
    return Terminate(box, "drained") if box.state == "draining" and drained else None


def _step_requested(box: RentedInstance, instance: Instance | None, policy: ReconcilerPolicy) -> Step | None:
    """Return the step of a requested box: adopt its instance, or close it after enough listings without it."""
    if instance is not None:
        return Adopt(box, instance.id)
    return MarkClosed(box, "never_rented") if box.absences >= policy.min_absences_never_rented else None


def _step_destroyed(box: RentedInstance, instance: Instance | None, snapshot: FleetSnapshot) -> Step | None:
    """Return the step of a destroyed box: close it when listings lack it, destroy it again if one has it too long."""
    if instance is not None:
        return Destroy(box) if _time_in_state_s(box, snapshot) > snapshot.policy.listing_lag_s else None
    return MarkClosed(box, "drained") if box.absences >= snapshot.policy.min_absences_to_close else None


def _time_in_state_s(box: RentedInstance, snapshot: FleetSnapshot) -> Seconds:
    return (snapshot.now - box.changed_at).total_seconds()


def _scale_down(snapshot: FleetSnapshot, leaving: set[str]) -> list[Terminate | Drain]:
    """Return the steps that remove surplus boxes, or all boxes if the money is nearly spent.

    Of surplus boxes those that do not work yet leave first, then those with the fewest segments per dollar. Requested
    boxes stay. ``leaving`` has the labels of the boxes that leave for another reason.
    """
    staying = [box for box in snapshot.boxes if box.state in SERVING and box.label not in leaving]
    runway_h, policy = snapshot.budget.runway_h, snapshot.policy
    if runway_h < policy.min_runway_to_drain_h:
        rented = [box for box in snapshot.boxes if box.state in {"renting", "working", "draining"}]
        return [Terminate(box, "budget") for box in rented if box.label not in leaving]
    if runway_h < policy.min_runway_to_run_h:
        return [_drain_or_terminate(box, "budget") for box in staying if box.state != "requested"]
    excess = max(0, len(staying) - snapshot.desired.keep_up_to)
    worst = sorted((box for box in staying if box.state != "requested"), key=_leaving_order)[:excess]
    return [_drain_or_terminate(box, "surplus") for box in worst]


def _drain_or_terminate(box: RentedInstance, reason: Reason) -> Terminate | Drain:
    """Return a drain for a working box; return a termination for a box that does not work yet."""
    return Drain(box, reason) if box.state == "working" else Terminate(box, reason)


def _leaving_order(box: RentedInstance) -> tuple[bool, float, int]:
    """Return a sort key: boxes that do not work yet come first, then those with the fewest segments per dollar."""
    segments_per_dollar = box.segments_per_s / box.usd_per_hour if box.usd_per_hour else 0.0
    return box.state == "working", segments_per_dollar, -box.slot


def _count_missing(snapshot: FleetSnapshot, leaving: set[str]) -> int:
    """Return how many boxes are missing: up to ``rent_up_to`` serving boxes and the ordered number of occupied slots.

    Boxes with a label in ``leaving`` do not serve any more, but occupy their slots until they are destroyed.
    """
    serving = sum(box.state in SERVING and box.label not in leaving for box in snapshot.boxes)
    occupying = sum(box.state in OCCUPYING for box in snapshot.boxes)
    return max(0, min(snapshot.desired.rent_up_to - serving, snapshot.desired.boxes - occupying))


def _hold_reason(snapshot: FleetSnapshot, diagnoses: Mapping[str, Reason]) -> str | None:
    """Return why nothing is rented although boxes are missing; None if boxes may be rented."""
    policy = snapshot.policy

    def count_recent(reason: Reason, window_s: Seconds) -> int:
        left = sum(box.reason == reason and _time_in_state_s(box, snapshot) < window_s for box in snapshot.boxes)
        return left + sum(diagnosis == reason for diagnosis in diagnoses.values())

    if count_recent("account_event", policy.correlated_failure_hold_s):
        return "boxes were stopped together: check the account's credit and the vendor; renting waits"
    hold_s = policy.image_refusal_hold_s
    refused = count_recent("image_refused", hold_s) + count_recent("pull_limited", hold_s)
    if refused >= max(policy.min_image_refusals, _count_recent_pulls(snapshot)):
        return "several boxes may not pull the image: check its name and its registry; renting waits"
    return None


def _count_recent_pulls(snapshot: FleetSnapshot) -> int:
    """Count the boxes that pulled the image within ``image_refusal_hold_s``, the time in which refusals are counted."""
    starts = [box.first_running_at for box in snapshot.boxes if box.first_running_at]
    return sum((snapshot.now - start).total_seconds() < snapshot.policy.image_refusal_hold_s for start in starts)


def _limit_per_tick(actions: Sequence[Action], policy: ReconcilerPolicy) -> list[Action]:
    """Keep the first ``max_destroys_per_tick`` destroys and every other action, in the given order."""
    destroys = [action for action in actions if isinstance(action, Destroy | DestroyOrphan | Terminate)]
    kept = {id(action) for action in destroys[: policy.max_destroys_per_tick]}
    return [a for a in actions if not isinstance(a, Destroy | DestroyOrphan | Terminate) or id(a) in kept]
