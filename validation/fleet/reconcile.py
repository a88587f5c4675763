"""Run ticks of the fleet: observe, plan, execute, report.

A tick runs every two minutes or by hand. One process at a time runs a tick of a fleet.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from sqlalchemy import Engine

from validation.credentials.issuer import CredentialIssuer
from validation.errors import BadInput, Transient
from validation.fleet.executor import LOCK_S, PlanExecutor
from validation.fleet.plan import Plan, make_plan
from validation.fleet.policy import OCCUPYING, SERVING, ReconcilerPolicy, median_speed_by_gpu
from validation.fleet.snapshot import FleetSnapshot, read_snapshot
from validation.gateway.tokens import TokenFile, TokensUnwritable
from validation.ledger.fleet import (
    ObservedInstance,
    State,
    acquire_lock,
    acquire_search_quota,
    read_budget,
    record_credit,
    record_observations,
    record_tick,
    release_lock,
)
from validation.vast.client import VastClient
from validation.vast.errors import RequestRefused, SearchQuotaExceeded
from validation.vast.listings import Listing, SearchResult
from validation.vast.offer_filter import OfferFilter, explain_no_offers, rank_offers


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """What a tick works with: the ledger, the vendor's client, the fleet's name and the reconciler's policy."""

    engine: Engine
    client: VastClient
    fleet: str
    environment: Callable[[], Mapping[str, str]]
    """Returns the environment of every new box; called when something is to be rented."""
    policy: ReconcilerPolicy = field(default_factory=ReconcilerPolicy)
    issuer: CredentialIssuer | None = None
    """Issues the store credentials of each box; None if the operator gives keys to boxes."""
    tokens: TokenFile | None = None
    """The gateway's tokens; None if boxes reach Prefect without the gateway."""


@dataclass(frozen=True, slots=True)
class TickReport:
    """The observations and actions of one tick."""

    wanted: int
    """Number of boxes to keep: the ordered number, or fewer if less work is left."""
    by_state: Mapping[str, int]
    """State -> number of boxes after the tick, without boxes that are ``gone``."""
    usd_per_hour: float
    spent_usd: float
    credit_usd: float | None
    """The account's credit; None if it could not be read."""
    done: Mapping[str, int]
    """Kind of action or of failed create -> number (see `TickOutcome`)."""
    notes: tuple[str, ...]
    """Sentences for the operator: which actions failed, and why fewer boxes were rented."""
    listing_complete: bool
    listed: int
    """Number of instances with this fleet's label in the listing."""
    problem: str | None = None
    """The first note of a tick that rented nothing although boxes are missing; otherwise None."""

    @property
    def is_empty(self) -> bool:
        """Return whether a complete listing shows no instance of this fleet and the ledger has no open row."""
        return self.listing_complete and self.listed == 0 and not self.by_state


def reconcile(context: ReconcileContext) -> TickReport | None:
    """Run one tick and return its report; return None if another reconciler holds the lock.

    Raises:
        FleetUnknown: no fleet of this name was ever ordered.
        VastKeyRefused: the vendor refuses the key, so boxes can be neither rented nor destroyed.
        Unreachable, LedgerBusy: the ledger does not answer. The next tick plans what was not executed.
    """
    holder = uuid4()
    if not acquire_lock(context.engine, context.fleet, holder, lease_s=LOCK_S):
        read_budget(context.engine, context.fleet)  # raises FleetUnknown: an unknown fleet has no lock
        return None
    try:
        before = _observe(context)
        plan, environment, problem = _plan(context, before, holder)
        executor = PlanExecutor(
            context.engine, context.client, context.fleet, before, environment, holder, context.issuer, context.tokens
        )
        executor.execute(plan)
        renewal_problems = context.issuer.renew() if context.issuer else []
        after, token_problem = _observe_result(context, before, holder)
        problems = [problem, *executor.outcome.notes, *renewal_problems, token_problem]
        report = _report(before, after, executor.outcome.counts, problems)
        record_tick(context.engine, context.fleet, [*filter(None, [before.desired.explain_fewer()]), *report.notes])
        return report
    finally:
        release_lock(context.engine, context.fleet, holder)


def preview_tick(context: ReconcileContext) -> tuple[Plan, FleetSnapshot]:
    """Return the plan and the snapshot of a tick. Reads the ledger, the listing and the market; changes nothing."""
    listing, credit_usd = context.client.list_instances(), _read_credit(context.client)
    snapshot = _read_snapshot(context, listing, credit_usd)
    plan = make_plan(snapshot)
    if plan.to_rent:
        snapshot, note = search_market(context.client, snapshot)
        plan = make_plan(snapshot)
        plan = replace(plan, notes=(*plan.notes, *filter(None, [note])))
    return plan, snapshot


def search_market(client: VastClient, snapshot: FleetSnapshot) -> tuple[FleetSnapshot, str | None]:
    """Return the snapshot with offers, best value first, and a note for the operator if there are no offers.

    If the search fails, the snapshot is returned unchanged and the note holds the error.
    """
    offer_filter = snapshot.launch_spec.offer_filter
    banned = [ban.vendor_id for ban in snapshot.bans if ban.kind == "machine"]
    measured = median_speed_by_gpu(snapshot.boxes, snapshot.policy)
    try:
        found = client.search(offer_filter.query(banned_machines=banned))
        offers = rank_offers(found, offer_filter, measured)
        note = None if offers else explain_empty_search(client, found, offer_filter)
    except (SearchQuotaExceeded, Transient, RequestRefused) as error:
        return snapshot, str(error)
    return replace(snapshot, offers=offers), note


def explain_empty_search(client: VastClient, found: SearchResult, offer_filter: OfferFilter) -> str:
    """Explain in one sentence why no offer is good enough. An empty search is repeated without the price limit.

    Raises:
        SearchQuotaExceeded, Throttled, Unreachable, RequestRefused: the second search failed.
    """
    answered = found or found.unreadable
    offers = found if answered else client.search(offer_filter.without_price_limit().query())
    return explain_no_offers(offers, offer_filter)


def _observe(context: ReconcileContext) -> FleetSnapshot:
    """List the account's instances, record the listing and the credit, and read the snapshot for the plan.

    The snapshot is read after the recording, because the recording counts absences and sets the times of a status.
    """
    listing, credit_usd = context.client.list_instances(), _read_credit(context.client)
    record_observations(
        context.engine,
        context.fleet,
        [ObservedInstance(i.label, i.id, i.actual_status, i.status_msg, i.dph_total) for i in listing.instances],
        complete=listing.complete,
        slow_share=context.policy.slow_share,
        min_class_size=context.policy.min_measured_boxes,
    )
    if credit_usd is not None:
        record_credit(context.engine, context.fleet, credit_usd)
    return _read_snapshot(context, listing, credit_usd)


def _plan(
    context: ReconcileContext, snapshot: FleetSnapshot, holder: UUID
) -> tuple[Plan, Mapping[str, str], str | None]:
    """Return the plan, the environment of new boxes, and the reason why nothing can be rented.

    The reason is None if boxes can be rented, if none is missing, or if the search quota allows no search in this tick.
    A missing variable or a failed search prevents only new rentals. The plan keeps the actions on existing boxes.
    """
    plan = make_plan(snapshot)
    if not plan.to_rent:
        return plan, {}, None
    try:
        environment = context.environment()
    except BadInput as error:
        return plan, {}, str(error)
    if not acquire_search_quota(context.engine, context.fleet, holder):
        return plan, environment, None
    with_offers, problem = search_market(context.client, snapshot)
    return make_plan(with_offers), environment, problem


def _observe_result(context: ReconcileContext, before: FleetSnapshot, holder: UUID) -> tuple[FleetSnapshot, str | None]:
    """Return the snapshot after the execution, and the error if tokens of gone boxes could not be revoked.

    Tokens are revoked only while the lock is held. Without the lock, another reconciler may have made a token for a box
    that the snapshot lacks.
    """
    holds_lock = acquire_lock(context.engine, context.fleet, holder, lease_s=LOCK_S)
    after = _read_snapshot(context, before.listing, before.budget.credit_usd)
    if context.tokens is None or not holds_lock:
        return after, None
    labels = {box.label for box in after.boxes if box.state in OCCUPYING}
    try:
        context.tokens.revoke_fleet(after.label_prefix, keep=labels)
    except TokensUnwritable as error:
        return after, str(error)
    return after, None


def _report(
    before: FleetSnapshot, after: FleetSnapshot, done: Mapping[str, int], notes: Sequence[str | None]
) -> TickReport:
    """Make the report of a tick from the snapshots before and after it. Empty and repeated notes are left out."""
    by_state = Counter[State](box.state for box in after.boxes if box.state != "gone")
    is_short = sum(by_state[state] for state in SERVING) < before.desired.rent_up_to and not done.get("rented")
    sentences = tuple(dict.fromkeys(filter(None, notes)))
    return TickReport(
        wanted=before.desired.keep_up_to,
        by_state={str(state): count for state, count in by_state.items()},
        usd_per_hour=after.budget.usd_per_hour,
        spent_usd=after.budget.spent_usd,
        credit_usd=after.budget.credit_usd,
        done=dict(done),
        notes=sentences,
        listing_complete=before.listing.complete,
        listed=len(before.listing.of_fleet(before.label_prefix)),
        problem=sentences[0] if is_short and sentences else None,
    )


def _read_snapshot(context: ReconcileContext, listing: Listing, credit_usd: float | None) -> FleetSnapshot:
    return read_snapshot(context.engine, context.fleet, listing=listing, credit_usd=credit_usd, policy=context.policy)


def _read_credit(client: VastClient) -> float | None:
    """Read the account's credit in dollars; None if the vendor does not answer."""
    try:
        return client.read_credit()
    except (Transient, RequestRefused):
        return None
