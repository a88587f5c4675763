"""`vfleet fleet ...`: what an operator does about the rented machines."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from validation.domain import Seconds
from validation.errors import BadInput
from validation.fleet.actions import Dismiss, Drain, Rent
from validation.fleet.client import VastClient
from validation.fleet.offers import OfferFilter, rank_offers, relax_price, why_none
from validation.fleet.order import FleetOrder, read_box_environment
from validation.fleet.pace import Clock, WallClock
from validation.fleet.reconcile import Desk, plan_tick, reconcile
from validation.ledger.engine import open_engine
from validation.ledger.fleet import (
    dismiss_fleet,
    pardon,
    read_bans,
    read_budget,
    read_machines,
    read_spend_check,
    want_fleet,
)
from validation.ledger.migrate import require_revision
from validation.settings import load_settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it

BETWEEN_TICKS_S: Seconds = 31.0
"""Absences from the listing count when they are 30 s apart."""
MOST_TICKS = 60


def add_fleet_commands(subparsers: "Subparsers") -> None:
    """Add `fleet` with its commands to the parser of `vfleet`."""
    fleet = subparsers.add_parser("fleet", help="rented machines: plan, up, down, status, blacklist")
    commands = fleet.add_subparsers(title="commands", required=True)
    default = OfferFilter()

    up = _add(commands, "up", run_up, "say how many machines are wanted, at what price and for how much in all")
    up.add_argument("--machines", type=int, required=True, help="how many GPUs")
    up.add_argument("--budget", type=float, required=True, help="dollars for all that this fleet ever rents")
    up.add_argument("--max-usd-per-hour", type=float, required=True, help="dollars an hour for all machines together")
    up.add_argument("--max-price", type=float, default=default.max_usd_per_hour, help="dollars an hour for one machine")
    up.add_argument("--image", required=True, help="the worker image, best by digest")
    up.add_argument("--gpu", action="append", help='a card, such as "RTX 3090"; may be repeated')
    up.add_argument("--disk", type=float, default=default.disk_gb, help="GB of disk")
    up.add_argument("--inet-down", type=float, default=default.inet_down_mbps, help="Mb/s down")

    down = _add(commands, "down", run_down, "let every machine finish its chunk and go")
    down.add_argument("--now", action="store_true", help="destroy them at once, and return when none is left")

    _add(commands, "plan", run_plan, "show what the next tick would do, and what it costs; change nothing")
    _add(commands, "status", run_status, "show every machine, and the money")

    banned = commands.add_parser("blacklist", help="machines and hosts that are not rented for a while")
    banned.add_argument("--pardon", nargs=2, metavar=("KIND", "ID"), help="lift a ban: machine 123, or host 45")
    banned.set_defaults(command=run_blacklist)


def _add(
    commands: "Subparsers", name: str, command: Callable[[argparse.Namespace], None], help_text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("--fleet", default="main", help="which fleet (default: main)")
    parser.set_defaults(command=command)
    return parser


def run_up(options: argparse.Namespace) -> None:
    """Check that it can work, then enter the wish. The next tick acts on it.

    Raises:
        BadInput: a number makes no sense, boxes cannot be told what they need, or no offer meets the filter.
        VastKeyMissing, VastKeyRefused: there is no account to rent with.
    """
    if options.machines < 0 or min(options.budget, options.max_usd_per_hour, options.max_price) <= 0:
        raise BadInput("give a number of machines of at least 0, and amounts above 0")
    cards = tuple(options.gpu) if options.gpu else OfferFilter().gpu_names
    bounds = OfferFilter(
        gpu_names=cards, disk_gb=options.disk, inet_down_mbps=options.inet_down, max_usd_per_hour=options.max_price
    )
    read_box_environment()
    with _open_client() as client:
        cheapest = _check_market(client, bounds)
    if options.machines and cheapest > options.max_usd_per_hour:
        raise BadInput(
            f"the fleet's cap of ${options.max_usd_per_hour:.3f} an hour is below the cheapest offer, ${cheapest:.3f}: "
            "raise --max-usd-per-hour"
        )
    order = FleetOrder(options.image, bounds, load_settings().chunk_videos)
    want_fleet(
        _open_ledger(), options.fleet, machines=options.machines, max_usd_per_hour=options.max_usd_per_hour,
        max_usd=options.budget, order=order.to_json(),
    )  # fmt: skip
    _say(
        f"fleet {options.fleet}: {options.machines} machines wanted, at most ${options.max_usd_per_hour:.2f} an hour "
        f"and ${options.budget:.2f} in all; the cheapest offer costs ${cheapest:.3f} an hour all in"
    )


def _check_market(client: VastClient, bounds: OfferFilter) -> float:
    """The cheapest offer's price; BadInput with the reason where there is none."""
    client.read_credit()
    found = client.search(bounds.query())
    offers = rank_offers(found, bounds, {})
    if not offers:
        raise BadInput(why_none(found or client.search(relax_price(bounds).query()), bounds))
    return min(offer.usd_per_hour for offer in offers)


def run_down(options: argparse.Namespace, clock: Clock | None = None) -> None:
    """Want no machine. With --now, destroy all and return when two complete listings have shown none.

    Raises:
        BadInput: after half an hour something is still listed.
    """
    engine = _open_ledger()
    dismiss_fleet(engine, options.fleet)
    if not options.now:
        _say(f"fleet {options.fleet}: every machine finishes its chunk and goes; `vfleet fleet status` shows how far")
        return
    waiting = clock or WallClock()
    with _open_client() as client:
        desk = Desk(engine, client, options.fleet, dict)
        for _ in range(MOST_TICKS):
            report = reconcile(desk, abandon=True)
            if report is not None and report.is_empty:
                _say(f"fleet {options.fleet}: no machine is left; ${report.spent_usd:.2f} were spent in all")
                return
            left = (
                "another reconciler is at it" if report is None else f"{report.listed} listed, {dict(report.by_state)}"
            )
            _say(f"fleet {options.fleet}: {left}")
            waiting.sleep(BETWEEN_TICKS_S)
    raise BadInput(f"fleet {options.fleet} is not empty yet: run this again, and look at the Vast.ai console")


def run_plan(options: argparse.Namespace) -> None:
    """Show the next tick."""
    with _open_client() as client:
        chosen, picture = plan_tick(Desk(_open_ledger(), client, options.fleet, dict))
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
    reason = action.reason if isinstance(action, Dismiss | Drain) else ""
    return action.machine.worker_id, reason, f"{action.machine.usd_per_hour:.3f}"


def run_status(options: argparse.Namespace) -> None:
    """Show machines and money, from the ledger alone."""
    engine = _open_ledger()
    budget = read_budget(engine, options.fleet)
    table = Table("worker", "state", "instance", "card", "$/h", "vendor says", "segments/s", "since", "reason")
    for m in read_machines(engine, options.fleet):
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
            f"last day: the account fell by ${check.credit_fell_usd:.2f}, the books rose by ${check.books_rose_usd:.2f}"
        )


def run_blacklist(options: argparse.Namespace) -> None:
    """Show the bans, or lift one."""
    engine = _open_ledger()
    if options.pardon:
        kind, number = options.pardon
        if kind not in {"machine", "host"} or not number.isdecimal():
            raise BadInput(f"a ban is of a machine or a host, by its number, not of {kind} {number}")
        if not pardon(engine, kind, int(number)):
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


def _open_ledger() -> Engine:
    engine = open_engine(load_settings().database_url.get_secret_value())
    require_revision(engine)
    return engine


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)  # a pipe has no width; 80 would cut the tables


def _say(sentence: str) -> None:
    _console().print(sentence, highlight=False, soft_wrap=True, markup=False)
