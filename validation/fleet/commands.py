"""The functions behind the commands `vfleet fleet ...`: order, scale down, plan, price, status and bans of a fleet."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from validation.domain import Seconds
from validation.errors import BadInput
from validation.fleet.launch_spec import LaunchSpec, read_box_environment
from validation.fleet.plan import Action, DestroyOrphan, Drain, Rent, Terminate
from validation.fleet.reconcile import ReconcileContext, explain_empty_search, preview_tick, reconcile
from validation.gateway.tokens import find_token_file
from validation.ledger.fleet import (
    BanKind,
    FleetBudget,
    lift_ban,
    read_bans,
    read_budget,
    read_rented_instances,
    read_spend_check,
    scale_to_zero,
    set_target,
)
from validation.output import print_json, print_table, say
from validation.services import open_ledger
from validation.settings import load_settings
from validation.vast.client import VastClient
from validation.vast.errors import CreditExhausted
from validation.vast.offer_filter import OfferFilter, rank_offers
from validation.vast.rate_limit import Clock, WallClock

TICK_INTERVAL_S: Seconds = 31.0
"""Pause between two ticks of ``down``. The ledger counts absences from the listing that are at least 30 s apart."""
MAX_TICKS = 60
"""Number of ticks after which ``down`` gives up: about half an hour."""


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """The options of `vfleet fleet up`. For an option that is None or empty, the default of `OfferFilter` applies."""

    fleet: str
    machines: int
    """Number of boxes to order."""
    budget: float
    """The most that the fleet may spend in all, in dollars."""
    max_usd_per_hour: float
    """The most that all boxes together may cost, in dollars per hour."""
    image: str
    max_price: float | None = None
    """The most that one box may cost, in dollars per hour."""
    gpu: tuple[str, ...] = ()
    """Names of the GPUs that boxes may have."""
    cuda: float | None = None
    """The CUDA version that the driver of a box must support."""
    disk: float | None = None
    """Disk space per box, in GB."""
    inet_down: float | None = None
    """Minimum download speed of a box, in Mb/s."""

    def to_offer_filter(self) -> OfferFilter:
        """Return the default filter, with the bounds that this request gives. Raises as ``OfferFilter`` does."""
        given: dict[str, Any] = {
            "gpu_names": self.gpu or None,
            "min_cuda": self.cuda,
            "disk_gb": self.disk,
            "inet_down_mbps": self.inet_down,
            "max_usd_per_hour": self.max_price,
        }
        return replace(OfferFilter(), **{name: value for name, value in given.items() if value is not None})


def up(request: FleetRequest) -> None:
    """Check that the market has an offer within filter and cap, and record the order. The next tick rents the boxes.

    Raises:
        BadInput: a number is out of its range, the environment of the boxes is not valid, or no offer meets the
            filter, or the cheapest offer exceeds the cap.
        VastKeyMissing, VastKeyRefused, CreditExhausted: the Vast.ai account cannot rent.
    """
    offer_filter = request.to_offer_filter()
    if request.machines < 0 or min(request.budget, request.max_usd_per_hour, offer_filter.max_usd_per_hour) <= 0:
        raise BadInput("the number of boxes must be at least 0, and every amount of dollars above 0")
    read_box_environment()
    with _open_client() as client:
        cheapest = _find_cheapest_price(client, offer_filter)
    if request.machines and cheapest > request.max_usd_per_hour:
        raise BadInput(
            f"the fleet's cap of ${request.max_usd_per_hour:.3f} per hour is below the cheapest offer, "
            f"${cheapest:.3f}: raise --max-usd-per-hour"
        )
    launch_spec = LaunchSpec(request.image, offer_filter, load_settings().chunk_videos)
    set_target(
        open_ledger(), request.fleet, machines=request.machines, max_usd_per_hour=request.max_usd_per_hour,
        max_usd=request.budget, order=launch_spec.to_json(),
    )  # fmt: skip
    say(
        f"fleet {request.fleet}: {request.machines} boxes wanted, at most ${request.max_usd_per_hour:.2f} per hour and "
        f"${request.budget:.2f} in all; the cheapest offer costs ${cheapest:.3f} per hour all in"
    )


def _find_cheapest_price(client: VastClient, offer_filter: OfferFilter) -> float:
    """Return the price of the cheapest offer that meets the filter, in dollars per hour.

    Raises:
        CreditExhausted: the account has no credit.
        BadInput: no offer meets the filter; the message says why.
    """
    if (credit_usd := client.read_credit()) <= 0:
        raise CreditExhausted(f"it shows ${credit_usd:.2f}")
    found = client.search(offer_filter.query())
    offers = rank_offers(found, offer_filter, {})
    if not offers:
        raise BadInput(explain_empty_search(client, found, offer_filter))
    return min(offer.usd_per_hour for offer in offers)


def down(fleet: str, *, now: bool = False, clock: Clock | None = None) -> None:
    """Scale the fleet to zero. With ``now``, destroy all boxes and wait until the listing and the ledger show none.

    The ledger stores the order. The scheduled ticks therefore carry out the order even if this command is interrupted.

    Raises:
        FleetUnknown: the ledger has no fleet with this name.
        BadInput: the fleet is not empty after half an hour.
    """
    engine = open_ledger()
    scale_to_zero(engine, fleet, abandon=now)
    if not now:
        say(f"fleet {fleet}: every box finishes its chunk and is destroyed; `vfleet fleet status` shows how far")
        return
    clock = clock or WallClock()
    with _open_client() as client:
        context = ReconcileContext(engine, client, fleet, dict, tokens=find_token_file(load_settings()))
        for _ in range(MAX_TICKS):
            report = reconcile(context)
            if report is not None and report.is_empty:
                say(f"fleet {fleet}: no box is left; ${report.spent_usd:.2f} were spent in all")
                return
            if report is None:
                say(f"fleet {fleet}: another reconciler holds the lock")
            else:
                say(f"fleet {fleet}: {report.listed} listed, {dict(report.by_state)}")
            clock.sleep(TICK_INTERVAL_S)
    raise BadInput(f"fleet {fleet} is not empty yet: run this again, and look at the Vast.ai console")


def plan(fleet: str, *, json: bool = False) -> None:
    """Print the actions and the cost of the next tick; change nothing."""
    engine = open_ledger()
    with _open_client() as client:
        next_plan, snapshot = preview_tick(ReconcileContext(engine, client, fleet, dict))
    rows = [(type(action).__name__.lower(), *_describe(action)) for action in next_plan.actions]
    if json:
        for action, box, detail, usd_per_hour in rows:
            print_json({"action": action, "of": box, "detail": detail, "usd_per_hour": usd_per_hour})
        return
    if rows:
        say(f"fleet {fleet}: the next tick would")
    print_table(("action", "box", "reason or offer", "$/h"), rows)
    for note in filter(None, (snapshot.desired.explain_fewer(), *next_plan.notes)):
        say(note)
    budget = snapshot.budget
    added_usd_per_hour = sum(action.offer.usd_per_hour for action in next_plan.actions if isinstance(action, Rent))
    say(
        f"now ${budget.usd_per_hour:.2f} per hour, then ${budget.usd_per_hour + added_usd_per_hour:.2f} of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )
    _say_last_tick(read_budget(engine, fleet))


def price(
    machines: int, *, budget_usd: float | None, max_price: float | None, gpu: tuple[str, ...], json: bool = False
) -> None:
    """Print which offers an order of ``machines`` boxes would rent now, and their price; change nothing.

    Args:
        machines: the number of boxes.
        budget_usd: a budget in dollars; if given, also print for how many hours it lasts.
        max_price: the most that one box may cost, in dollars per hour; None for the default.
        gpu: names of the GPUs that boxes may have; empty for the default.
        json: whether to print one JSON object instead of a table.

    Raises:
        BadInput: no offer meets the bounds; the message says why.
        VastKeyMissing, VastKeyRefused: the market cannot be searched without a valid key.
    """
    request = FleetRequest("", machines, 0.0, 0.0, "", max_price=max_price, gpu=gpu)
    offer_filter = request.to_offer_filter()
    with _open_client() as client:
        found = client.search(offer_filter.query())
        offers = rank_offers(found, offer_filter, {})
        if not offers:
            raise BadInput(explain_empty_search(client, found, offer_filter))
    chosen = offers[:machines]
    usd_per_hour = sum(offer.usd_per_hour for offer in chosen)
    hours = None if budget_usd is None else budget_usd / usd_per_hour
    if json:
        print_json({"wanted": machines, "offered": len(chosen), "usd_per_hour": usd_per_hour, "hours": hours})
        return
    rows = Counter((offer.gpu_name, round(offer.usd_per_hour, 3)) for offer in chosen)
    print_table(("GPU", "$/h", "boxes"), [(gpu_name, usd, count) for (gpu_name, usd), count in rows.items()])
    say(f"{len(chosen)} of {machines} boxes are offered now, for ${usd_per_hour:.2f} per hour in all")
    if hours is not None:
        say(f"${budget_usd:.2f} last {hours:.1f} h at that price")


def _say_last_tick(budget: FleetBudget) -> None:
    """Print the notes of the last tick, and its age in seconds."""
    if budget.last_tick_at is None:
        say("no tick has run yet: does the control worker run?")
        return
    age_s = (budget.now - budget.last_tick_at).total_seconds()
    said = "; ".join(budget.last_tick) or "nothing stands in the way"
    say(f"last tick, {age_s:.0f} s ago: {said}")


def _describe(action: Action) -> tuple[str, str, float | None]:
    """Return the box of an action, its reason or offer, and its dollars per hour (None if the price is not known)."""
    match action:
        case Rent(slot, offer):
            return f"slot {slot}", f"{offer.gpu_name}, machine {offer.machine_id}", round(offer.usd_per_hour, 3)
        case DestroyOrphan(instance_id, label):
            return str(instance_id), label, None
        case Terminate(box, reason) | Drain(box, reason):
            return box.worker_id, reason, round(box.usd_per_hour, 3)
        case _:
            return action.box.worker_id, "", round(action.box.usd_per_hour, 3)


def status(fleet: str, *, json: bool = False) -> None:
    """Print the boxes and the spending of a fleet. Only the ledger is read."""
    engine = open_ledger()
    budget = read_budget(engine, fleet)
    boxes = [box for box in read_rented_instances(engine, fleet) if box.state != "gone"]
    if json:
        for box in boxes:
            print_json(box)
        return
    print_table(
        ("worker", "state", "instance", "GPU", "$/h", "vendor status", "segments/s", "since", "reason"),
        [
            (box.worker_id, box.state, str(box.instance_id or ""), box.gpu_name, round(box.usd_per_hour, 3),
             box.vendor_status, round(box.segments_per_s, 1), box.requested_at, box.reason)
            for box in boxes
        ],
    )  # fmt: skip
    say(
        f"fleet {fleet}: {budget.machines} boxes wanted; ${budget.usd_per_hour:.2f} per hour of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )
    _say_last_tick(budget)
    if check := read_spend_check(engine, fleet):
        say(
            f"last day: the account's credit fell by ${check.credit_decrease_usd:.2f}, the ledger's spend rose by "
            f"${check.recorded_spend_usd:.2f}"
        )


def bans(*, json: bool = False) -> None:
    """Print the machines and hosts that are banned at present."""
    found = read_bans(open_ledger())
    if json:
        for ban in found:
            print_json(ban)
        return
    print_table(
        ("kind", "id", "reason", "until"), [(ban.kind, str(ban.vendor_id), ban.reason, ban.expires_at) for ban in found]
    )


def unban(kind: str, vendor_id: str) -> None:
    """Lift the ban of a machine or a host.

    Raises:
        BadInput: ``kind`` is neither machine nor host, ``vendor_id`` is not a number, or there is no such ban.
    """
    if kind not in get_args(BanKind) or not vendor_id.isdecimal():
        raise BadInput(f"a ban is of a machine or a host, by its number, not of {kind} {vendor_id}")
    if not lift_ban(open_ledger(), cast("BanKind", kind), int(vendor_id)):
        raise BadInput(f"{kind} {vendor_id} is not banned: `vfleet fleet bans` lists the bans")
    say(f"{kind} {vendor_id} may be rented again")


@contextmanager
def _open_client() -> Iterator[VastClient]:
    settings = load_settings()
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        yield client
