"""The work behind `vfleet fleet ...`: what an operator asks of the rented boxes."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from validation.domain import Seconds
from validation.errors import BadInput
from validation.fleet.launch_spec import LaunchSpec, read_box_environment
from validation.fleet.plan import Action, DestroyOrphan, Drain, Rent, Terminate
from validation.fleet.reconcile import ReconcileContext, explain_empty_search, preview_tick, reconcile
from validation.gateway.tokens import find_tokens
from validation.ledger.fleet import (
    pardon,
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
from validation.vast.offer_filter import OfferFilter
from validation.vast.ranking import rank_offers
from validation.vast.rate_limit import Clock, WallClock

TICK_INTERVAL_S: Seconds = 31.0
"""Between the ticks of ``down``: absences from the listing count when they are 30 s apart."""
MAX_TICKS = 60
"""Of ``down``: half an hour."""
PIPE_WIDTH = 160
"""Columns of a table that is written to a pipe, which has no width of its own."""


def up(
    fleet: str, *, boxes: int, image: str, max_usd: float, max_usd_per_hour: float, offer_filter: OfferFilter
) -> None:
    """Check that the order can be met, then record it. The next tick rents.

    Raises:
        BadInput: a number makes no sense, boxes lack a variable of their environment, or no offer meets the filter.
        VastKeyMissing, VastKeyRefused, CreditExhausted: there is no account to rent with.
    """
    if boxes < 0 or min(max_usd, max_usd_per_hour, offer_filter.max_usd_per_hour) <= 0:
        raise BadInput("the number of boxes must be at least 0, and every amount of dollars above 0")
    read_box_environment()
    with _open_client() as client:
        cheapest = _find_cheapest(client, offer_filter)
    if boxes and cheapest > max_usd_per_hour:
        raise BadInput(
            f"the fleet's cap of ${max_usd_per_hour:.3f} per hour is below the cheapest offer, ${cheapest:.3f}: "
            "raise --max-usd-per-hour"
        )
    launch_spec = LaunchSpec(image, offer_filter, load_settings().chunk_videos)
    set_target(
        open_ledger(), fleet, machines=boxes, max_usd_per_hour=max_usd_per_hour, max_usd=max_usd,
        order=launch_spec.to_json(),
    )  # fmt: skip
    _print(
        f"fleet {fleet}: {boxes} boxes wanted, at most ${max_usd_per_hour:.2f} per hour and ${max_usd:.2f} in all; "
        f"the cheapest offer costs ${cheapest:.3f} per hour all in"
    )


def _find_cheapest(client: VastClient, offer_filter: OfferFilter) -> float:
    """The cheapest offer's dollars per hour.

    Raises:
        CreditExhausted: the account cannot pay for it.
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
    """Scale the fleet to zero. With ``now``, destroy all boxes and return when two complete listings show none.

    The order is in the ledger, so the flow's ticks act on it too, also when this command is interrupted.

    Raises:
        BadInput: after half an hour an instance is still listed.
    """
    engine = open_ledger()
    scale_to_zero(engine, fleet, abandon=now)
    if not now:
        _print(f"fleet {fleet}: every box finishes its chunk and is destroyed; `vfleet fleet status` shows how far")
        return
    clock = clock or WallClock()
    with _open_client() as client:
        context = ReconcileContext(engine, client, fleet, dict, tokens=find_tokens(load_settings()))
        for _ in range(MAX_TICKS):
            report = reconcile(context)
            if report is not None and report.is_empty:
                _print(f"fleet {fleet}: no box is left; ${report.spent_usd:.2f} were spent in all")
                return
            if report is None:
                _print(f"fleet {fleet}: another reconciler holds the lock")
            else:
                _print(f"fleet {fleet}: {report.listed} listed, {dict(report.by_state)}")
            clock.sleep(TICK_INTERVAL_S)
    raise BadInput(f"fleet {fleet} is not empty yet: run this again, and look at the Vast.ai console")


def plan(fleet: str) -> None:
    """Print what the next tick would do, and what it would cost; change nothing."""
    with _open_client() as client:
        next_plan, snapshot = preview_tick(ReconcileContext(open_ledger(), client, fleet, dict))
    table = Table("action", "box", "reason or offer", "$/h", title=f"fleet {fleet}: the next tick would")
    for action in next_plan.actions:
        table.add_row(type(action).__name__.lower(), *_describe(action))
    rented_usd_per_hour = sum(action.offer.usd_per_hour for action in next_plan.actions if isinstance(action, Rent))
    _console().print(table)
    for note in next_plan.notes:
        _print(note)
    budget = snapshot.budget
    _print(
        f"now ${budget.usd_per_hour:.2f} per hour, then ${budget.usd_per_hour + rented_usd_per_hour:.2f} of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )


def _describe(action: Action) -> tuple[str, str, str]:
    """Box, reason or offer, and dollars per hour of an action."""
    match action:
        case Rent(slot, offer):
            return f"slot {slot}", f"{offer.gpu_name}, machine {offer.machine_id}", f"{offer.usd_per_hour:.3f}"
        case DestroyOrphan(instance_id, label):
            return str(instance_id), label, ""
        case Terminate(box, reason) | Drain(box, reason):
            return box.worker_id, reason, f"{box.usd_per_hour:.3f}"
        case _:
            return action.box.worker_id, "", f"{action.box.usd_per_hour:.3f}"


def status(fleet: str) -> None:
    """Print the boxes and the money, from the ledger alone."""
    engine = open_ledger()
    budget = read_budget(engine, fleet)
    table = Table("worker", "state", "instance", "GPU", "$/h", "vendor status", "segments/s", "since", "reason")
    for box in read_rented_instances(engine, fleet):
        if box.state != "gone":
            table.add_row(
                box.worker_id, box.state, str(box.instance_id or ""), box.gpu_name, f"{box.usd_per_hour:.3f}",
                box.vendor_status or "", f"{box.segments_per_s:.1f}", f"{box.requested_at:%d %b %H:%M}",
                box.reason or "",
            )  # fmt: skip
    _console().print(table)
    _print(
        f"fleet {fleet}: {budget.machines} boxes wanted; ${budget.usd_per_hour:.2f} per hour of at most "
        f"${budget.max_usd_per_hour:.2f}; ${budget.spent_usd:.2f} spent of ${budget.max_usd:.2f}"
    )
    if check := read_spend_check(engine, fleet):
        _print(
            f"last day: the account's credit fell by ${check.credit_fell_usd:.2f}, the ledger's spend rose by "
            f"${check.books_rose_usd:.2f}"
        )


def bans() -> None:
    """Print the machines and hosts that are not rented at present."""
    table = Table("kind", "id", "reason", "until")
    for ban in read_bans(open_ledger()):
        table.add_row(ban.kind, str(ban.vendor_id), ban.reason, f"{ban.expires_at:%d %b %H:%M}")
    _console().print(table)


def unban(kind: str, vendor_id: str) -> None:
    """Lift a ban.

    Raises:
        BadInput: the words name no machine and no host, or there is no such ban.
    """
    if kind not in {"machine", "host"} or not vendor_id.isdecimal():
        raise BadInput(f"cannot unban {kind} {vendor_id}: give `machine` or `host` and its number")
    if not pardon(open_ledger(), "machine" if kind == "machine" else "host", int(vendor_id)):
        raise BadInput(f"{kind} {vendor_id} is not banned: `vfleet fleet bans` lists the bans")
    _print(f"{kind} {vendor_id} may be rented again")


@contextmanager
def _open_client() -> Iterator[VastClient]:
    settings = load_settings()
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        yield client


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _print(sentence: str) -> None:
    _console().print(sentence, highlight=False, soft_wrap=True, markup=False)
