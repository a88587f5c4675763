"""What an operator does about the rented machines: the work behind `vfleet fleet ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from validation.domain import Seconds
from validation.errors import BadInput
from validation.fleet.actions import Drain, Rent, Terminate
from validation.fleet.launch_spec import LaunchSpec, read_box_environment
from validation.fleet.reconcile import ReconcileContext, plan_tick, reconcile
from validation.gateway.tokens import find_tokens
from validation.ledger.fleet import (
    BanKind,
    lift_ban,
    read_bans,
    read_budget,
    read_rented_instances,
    read_spend_check,
    scale_to_zero,
    set_target,
)
from validation.output import print_table, say, say_json
from validation.services import open_ledger
from validation.settings import load_settings
from validation.vast.client import VastClient
from validation.vast.errors import CreditExhausted
from validation.vast.offers import OfferFilter, explain_no_offers, rank_offers, without_price_limit
from validation.vast.rate_limit import Clock, WallClock

BETWEEN_TICKS_S: Seconds = 31.0
"""Absences from the listing count when they are 30 s apart."""
MAX_TICKS = 60


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """The options of `vfleet fleet up`."""

    fleet: str
    machines: int
    budget: float
    """Dollars in all."""
    max_usd_per_hour: float
    """Dollars per hour for all boxes together."""
    image: str
    max_price: float | None = None
    """Dollars per hour for one box."""
    gpu: tuple[str, ...] = ()
    cuda: float | None = None
    disk: float | None = None
    """GB."""
    inet_down: float | None = None
    """Mbit/s."""


def up(options: FleetRequest) -> None:
    """Check that it can work, then enter the wish. The next tick acts on it.

    Raises:
        BadInput: a number makes no sense, boxes cannot be told what they need, or no offer meets the filter.
        VastKeyMissing, VastKeyRefused, CreditExhausted: there is no account to rent with.
    """
    bounds = _read_bounds(options)
    if options.machines < 0 or min(options.budget, options.max_usd_per_hour, bounds.max_usd_per_hour) <= 0:
        raise BadInput("give a number of machines of at least 0, and amounts above 0")
    read_box_environment()
    with _open_client() as client:
        cheapest = _check_market(client, bounds)
    if options.machines and cheapest > options.max_usd_per_hour:
        raise BadInput(
            f"the fleet's cap of ${options.max_usd_per_hour:.3f} an hour is below the cheapest offer, ${cheapest:.3f}: "
            "raise --max-usd-per-hour"
        )
    order = LaunchSpec(options.image, bounds, load_settings().chunk_videos)
    set_target(
        open_ledger(), options.fleet, machines=options.machines, max_usd_per_hour=options.max_usd_per_hour,
        max_usd=options.budget, order=order.to_json(),
    )  # fmt: skip
    say(
        f"fleet {options.fleet}: {options.machines} machines wanted, at most ${options.max_usd_per_hour:.2f} an hour "
        f"and ${options.budget:.2f} in all; the cheapest offer costs ${cheapest:.3f} an hour all in"
    )


def _read_bounds(options: FleetRequest) -> OfferFilter:
    """The default filter, with what the operator says otherwise."""
    said: dict[str, Any] = {
        "gpu_names": options.gpu or None,
        "min_cuda": options.cuda,
        "disk_gb": options.disk,
        "inet_down_mbps": options.inet_down,
        "max_usd_per_hour": options.max_price,
    }
    return replace(OfferFilter(), **{name: value for name, value in said.items() if value is not None})


def _check_market(client: VastClient, bounds: OfferFilter) -> float:
    """The cheapest offer's price; BadInput with the reason where there is none, or nothing to pay it with."""
    if (credit := client.read_credit()) <= 0:
        raise CreditExhausted(f"it shows ${credit:.2f}")
    found = client.search(bounds.query())
    offers = rank_offers(found, bounds, {})
    if not offers:
        raise BadInput(explain_no_offers(found or client.search(without_price_limit(bounds).query()), bounds))
    return min(offer.usd_per_hour for offer in offers)


def down(fleet: str, *, now: bool, clock: Clock | None = None) -> None:
    """Want no machine. With --now, destroy all and return when two complete listings have shown none.

    The wish is in the ledger: every tick acts on it, the flow's too, also when this command is cut short.

    Raises:
        BadInput: after half an hour something is still listed.
    """
    engine = open_ledger()
    scale_to_zero(engine, fleet, abandon=now)
    if not now:
        say(f"fleet {fleet}: every machine finishes its chunk and goes; `vfleet fleet status` shows how far")
        return
    waiting = clock or WallClock()
    with _open_client() as client:
        desk = ReconcileContext(engine, client, fleet, dict, tokens=find_tokens(load_settings()))
        for _ in range(MAX_TICKS):
            report = reconcile(desk)
            if report is not None and report.is_empty:
                say(f"fleet {fleet}: no machine is left; ${report.spent_usd:.2f} were spent in all")
                return
            left = (
                "another reconciler is at it" if report is None else f"{report.listed} listed, {dict(report.by_state)}"
            )
            say(f"fleet {fleet}: {left}")
            waiting.sleep(BETWEEN_TICKS_S)
    raise BadInput(f"fleet {fleet} is not empty yet: run this again, and look at the Vast.ai console")


def plan(fleet: str, *, json: bool = False) -> None:
    """Show the next tick."""
    with _open_client() as client:
        chosen, picture = plan_tick(ReconcileContext(open_ledger(), client, fleet, dict))
    rents = [action.offer.usd_per_hour for action in chosen.actions if isinstance(action, Rent)]
    rows = [(type(action).__name__.lower(), *_describe(action)) for action in chosen.actions]
    if json:
        for what, which, detail, usd_per_hour in rows:
            say_json({"action": what, "of": which, "detail": detail, "usd_per_hour": usd_per_hour})
        return
    if rows:
        say(f"fleet {fleet}: the next tick would")
    print_table(("what", "which", "why or what", "$/h"), rows)
    for note in chosen.notes:
        say(note)
    purse = picture.purse
    say(
        f"now ${purse.usd_per_hour:.2f} an hour, then ${purse.usd_per_hour + sum(rents):.2f} of at most "
        f"${purse.max_usd_per_hour:.2f}; ${purse.spent_usd:.2f} spent of ${purse.max_usd:.2f}"
    )


def _describe(action: Any) -> tuple[str, str, float | None]:
    if isinstance(action, Rent):
        offer = action.offer
        return f"slot {action.slot}", f"{offer.gpu_name}, machine {offer.machine_id}", round(offer.usd_per_hour, 3)
    if not hasattr(action, "machine"):
        return str(action.instance_id), action.label, None
    reason = action.reason if isinstance(action, Terminate | Drain) else ""
    return action.machine.worker_id, reason, round(action.machine.usd_per_hour, 3)


def status(fleet: str, *, json: bool = False) -> None:
    """Show machines and money, from the ledger alone."""
    engine = open_ledger()
    budget = read_budget(engine, fleet)
    instances = [each for each in read_rented_instances(engine, fleet) if each.state != "gone"]
    if json:
        for each in instances:
            say_json(each)
        return
    print_table(
        ("worker", "state", "instance", "GPU", "$/h", "vendor says", "segments/s", "since", "reason"),
        [
            (
                each.worker_id,
                each.state,
                str(each.instance_id or ""),
                each.gpu_name,
                round(each.usd_per_hour, 3),
                each.vendor_status,
                round(each.segments_per_s, 1),
                each.requested_at,
                each.reason,
            )
            for each in instances
        ],
    )
    say(
        f"fleet {fleet}: {budget.machines} machines wanted; ${budget.usd_per_hour:.2f} an hour of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )
    if check := read_spend_check(engine, fleet):
        say(
            f"last day: the credit fell by ${check.credit_decrease_usd:.2f}, "
            f"the recorded spend rose by ${check.recorded_spend_usd:.2f}"
        )


def bans(*, json: bool = False) -> None:
    """Show the bans."""
    found = read_bans(open_ledger())
    if json:
        for ban in found:
            say_json(ban)
        return
    print_table(
        ("kind", "id", "reason", "until"), [(ban.kind, str(ban.vendor_id), ban.reason, ban.expires_at) for ban in found]
    )


def unban(kind: str, vendor_id: str) -> None:
    """Lift a ban.

    Raises:
        BadInput: there is no such ban.
    """
    if kind not in get_args(BanKind) or not vendor_id.isdecimal():
        raise BadInput(f"a ban is of a machine or a host, by its number, not of {kind} {vendor_id}")
    if not lift_ban(open_ledger(), cast("BanKind", kind), int(vendor_id)):
        raise BadInput(f"{kind} {vendor_id} is not banned")
    say(f"{kind} {vendor_id} may be rented again")


@contextmanager
def _open_client() -> Iterator[VastClient]:
    settings = load_settings()
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        yield client
