"""One tick of the fleet: look, plan, act. Run by one process at a time, every two minutes, or by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from uuid import UUID, uuid4

from sqlalchemy import Engine

from validation.credentials.issuer import CredentialIssuer
from validation.errors import BadInput, Transient
from validation.fleet.actions import Plan
from validation.fleet.budget import BudgetState
from validation.fleet.executor import LOCK_S, PlanExecutor
from validation.fleet.health import is_slow, speeds_by_card
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.plan import Desired, FleetSnapshot, plan
from validation.fleet.policy import ControllerPolicy
from validation.fleet.states import OCCUPYING
from validation.gateway.tokens import TokenFile, TokensUnwritable
from validation.ledger.fleet import (
    FleetBudget,
    ObservedInstance,
    RentedInstance,
    acquire_lock,
    acquire_search_quota,
    read_bans,
    read_budget,
    read_rented_instances,
    record_credit,
    record_observations,
    release_lock,
)
from validation.vast.client import VastClient
from validation.vast.errors import RequestRefused, SearchQuotaExceeded
from validation.vast.instances import Listing
from validation.vast.offers import Offer, explain_no_offers, rank_offers, without_price_limit


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """What a reconciler works with. ``environment`` returns what every box is told; it is asked when renting."""

    engine: Engine
    client: VastClient
    fleet: str
    environment: Callable[[], Mapping[str, str]]
    rules: ControllerPolicy = field(default_factory=ControllerPolicy)
    lender: CredentialIssuer | None = None
    """Lends boxes what opens the stores; None where they are told keys of the operator's choice."""
    tokens: TokenFile | None = None
    """Who passes the gateway to Prefect; None where boxes come by another way."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a tick saw and did."""

    wanted: int
    by_state: Mapping[str, int]
    usd_per_hour: float
    spent_usd: float
    credit_usd: float | None
    done: Mapping[str, int]
    notes: tuple[str, ...]
    listing_complete: bool
    listed: int
    """Machines with this fleet's label in the listing."""
    problem: str | None = None
    """What an operator must see to; None where the fleet is as it should be, or on its way."""

    @property
    def is_empty(self) -> bool:
        """A complete listing shows no machine of this fleet, and the ledger has none open."""
        return self.listing_complete and self.listed == 0 and not self.by_state


def reconcile(desk: ReconcileContext) -> Report | None:
    """Do one tick. None: another reconciler has the turn.

    Raises:
        FleetUnknown: nobody ever wanted this fleet.
        VastKeyRefused: nothing was rented, and nothing could be destroyed.
        Unreachable, LedgerBusy: the ledger does not answer; nothing was rented.
    """
    holder = uuid4()
    budget = read_budget(desk.engine, desk.fleet)
    if not acquire_lock(desk.engine, desk.fleet, holder, lease_s=LOCK_S):
        return None
    try:
        listing, credit = _look(desk, budget)
        picture = build_snapshot(desk, listing, credit)
        order = LaunchSpec.from_json(budget.order_json)
        chosen, lack, environment = plan(picture), None, dict[str, str]()
        if chosen.to_rent:
            environment, lack = _box_environment(desk)
        if chosen.to_rent and not lack and acquire_search_quota(desk.engine, desk.fleet, holder):
            picture, lack = ask_market(desk, picture, order)
            chosen = plan(picture)
        performer = PlanExecutor(
            desk.engine, desk.client, desk.fleet, budget.label_prefix, order, environment, holder,
            desk.lender, desk.tokens,
        )  # fmt: skip
        performer.perform(chosen)
        unlent = desk.lender.renew() if desk.lender else []
        notes = filter(None, [lack, *performer.outcome.notes, *unlent, _revoke_stale_tokens(desk, budget, holder)])
        return _report(desk, picture, performer.outcome.counts, tuple(dict.fromkeys(notes)))
    finally:
        release_lock(desk.engine, desk.fleet, holder)


def build_snapshot(desk: ReconcileContext, listing: Listing, credit_usd: float | None) -> FleetSnapshot:
    """Read the ledger, after the listing: so every label that the listing shows has its row."""
    budget = read_budget(desk.engine, desk.fleet)
    order = LaunchSpec.from_json(budget.order_json)
    return FleetSnapshot(
        desired=Desired(
            machines=budget.machines,
            chunks_left=ceil(budget.videos_waiting / order.chunk_videos) + budget.chunks_open,
            max_usd_per_machine=order.bounds.max_usd_per_hour,
            max_per_host=order.bounds.max_per_host,
            abandon=budget.abandoned,
        ),
        machines=read_rented_instances(desk.engine, desk.fleet),
        listing=listing,
        label_prefix=budget.label_prefix,
        purse=BudgetState(budget.max_usd_per_hour, budget.max_usd, budget.usd_per_hour, budget.spent_usd, credit_usd),
        now=budget.now,
        bans=read_bans(desk.engine),
        rules=desk.rules,
    )


def ask_market(desk: ReconcileContext, picture: FleetSnapshot, order: LaunchSpec) -> tuple[FleetSnapshot, str | None]:
    """The picture with offers, best value first, and what an operator should know about the market."""
    banned = [ban.vendor_id for ban in picture.bans if ban.kind == "machine"]
    measured = speeds_by_card(picture.machines, picture.rules)
    try:
        found = desk.client.search(order.bounds.query(banned_machines=banned))
        offers = rank_offers(found, order.bounds, measured)
        note = None if offers else explain_no_offers(found or _any_price(desk, order), order.bounds)
    except (SearchQuotaExceeded, Transient, RequestRefused) as error:
        return picture, str(error)
    return replace(picture, offers=offers), note


def plan_tick(desk: ReconcileContext) -> tuple[Plan, FleetSnapshot]:
    """What a tick would do now. Reads ledger, listing and market; changes nothing."""
    listing = desk.client.list_instances()
    picture = build_snapshot(desk, listing, _read_credit(desk.client))
    chosen = plan(picture)
    if chosen.to_rent:
        budget = read_budget(desk.engine, desk.fleet)
        picture, note = ask_market(desk, picture, LaunchSpec.from_json(budget.order_json))
        chosen = plan(picture)
        chosen = replace(chosen, notes=(*chosen.notes, *filter(None, [note])))
    return chosen, picture


def _box_environment(desk: ReconcileContext) -> tuple[dict[str, str], str | None]:
    """What new boxes are told, or why there can be none: which is no reason not to look after the others."""
    try:
        return dict(desk.environment()), None
    except BadInput as error:
        return {}, str(error)


def _revoke_stale_tokens(desk: ReconcileContext, budget: FleetBudget, holder: UUID) -> str | None:
    """End the tokens of machines that are gone, whichever way they went. Returns why that did not work.

    In one's own turn only: in another's, a token may be there whose machine is not in the ledger as we read it.
    """
    if desk.tokens is None or not acquire_lock(desk.engine, desk.fleet, holder, lease_s=LOCK_S):
        return None
    there = {machine.label for machine in read_rented_instances(desk.engine, desk.fleet) if machine.state in OCCUPYING}
    try:
        desk.tokens.revoke_rentals(budget.label_prefix, but=there)
    except TokensUnwritable as error:
        return str(error)
    return None


def _any_price(desk: ReconcileContext, order: LaunchSpec) -> list[Offer]:
    return desk.client.search(without_price_limit(order.bounds).query())


def _look(desk: ReconcileContext, budget: FleetBudget) -> tuple[Listing, float | None]:
    """List the account's machines and read its credit, and enter both."""
    listing = desk.client.list_instances()
    credit = _read_credit(desk.client)
    machines = read_rented_instances(desk.engine, desk.fleet)
    seen = to_observations(listing, budget.label_prefix, machines, desk.rules)
    record_observations(desk.engine, desk.fleet, seen, complete=listing.complete)
    if credit is not None:
        record_credit(desk.engine, desk.fleet, credit)
    return listing, credit


def to_observations(
    listing: Listing, prefix: str, machines: list[RentedInstance], rules: ControllerPolicy
) -> list[ObservedInstance]:
    """What the ledger notes of a listing. The traffic that an offer's price did not show stays with its row."""
    speeds = speeds_by_card(machines, rules)
    by_label = {machine.label: machine for machine in machines}
    slow = {label for label, m in by_label.items() if m.state == "working" and is_slow(m, speeds, rules)}
    return [
        ObservedInstance(i.label, i.id, i.actual_status, i.status_msg, i.dph_total, slow=i.label in slow)
        for i in listing.ours(prefix)
    ]


def _read_credit(client: VastClient) -> float | None:
    try:
        return client.read_credit()
    except (Transient, RequestRefused):
        return None


def _report(desk: ReconcileContext, picture: FleetSnapshot, done: Mapping[str, int], notes: tuple[str, ...]) -> Report:
    budget, by_state = read_budget(desk.engine, desk.fleet), dict[str, int]()
    for machine in read_rented_instances(desk.engine, desk.fleet):
        if machine.state != "gone":
            by_state[machine.state] = by_state.get(machine.state, 0) + 1
    serving = by_state.get("working", 0) + by_state.get("renting", 0) + by_state.get("requested", 0)
    lacking = serving < picture.desired.enough and not done.get("rented")
    return Report(
        wanted=picture.desired.most,
        by_state=by_state,
        usd_per_hour=budget.usd_per_hour,
        spent_usd=budget.spent_usd,
        credit_usd=picture.purse.credit_usd,
        done=dict(done),
        notes=notes,
        listing_complete=picture.listing.complete,
        listed=len(picture.listing.ours(picture.label_prefix)),
        problem=notes[0] if lacking and notes else None,
    )
