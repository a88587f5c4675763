"""What an operator does about the rented machines: the work behind `vfleet fleet ...`."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from validation.domain import Seconds
from validation.errors import BadInput
from validation.fleet.actions import Drain, Rent, Terminate
from validation.fleet.launch_spec import LaunchSpec, read_box_environment
from validation.fleet.reconcile import ReconcileContext, plan_tick, reconcile
from validation.gateway.tokens import find_tokens
from validation.ledger.fleet import (
    lift_ban,
    read_bans,
    read_budget,
    read_rented_instances,
    read_spend_check,
    scale_to_zero,
    set_target,
)
from validation.services import open_ledger
from validation.settings import load_settings
from validation.vast.client import VastClient
from validation.vast.errors import CreditExhausted
from validation.vast.offers import OfferFilter, explain_no_offers, rank_offers, without_price_limit
from validation.vast.rate_limit import Clock, WallClock

BETWEEN_TICKS_S: Seconds = 31.0
"""Absences from the listing count when they are 30 s apart."""
MAX_TICKS = 60


def up(options: argparse.Namespace) -> None:
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
    _say(
        f"fleet {options.fleet}: {options.machines} machines wanted, at most ${options.max_usd_per_hour:.2f} an hour "
        f"and ${options.budget:.2f} in all; the cheapest offer costs ${cheapest:.3f} an hour all in"
    )


def _read_bounds(options: argparse.Namespace) -> OfferFilter:
    """The default filter, with what the operator says otherwise."""
    said = {
        "gpu_names": tuple(options.gpu) if options.gpu else None,
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


def down(options: argparse.Namespace, clock: Clock | None = None) -> None:
    """Want no machine. With --now, destroy all and return when two complete listings have shown none.

    The wish is in the ledger: every tick acts on it, the flow's too, also when this command is cut short.

    Raises:
        BadInput: after half an hour something is still listed.
    """
    engine = open_ledger()
    scale_to_zero(engine, options.fleet, abandon=options.now)
    if not options.now:
        _say(f"fleet {options.fleet}: every machine finishes its chunk and goes; `vfleet fleet status` shows how far")
        return
    waiting = clock or WallClock()
    with _open_client() as client:
        desk = ReconcileContext(engine, client, options.fleet, dict, tokens=find_tokens(load_settings()))
        for _ in range(MAX_TICKS):
            report = reconcile(desk)
            if report is not None and report.is_empty:
                _say(f"fleet {options.fleet}: no machine is left; ${report.spent_usd:.2f} were spent in all")
                return
            left = (
                "another reconciler is at it" if report is None else f"{report.listed} listed, {dict(report.by_state)}"
            )
            _say(f"fleet {options.fleet}: {left}")
            waiting.sleep(BETWEEN_TICKS_S)
    raise BadInput(f"fleet {options.fleet} is not empty yet: run this again, and look at the Vast.ai console")


def plan(options: argparse.Namespace) -> None:
    """Show the next tick."""
    with _open_client() as client:
        chosen, picture = plan_tick(ReconcileContext(open_ledger(), client, options.fleet, dict))
    table = Table("what", "which", "why or what", "$/h", title=f"fleet {options.fleet}: the next tick would")
    for action in chosen.actions:
        table.add_row(type(action).__name__.lower(), *_describe(action))
    rents = [action.offer.usd_per_hour for action in chosen.actions if isinstance(action, Rent)]
    _console().print(table)
    for note in chosen.notes:
        _say(note)
    purse = picture.purse
    _say(
        f"now ${purse.usd_per_hour:.2f} an hour, then ${purse.usd_per_hour + sum(rents):.2f} of at most "
        f"${purse.max_usd_per_hour:.2f}; ${purse.spent_usd:.2f} spent of ${purse.max_usd:.2f}"
    )


def _describe(action: Any) -> tuple[str, str, str]:
    if isinstance(action, Rent):
        offer = action.offer
        return f"slot {action.slot}", f"{offer.gpu_name}, machine {offer.machine_id}", f"{offer.usd_per_hour:.3f}"
    if not hasattr(action, "machine"):
        return str(action.instance_id), action.label, ""
    reason = action.reason if isinstance(action, Terminate | Drain) else ""
    return action.machine.worker_id, reason, f"{action.machine.usd_per_hour:.3f}"


def status(options: argparse.Namespace) -> None:
    """Show machines and money, from the ledger alone."""
    engine = open_ledger()
    budget = read_budget(engine, options.fleet)
    table = Table("worker", "state", "instance", "card", "$/h", "vendor says", "segments/s", "since", "reason")
    for m in read_rented_instances(engine, options.fleet):
        if m.state != "gone":
            table.add_row(
                m.worker_id, m.state, str(m.instance_id or ""), m.gpu_name, f"{m.usd_per_hour:.3f}",
                m.vendor_status or "", f"{m.segments_per_s:.1f}", f"{m.requested_at:%d %b %H:%M}", m.reason or "",
            )  # fmt: skip
    _console().print(table)
    _say(
        f"fleet {options.fleet}: {budget.machines} machines wanted; ${budget.usd_per_hour:.2f} an hour of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )
    if check := read_spend_check(engine, options.fleet):
        _say(
            f"last day: the account's credit fell by ${check.credit_decrease_usd:.2f}, the recorded spend rose by "
            f"${check.recorded_spend_usd:.2f}"
        )


def blacklist(options: argparse.Namespace) -> None:
    """Show the bans, or lift one."""
    engine = open_ledger()
    if options.pardon:
        kind, number = options.pardon
        if kind not in {"machine", "host"} or not number.isdecimal():
            raise BadInput(f"a ban is of a machine or a host, by its number, not of {kind} {number}")
        if not lift_ban(engine, kind, int(number)):
            raise BadInput(f"{kind} {number} is not banned")
        _say(f"{kind} {number} may be rented again")
        return
    table = Table("kind", "id", "reason", "until")
    for ban in read_bans(engine):
        table.add_row(ban.kind, str(ban.vendor_id), ban.reason, f"{ban.expires_at:%d %b %H:%M}")
    _console().print(table)


@contextmanager
def _open_client() -> Iterator[VastClient]:
    settings = load_settings()
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        yield client


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)  # a pipe has no width; 80 would cut the tables


def _say(sentence: str) -> None:
    _console().print(sentence, highlight=False, soft_wrap=True, markup=False)
