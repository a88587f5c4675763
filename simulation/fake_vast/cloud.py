"""The world behind the fake's API: a market, one account, machines, and money, in virtual time."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simulation.fake_vast.failures import WEIGHTS
from simulation.fake_vast.lifecycle import Phase, draw_lifecycle, draw_lifespan
from simulation.fake_vast.market import Offers, advance_market, make_market, release
from simulation.fake_vast.rental import Rental
from validation.domain import Seconds

ACCOUNT_KEY = "account-key"
LIST_LAG_S: Seconds = 5.0
FIRST_CONTRACT = 31_000_000
HALF = 0.5


class Cloud:
    """Everything that the vendor knows and a client cannot: what lives, what it costs, what is about to die."""

    def __init__(
        self,
        *,
        seed: int = 0,
        now: Seconds = 1_800_000_000.0,
        credit_usd: float = 1000.0,
        offers: int = 320,
        machines: int = 230,
    ) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.now = now
        self.credit_usd = credit_usd
        self.billed_usd = 0.0
        self.peak_usd_per_hour = 0.0
        self.peak_machines = 0
        self.fates: Mapping[str, float] = WEIGHTS
        self.outbids_per_hour = 0.0
        self.takings_per_hour = 0.0
        self.offers: Offers = make_market(self.rng, now, offers=offers, machines=machines)
        self.contracts: dict[int, Rental] = {}
        self._seed, self._rentals = seed, Counter[int]()
        self._living: dict[int, Rental] = {}
        self._settled_at = now

    def advance(self, seconds: Seconds) -> None:
        """Let time pass: machines live on and bill; contracts end; an empty account stops everything."""
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        """Bring everything up to now."""
        hours, self._settled_at = (self.now - self._settled_at) / 3600, self.now
        for contract in self.living():
            self._charge(contract)
            if contract.stopped_at is None and (self.credit_usd <= 0 or self.now > contract.offer["end_date"]):
                contract.stopped_at = self.now
            self._settle_bid(contract, hours)
        advance_market(self.offers, self.rng, self.now, takings=self.takings_per_hour * hours)

    def create(self, offer_id: int, order: Mapping[str, Any], *, fate: str | None = None) -> Rental:
        """Rent an offer, and take it off the market. A machine's fate at its n-th rental is the seed's alone."""
        offer = self.offers[offer_id]
        machine = offer["machine_id"]
        self._rentals[machine] += 1
        rng = random.Random(f"{self._seed}/{machine}/{self._rentals[machine]}")  # noqa: S311 - a simulation
        fate = fate or draw_lifecycle(rng, self.fates)
        bid = order.get("price")
        contract = Rental(
            id=FIRST_CONTRACT + len(self.contracts),
            key=f"instance-key-{len(self.contracts)}",
            offer=dict(offer),
            order=dict(order),
            fate=fate,
            life=draw_lifespan(rng, fate, offer, str(order["image"])),
            created_at=self.now,
            listed_from=self.now + self.rng.uniform(0, LIST_LAG_S),
            is_bid=bid is not None,
            usd_per_hour=float(bid) if bid is not None else offer["dph_base"],
            label=str(order.get("label") or ""),
        )
        self.contracts[contract.id] = self._living[contract.id] = contract
        offer |= {"rentable": False, "taken_at": self.now}
        self._note_peak()
        return contract

    def destroy(self, contract: Rental) -> None:
        """End a rental; its machine is on the market again, under another offer."""
        self.settle()
        contract.destroyed_at = self.now
        contract.unlisted_at = self.now + self.rng.uniform(0, LIST_LAG_S)
        release(self.offers, contract.offer)

    def stop(self, contract: Rental) -> None:
        """Outbid, or stopped by hand: the disk goes on billing."""
        self.settle()
        contract.stopped_at = self.now

    def resume(self, contract: Rental, *, after_s: Seconds) -> None:
        """Start a stopped machine again: it boots from its disk."""
        self.settle()
        contract.stopped_at = None
        contract.life_from = self.now
        up = next((phase for phase in reversed(contract.life) if phase.status == "running"), Phase(0, "running"))
        contract.life = (Phase(0, "loading"), replace(up, at_s=after_s))

    def living(self) -> list[Rental]:
        """What may still bill: not destroyed, and not lost with its host."""
        for contract in list(self._living.values()):
            if contract.destroyed_at is not None or self._lost(contract):
                del self._living[contract.id]
        return list(self._living.values())

    def usd_per_hour(self) -> float:
        """The price of everything that lives."""
        return sum(contract.dph_total for contract in self.living())

    def _settle_bid(self, contract: Rental, hours: float) -> None:
        if not contract.is_bid:
            return
        if contract.resumes_at is not None and self.now >= contract.resumes_at and self.credit_usd > 0:
            contract.resumes_at = None
            self.resume(contract, after_s=self.rng.uniform(10, 60))
        elif contract.stopped_at is None and self.rng.random() < -math.expm1(-self.outbids_per_hour * hours):
            contract.stopped_at = self.now
            contract.stopped_status = self.rng.choice(("exited", "stopped"))
            contract.resumes_at = self.now + self.rng.uniform(600, 7200) if self.rng.random() < HALF else None

    def _lost(self, contract: Rental) -> bool:
        if contract.phase(self.now).listed:
            return False
        self._charge(contract)
        contract.destroyed_at = contract.unlisted_at = self.now
        return True

    def _charge(self, contract: Rental) -> None:
        usd = contract.bill(self.now)
        self.billed_usd += usd
        self.credit_usd -= usd

    def _note_peak(self) -> None:
        self.peak_machines = max(self.peak_machines, len(self.living()))
        self.peak_usd_per_hour = max(self.peak_usd_per_hour, self.usd_per_hour())
