"""Execute a plan. The ledger records each rental and each destroy of its boxes before and after the request.

The destroy of an orphan is not recorded, because the ledger has no open row for it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import Engine

from validation.credentials.issuer import CredentialIssuer
from validation.domain import StoreCredential
from validation.errors import FleetError, Permanent, Transient, Unreachable
from validation.escape import for_log
from validation.fleet.launch_spec import build_create_request
from validation.fleet.plan import (
    Action,
    Adopt,
    Destroy,
    DestroyOrphan,
    Drain,
    MarkClosed,
    MarkReady,
    Plan,
    Rent,
    Terminate,
)
from validation.fleet.policy import BAN_S, Reason
from validation.fleet.snapshot import FleetSnapshot
from validation.gateway.tokens import TokenFile, TokensUnwritable, headers_for
from validation.ledger.boxes import StoreName, issue_box_key
from validation.ledger.fleet import (
    RentedInstance,
    State,
    acquire_lock,
    ban_machine,
    request_machine,
    transition_instance,
)
from validation.vast.client import VastClient
from validation.vast.errors import (
    CreatedButFailed,
    CreditExhausted,
    OfferGone,
    OutcomeUnknown,
    RequestRefused,
    SpendLimited,
    Throttled,
)
from validation.vast.listings import Offer
from validation.vast.offer_filter import to_rental_request

log = logging.getLogger("vfleet.fleet")

LOCK_S = 300
"""Lease of the reconciler's lock in seconds, renewed before each action. One request with its retries takes less."""
MAX_FAILED_CREATES = 3
"""Number of refused or unanswered creates after which a tick rents no more."""


@dataclass
class TickOutcome:
    """The counts of one tick, and its notes for the operator.

    The counts are of executed actions per kind, and of creates that failed: offers_gone, refused and unknown.
    """

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        """Add one to the number of actions of the kind ``what``."""
        self.counts[what] = self.counts.get(what, 0) + 1


@dataclass
class PlanExecutor:
    """Executes the plan of one tick."""

    engine: Engine
    client: VastClient
    fleet: str
    snapshot: FleetSnapshot
    """The snapshot from which the plan was made."""
    environment: Mapping[str, str]
    """The environment variables of every new box."""
    holder: UUID
    """The random id under which this tick holds the fleet's lock."""
    issuer: CredentialIssuer | None = None
    """Issues the store credentials of each box; None if the operator gives keys to boxes."""
    tokens: TokenFile | None = None
    """The gateway's tokens; None if boxes reach Prefect without the gateway."""
    outcome: TickOutcome = field(default_factory=TickOutcome)

    def execute(self, plan: Plan) -> None:
        """Execute the actions in order. Stop when the lock is lost or nothing more may be rented.

        Raises:
            VastKeyRefused: the vendor refuses the key; the remaining actions were not executed.
            Unreachable, LedgerBusy: the ledger does not answer; the next tick plans the remaining actions again.
        """
        self.outcome.notes += plan.notes
        spares = list(plan.spares)
        for action in plan.actions:
            if not acquire_lock(self.engine, self.fleet, self.holder, lease_s=LOCK_S):
                self.outcome.notes.append("another reconciler took over")
                return
            if isinstance(action, Rent):
                if not self._rent(action, spares):
                    return
            else:
                self._apply(action)

    def _apply(self, action: Action) -> None:
        """Execute one action other than a rental."""
        match action:
            case Adopt(box, instance_id):
                self._transition("adopted", box, "renting", instance_id=instance_id)
            case MarkReady(box):
                self._transition("accepted", box, "working")
            case Drain(box, reason):
                self._transition("drained", box, "draining", reason=reason)
            case MarkClosed(box, reason):
                self._transition("closed", box, "gone", reason=reason)
            case Terminate(box, reason):
                transition_instance(self.engine, box.label, "destroying", reason=reason)
                if reason in BAN_S:
                    ban_machine(self.engine, box, reason=reason, ttl_s=BAN_S[reason])
                self._destroy(box.label, box.instance_id)
            case Destroy(box):
                transition_instance(self.engine, box.label, "destroying")
                self._destroy(box.label, box.instance_id)
            case DestroyOrphan(instance_id, label):
                self.outcome.notes.append(f"instance {instance_id} ({label}) was an orphan: destroyed")
                self._destroy(None, instance_id)

    def _transition(
        self,
        count_as: str,
        box: RentedInstance,
        to: State,
        *,
        instance_id: int | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Move a box to the state ``to``, and count the action if the ledger allows the change."""
        if transition_instance(self.engine, box.label, to, instance_id=instance_id, reason=reason):
            self.outcome.count(count_as)

    def _destroy(self, label: str | None, instance_id: int | None) -> None:
        """Send a destroy, and record it for a box of the ledger. If it fails, the next tick sends it again."""
        if instance_id is None:
            return
        try:
            self.client.destroy(instance_id)
        except (Transient, RequestRefused) as error:
            self.outcome.notes.append(f"instance {instance_id} could not be destroyed yet: {error}")
            return
        self.outcome.count("destroyed")
        if label is not None:
            transition_instance(self.engine, label, "destroyed")

    def _rent(self, rent: Rent, spares: list[Offer]) -> bool:
        """Rent a box for one slot; try the spare offers if an offer is gone. Return whether the tick may rent more."""
        offer: Offer | None = rent.offer
        try:
            credentials = self.issuer.create(f"val-{rent.slot}") if self.issuer else {}
        except FleetError as error:  # nothing is recorded yet; a box without credentials cannot open a store
            self.outcome.notes.append(f"nothing is rented because store credentials cannot be issued: {error}")
            return False
        while offer is not None:
            label = f"{self.snapshot.label_prefix}{rent.slot}/{uuid4().hex[:12]}"
            refusal = request_machine(
                self.engine, self.fleet, self.holder, label=label, slot=rent.slot, request=to_rental_request(offer)
            )
            if refusal:
                self.outcome.notes.append(refusal)
                return False
            try:
                self._create(rent.slot, offer, label, credentials)
            except OfferGone:
                transition_instance(self.engine, label, "gone", reason="refused")
                self.outcome.count("offers_gone")
                offer = spares.pop(0) if spares else None
                continue
            except (Permanent, Transient, CreditExhausted, SpendLimited, TokensUnwritable) as error:
                return self._handle_create_error(label, error)
            self.outcome.count("rented")
            return True
        return True

    def _create(self, slot: int, offer: Offer, label: str, credentials: Mapping[StoreName, StoreCredential]) -> None:
        """Make the key, token and credentials of a box, rent the offer, and record the vendor's id of the instance."""
        worker_id = f"val-{slot}"
        environment = {**self.environment, "VFLEET_BOX_KEY": issue_box_key(self.engine, worker_id, label=label)}
        if self.tokens:
            token = self.tokens.add(worker_id, label=label)
            environment["PREFECT_CLIENT_CUSTOM_HEADERS"] = headers_for(worker_id, token)
        if self.issuer:
            self.issuer.store(worker_id, credentials)
        body = build_create_request(
            self.snapshot.launch_spec, offer, label=label, worker_id=worker_id, environment=environment
        )
        created = self.client.create(offer.id, body)
        transition_instance(self.engine, label, "renting", instance_id=created.instance_id)
        gpu = for_log(offer.gpu_name)
        log.info("rented %d for %s: %s at $%.3f/h", created.instance_id, label, gpu, offer.usd_per_hour)

    def _handle_create_error(self, label: str, error: Exception) -> bool:
        """Record a create that failed. Return whether the tick may rent more."""
        self.outcome.notes.append(str(error))
        match error:
            case OutcomeUnknown():
                self.outcome.count("unknown")  # the box stays requested and uses the caps until a listing decides
            case CreatedButFailed(instance_id=left):
                transition_instance(self.engine, label, "destroying", instance_id=left, reason="created_but_failed")
                self._destroy(label, left)
                self.outcome.count("refused")
            case Unreachable():
                transition_instance(self.engine, label, "gone", reason="unreachable")
                return False
            case CreditExhausted() | SpendLimited() | Throttled() | TokensUnwritable():
                transition_instance(self.engine, label, "gone", reason="refused")
                return False
            case _:
                transition_instance(self.engine, label, "gone", reason="refused")
                self.outcome.count("refused")
        failed = self.outcome.counts.get("unknown", 0) + self.outcome.counts.get("refused", 0)
        return failed < MAX_FAILED_CREATES
