"""What to do about the fleet now. Pure: the same picture gives the same plan, and no plan breaks a cap.

A picture whose listing is incomplete is for reading only: nothing is rented, accepted or closed on its evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from validation.domain import Seconds
from validation.fleet.actions import (
    Action,
    Adopt,
    Destroy,
    DestroyOrphan,
    Drain,
    MarkClosed,
    MarkReady,
    Plan,
    Step,
    Terminate,
)
from validation.fleet.blacklist import Reason
from validation.fleet.budget import BudgetState
from validation.fleet.health import has_heartbeat, is_correlated_failure, judge
from validation.fleet.policy import ControllerPolicy
from validation.fleet.rent import choose_offers
from validation.fleet.states import OCCUPYING, SERVING
from validation.ledger.fleet import Ban, RentedInstance
from validation.vast.instances import Instance, Listing
from validation.vast.offers import Offer


@dataclass(frozen=True, slots=True)
class Desired:
    """What an operator wants, and what there is to do."""

    machines: int
    chunks_left: int
    """Claimable and open ones: a machine without a chunk is of no use."""
    max_usd_per_machine: float
    max_per_host: int = 3
    abandon: bool = False
    """Destroy without draining."""

    @property
    def most(self) -> int:
        """Above this many, machines are let go."""
        return 0 if self.abandon else min(self.machines, self.chunks_left)

    @property
    def enough(self) -> int:
        """Below this many, machines are rented.

        Lower than ``most`` at the end of a queue: a machine that is rented then arrives when its chunk is done, and a
        queue that wavers by a chunk moves nobody.
        """
        return 0 if self.abandon else min(self.machines, ceil(self.chunks_left / 2))


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Everything that a plan stands on."""

    desired: Desired
    machines: Sequence[RentedInstance]
    """Every machine that may bill, and those that left lately."""
    listing: Listing
    label_prefix: str
    purse: BudgetState
    now: datetime
    bans: Sequence[Ban] = ()
    offers: Sequence[Offer] | None = None
    """Good enough ones, best value first; None before the market was asked."""
    rules: ControllerPolicy = field(default_factory=ControllerPolicy)


def plan(picture: FleetSnapshot) -> Plan:
    """Choose the actions of one tick."""
    if not picture.listing.complete:
        return _plan_without_listing(picture)
    sights = _match(picture)
    faults = _find_faults(picture, sights)
    upkeep = [action for machine in picture.machines if (action := _tend(machine, sights, faults, picture))]
    leaving = {action.machine.label for action in upkeep if isinstance(action, Terminate | MarkClosed)}
    orphans = _find_orphans(picture, sights)
    trims = _scale_down(picture, leaving)
    trimmed = {action.machine.label for action in trims}
    upkeep = [a for a in upkeep if a.machine.label not in trimmed]  # one that was about to be accepted goes instead
    frees = _limit_per_tick([*orphans, *upkeep, *trims], picture.rules)
    hold = _hold_reason(picture, faults)
    if hold:
        return Plan(tuple(frees), notes=(hold,))
    chosen = choose_offers(picture, _deficit(picture, leaving | trimmed))
    return Plan((*frees, *chosen.actions), chosen.to_rent, chosen.spares, chosen.notes)


def _plan_without_listing(picture: FleetSnapshot) -> Plan:
    """Without a complete listing: only what needs no evidence, destroying what has been told to go."""
    known = [machine for machine in picture.machines if machine.instance_id is not None]
    actions: list[Action] = [Destroy(machine) for machine in known if machine.state == "destroying"]
    if picture.desired.abandon:
        actions += [Terminate(m, "dismissed") for m in known if m.state in {"renting", "working", "draining"}]
    why = f"the listing is not complete ({picture.listing.why_incomplete}): nothing is rented on its evidence"
    return Plan(tuple(_limit_per_tick(actions, picture.rules)), notes=(why,))


def _match(picture: FleetSnapshot) -> dict[str, Instance]:
    """The listed instance of each machine: by its id, or by its label where its id is not known yet."""
    ours = picture.listing.ours(picture.label_prefix)
    by_id = {(instance.label, instance.id): instance for instance in ours}
    first = {instance.label: instance for instance in sorted(ours, key=lambda i: i.id, reverse=True)}
    matched = {
        machine.label: first.get(machine.label)
        if machine.instance_id is None
        else by_id.get((machine.label, machine.instance_id))
        for machine in picture.machines
        if machine.state != "gone"
    }
    return {label: instance for label, instance in matched.items() if instance is not None}


def _find_orphans(picture: FleetSnapshot, sights: Mapping[str, Instance]) -> list[DestroyOrphan]:
    """Listed machines with our label that no open row of the ledger stands for."""
    wanted = {instance.id for instance in sights.values()}
    ours = picture.listing.ours(picture.label_prefix)
    return [DestroyOrphan(instance.id, instance.label) for instance in ours if instance.id not in wanted]


def _find_faults(picture: FleetSnapshot, sights: Mapping[str, Instance]) -> dict[str, Reason]:
    """What is wrong, by label. What strikes a good part of the fleet at once is no machine's fault."""
    rules, limit = picture.rules, picture.desired.max_usd_per_machine
    alive = [m for m in picture.machines if m.state in {"renting", "working", "draining"}]
    judged = {m.label: (m, judge(m, sights.get(m.label), picture.now, rules, max_usd=limit)) for m in alive}
    faults = {label: reason for label, (_, reason) in judged.items() if reason}
    stopped = [m for m, reason in judged.values() if reason == "stopped"]
    silent = [m for m, reason in judged.values() if reason == "heartbeat_timeout" and m.state != "renting"]
    if is_correlated_failure(stopped, len(alive), rules):
        faults |= {machine.label: "account_event" for machine in stopped}
    if is_correlated_failure(silent, sum(m.state != "renting" for m in alive), rules):
        for machine in silent:
            del faults[machine.label]  # the ledger or the network was away: they may well be at work
    return faults


def _tend(
    machine: RentedInstance, sights: Mapping[str, Instance], faults: Mapping[str, Reason], picture: FleetSnapshot
) -> Step | None:
    """The one step, if any, that a machine is due, by its state."""
    seen = sights.get(machine.label)
    match machine.state:
        case "requested":
            return _tend_requested(machine, seen, picture.rules)
        case "destroying":
            return Destroy(machine)
        case "destroyed":
            return _tend_destroyed(machine, seen, picture)
        case "gone":
            return None
    return _tend_rented(machine, faults.get(machine.label), picture)


def _tend_rented(machine: RentedInstance, fault: Reason | None, picture: FleetSnapshot) -> Step | None:
    reason = fault or ("dismissed" if picture.desired.abandon else None)
    if reason:
        return Terminate(machine, reason)
    if machine.state == "renting":
        return MarkReady(machine) if has_heartbeat(machine, picture.now, picture.rules) else None
    done = machine.open_chunks == 0 or _in_state_s(machine, picture) > picture.rules.drain_s
    return Terminate(machine, "drained") if machine.state == "draining" and done else None


def _tend_requested(machine: RentedInstance, seen: Instance | None, rules: ControllerPolicy) -> Step | None:
    if seen is not None:
        return Adopt(machine, seen.id)
    return MarkClosed(machine, "never_rented") if machine.absences >= rules.absences_to_disbelieve else None


def _tend_destroyed(machine: RentedInstance, seen: Instance | None, picture: FleetSnapshot) -> Step | None:
    if seen is not None:
        return Destroy(machine) if _in_state_s(machine, picture) > picture.rules.lag_s else None
    return MarkClosed(machine, "drained") if machine.absences >= picture.rules.absences_to_close else None


def _in_state_s(machine: RentedInstance, picture: FleetSnapshot) -> Seconds:
    return (picture.now - machine.changed_at).total_seconds()


def _scale_down(picture: FleetSnapshot, leaving: set[str]) -> list[Terminate | Drain]:
    """Let go of what is too much, or too dear: first what does not work yet, then the worst value."""
    staying = [m for m in picture.machines if m.state in SERVING and m.label not in leaving]
    hours, rules = picture.purse.runway_h, picture.rules
    if hours < rules.destroy_runway_h:
        return [Terminate(m, "budget") for m in _known(picture) if m.label not in leaving]
    if hours < rules.drain_runway_h:
        return [_drain_or_terminate(machine, "budget") for machine in staying if machine.state != "requested"]
    excess = max(0, len(staying) - picture.desired.most)
    worst = sorted((m for m in staying if m.state != "requested"), key=_value)[:excess]
    return [_drain_or_terminate(machine, "surplus") for machine in worst]


def _known(picture: FleetSnapshot) -> list[RentedInstance]:
    return [m for m in picture.machines if m.state in {"renting", "working", "draining"}]


def _drain_or_terminate(machine: RentedInstance, reason: Reason) -> Terminate | Drain:
    return Drain(machine, reason) if machine.state == "working" else Terminate(machine, reason)


def _value(machine: RentedInstance) -> tuple[bool, float, int]:
    """Sorts the machine that is missed least to the front."""
    per_dollar = machine.segments_per_s / machine.usd_per_hour if machine.usd_per_hour else 0.0
    return machine.state == "working", per_dollar, -machine.slot


def _deficit(picture: FleetSnapshot, leaving: set[str]) -> int:
    """How many more machines may be rented: what is wanted, less what is there or on its way out."""
    serving = sum(m.state in SERVING and m.label not in leaving for m in picture.machines)
    occupying = sum(m.state in OCCUPYING for m in picture.machines)
    return max(0, min(picture.desired.enough - serving, picture.desired.machines - occupying))


def _hold_reason(picture: FleetSnapshot, faults: Mapping[str, Reason]) -> str | None:
    """Why nothing is rented although machines are lacking."""
    rules = picture.rules

    def lately(reason: Reason, within_s: float) -> int:
        past = (m for m in picture.machines if m.reason == reason)
        recent = sum((picture.now - m.changed_at).total_seconds() < within_s for m in past)
        return recent + sum(found == reason for found in faults.values())

    if lately("account_event", rules.hold_s):
        return "machines were stopped together: check the account's credit and the vendor; renting waits"
    refused = lately("image_refused", rules.image_hold_s) + lately("pull_limited", rules.image_hold_s)
    if refused >= max(rules.image_refusals, _count_recent_pulls(picture)):
        return "several machines may not pull the image: check its name and its registry; renting waits"
    return None


def _count_recent_pulls(picture: FleetSnapshot) -> int:
    """How many machines got the image while others were refused it."""
    starts = [machine.first_running_at for machine in picture.machines if machine.first_running_at]
    return sum((picture.now - start).total_seconds() < picture.rules.image_hold_s for start in starts)


def _limit_per_tick(actions: Sequence[Action], rules: ControllerPolicy) -> list[Action]:
    """Everything that costs no request, and as many destroys as a tick has time for: failures before surplus."""
    destroys = [action for action in actions if isinstance(action, Destroy | DestroyOrphan | Terminate)]
    kept = {id(action) for action in destroys[: rules.destroys_a_tick]}
    return [a for a in actions if not isinstance(a, Destroy | DestroyOrphan | Terminate) or id(a) in kept]
