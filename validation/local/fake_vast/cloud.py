"""The world behind the fake's API: a market, one account, machines, and money, in virtual time."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from validation.domain import Seconds
from validation.local.fake_vast.contract import Contract
from validation.local.fake_vast.fates import WEIGHTS, Phase, draw_fate, draw_life
from validation.local.fake_vast.market import make_market

ACCOUNT_KEY = "account-key"
LIST_LAG_S: Seconds = 5.0
FIRST_CONTRACT = 31_000_000


class Cloud:
    """Everything that the vendor knows and a client cannot: what lives, what it costs, what is about to die."""

    def __init__(self, *, seed: int = 0, now: Seconds = 1_800_000_000.0, credit_usd: float = 1000.0) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.now = now
        self.credit_usd = credit_usd
        self.billed_usd = 0.0
        self.peak_usd_per_hour = 0.0
        self.peak_machines = 0
        self.fates: Mapping[str, float] = WEIGHTS
        self.offers = make_market(self.rng, now)
        self.contracts: dict[int, Contract] = {}

    def advance(self, seconds: Seconds) -> None:
        """Let time pass: machines live on and bill; contracts end; an empty account stops everything."""
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        for contract in self.living():
            usd = contract.bill(self.now)
            self.billed_usd += usd
            self.credit_usd -= usd
            if contract.stopped_at is None and (self.credit_usd <= 0 or self.now > contract.offer["end_date"]):
                contract.stopped_at = self.now

    def create(self, offer_id: int, order: Mapping[str, Any]) -> Contract:
        """Rent an offer, and take it off the market."""
        offer = self.offers[offer_id]
        fate = draw_fate(self.rng, self.fates)
        bid = order.get("price")
        contract = Contract(
            id=FIRST_CONTRACT + len(self.contracts),
            key=f"instance-key-{len(self.contracts)}",
            offer=dict(offer),
            order=dict(order),
            fate=fate,
            life=draw_life(self.rng, fate, offer, str(order["image"])),
            created_at=self.now,
            listed_from=self.now + self.rng.uniform(0, LIST_LAG_S),
            is_bid=bid is not None,
            usd_per_hour=float(bid) if bid is not None else offer["dph_base"],
            label=str(order.get("label") or ""),
        )
        self.contracts[contract.id] = contract
        offer["rentable"] = False
        self._note_peak()
        return contract

    def destroy(self, contract: Contract) -> None:
        """End a rental; its machine is on the market again, under another offer."""
        self.settle()
        contract.destroyed_at = self.now
        contract.unlisted_at = self.now + self.rng.uniform(0, LIST_LAG_S)
        fresh = max(self.offers) + 1
        offer = self.offers.pop(contract.offer["id"], contract.offer)
        self.offers[fresh] = {**offer, "id": fresh, "ask_contract_id": fresh, "rentable": True}

    def stop(self, contract: Contract) -> None:
        """Outbid, or stopped by hand: the disk goes on billing."""
        self.settle()
        contract.stopped_at = self.now

    def resume(self, contract: Contract, *, after_s: Seconds) -> None:
        """Start a stopped machine again: it boots from its disk."""
        self.settle()
        contract.stopped_at = None
        contract.life_from = self.now
        up = next((phase for phase in reversed(contract.life) if phase.status == "running"), Phase(0, "running"))
        contract.life = (Phase(0, "loading"), replace(up, at_s=after_s))

    def living(self) -> list[Contract]:
        """What may still bill: not destroyed, and not lost with its host."""
        return [
            contract
            for contract in self.contracts.values()
            if contract.destroyed_at is None and not self._lost(contract)
        ]

    def _lost(self, contract: Contract) -> bool:
        if contract.phase(self.now).listed:
            return False
        contract.bill(self.now)
        contract.destroyed_at = contract.unlisted_at = self.now
        return True

    def usd_per_hour(self) -> float:
        """The price of everything that lives."""
        return sum(float(contract.row(self.now)["dph_total"]) for contract in self.living())

    def _note_peak(self) -> None:
        living = self.living()
        self.peak_machines = max(self.peak_machines, len(living))
        self.peak_usd_per_hour = max(self.peak_usd_per_hour, self.usd_per_hour())
