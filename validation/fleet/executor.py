"""Carry out a plan: the ledger first, the vendor second, and the ledger again."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import Engine

from validation.credentials.issuer import CredentialIssuer
from validation.domain import StoreCredential
from validation.errors import FleetError, Permanent, Transient, Unreachable
from validation.fleet.actions import (
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
from validation.fleet.blacklist import BAN_S
from validation.fleet.launch_spec import LaunchSpec, build_create_request
from validation.gateway.tokens import TokenFile, TokensUnwritable, headers_for
from validation.ledger.box_credentials import StoreName, issue_box_key
from validation.ledger.fleet import acquire_lock, ban_machine, request_machine, transition_instance
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
from validation.vast.offers import Offer, to_rental_request

log = logging.getLogger("vfleet.fleet")

LOCK_S = 300
"""A reconciler that says nothing for so long has lost its turn. Longer than any one request with its repeats."""
MAX_REFUSALS = 3
"""Creates in one tick that may be refused or unanswered before the tick rents no more."""


@dataclass
class Outcome:
    """What a tick did."""

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


@dataclass
class PlanExecutor:
    """Carries out the plans of one turn."""

    engine: Engine
    client: VastClient
    fleet: str
    label_prefix: str
    order: LaunchSpec
    environment: Mapping[str, str]
    holder: UUID
    lender: CredentialIssuer | None = None
    tokens: TokenFile | None = None
    outcome: Outcome = field(default_factory=Outcome)

    def perform(self, plan: Plan) -> None:
        """Carry out what frees money, then what costs some, until something says stop.

        Raises:
            VastKeyRefused: with this key nothing can be done.
            Unreachable, LedgerBusy: the ledger does not answer; the next tick finds everything as it is.
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
                self._tend(action)

    def _tend(self, action: Action) -> None:
        match action:
            case Adopt(machine, instance_id):
                self._move(
                    "adopted",
                    lambda: transition_instance(self.engine, machine.label, "renting", instance_id=instance_id),
                )
            case MarkReady(machine):
                self._move("accepted", lambda: transition_instance(self.engine, machine.label, "working"))
            case Drain(machine, reason):
                self._move(
                    "drained", lambda: transition_instance(self.engine, machine.label, "draining", reason=reason)
                )
            case MarkClosed(machine, reason):
                self._move("closed", lambda: transition_instance(self.engine, machine.label, "gone", reason=reason))
            case Terminate(machine, reason):
                transition_instance(self.engine, machine.label, "destroying", reason=reason)
                if reason in BAN_S:
                    ban_machine(self.engine, machine, reason=reason, ttl_s=BAN_S[reason])
                self._destroy(machine.label, machine.instance_id)
            case Destroy(machine):
                transition_instance(self.engine, machine.label, "destroying")
                self._destroy(machine.label, machine.instance_id)
            case DestroyOrphan(instance_id, label):
                self.outcome.notes.append(f"instance {instance_id} ({label}) was nobody's: destroyed")
                self._destroy(None, instance_id)

    def _move(self, what: str, move: Callable[[], bool]) -> None:
        if move():
            self.outcome.count(what)

    def _destroy(self, label: str | None, instance_id: int | None) -> None:
        """Ask the vendor; where it does not agree, the next tick asks again."""
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
        """Rent for one slot, with a spare where an offer has gone. Whether more may be rented in this tick."""
        offer: Offer | None = rent.offer
        try:
            credentials = self.lender.mint(f"val-{rent.slot}") if self.lender else {}
        except FleetError as error:  # before anything is entered: a machine that can open no store is of no use
            self.outcome.notes.append(f"nothing is rented while boxes cannot be lent credentials: {error}")
            return False
        while offer is not None:
            label = f"{self.label_prefix}{rent.slot}/{uuid4().hex[:12]}"
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
                return self._survive(label, error)
            self.outcome.count("rented")
            return True
        return True

    def _create(self, slot: int, offer: Offer, label: str, credentials: Mapping[StoreName, StoreCredential]) -> None:
        worker_id = f"val-{slot}"
        told = {**self.environment, "VFLEET_BOX_KEY": issue_box_key(self.engine, worker_id, label=label)}
        if self.tokens:
            token = self.tokens.add(worker_id, rental=label)
            told["PREFECT_CLIENT_CUSTOM_HEADERS"] = headers_for(worker_id, token)
        if self.lender:
            self.lender.lend(worker_id, credentials)
        body = build_create_request(self.order, offer, label=label, worker_id=worker_id, environment=told)
        created = self.client.create(offer.id, body)
        transition_instance(self.engine, label, "renting", instance_id=created.instance_id)
        log.info("rented %d for %s: %s at $%.3f/h", created.instance_id, label, offer.gpu_name, offer.usd_per_hour)

    def _survive(self, label: str, error: Exception) -> bool:
        """Book a create that did not end well. Whether another may be tried."""
        self.outcome.notes.append(str(error))
        match error:
            case OutcomeUnknown():
                self.outcome.count("unknown")  # stays requested, and counts against the caps, until listings tell
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
        bad = self.outcome.counts.get("unknown", 0) + self.outcome.counts.get("refused", 0)
        return bad < MAX_REFUSALS
