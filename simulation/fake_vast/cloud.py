"""The state behind the fake API: a market, one account, its rentals and its credit, in virtual time."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simulation.fake_vast.failures import WEIGHTS
from simulation.fake_vast.lifecycle import Phase, draw_lifecycle, draw_phases
from simulation.fake_vast.market import Offers, advance_market, make_market, release
from simulation.fake_vast.rental import Rental
from validation.domain import Seconds

ACCOUNT_KEY = "account-key"
LIST_LAG_S: Seconds = 5.0
FIRST_RENTAL_ID = 31_000_000
HALF = 0.5


class Cloud:
    """The vendor's database: the offers, and every rental with its phases and its bill."""

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
        self.lifecycles: Mapping[str, float] = WEIGHTS
        self.outbids_per_hour = 0.0
        self.takings_per_hour = 0.0
        self.offers: Offers = make_market(self.rng, now, offers=offers, machines=machines)
        self.rentals: dict[int, Rental] = {}
        self._seed, self._rental_counts = seed, Counter[int]()
        self._living: dict[int, Rental] = {}
        self._caught_up_at = now

    def advance(self, seconds: Seconds) -> None:
        """Advance the virtual time, then charge and change the rentals and the market (``catch_up``)."""
        self.now += seconds
        self.catch_up()

    def catch_up(self) -> None:
        """Update bills, contracts and the market to the present time.

        A rental stops at the end of its contract, and every rental stops if the account has no credit left.
        """
        hours, self._caught_up_at = (self.now - self._caught_up_at) / 3600, self.now
        for rental in self.living():
            self._charge(rental)
            if rental.stopped_at is None and (self.credit_usd <= 0 or self.now > rental.offer["end_date"]):
                rental.stopped_at = self.now
            self._settle_bid(rental, hours)
        advance_market(self.offers, self.rng, self.now, takings=self.takings_per_hour * hours)

    def create(self, offer_id: int, order: Mapping[str, Any], *, lifecycle: str | None = None) -> Rental:
        """Rent an offer and take it off the market. The n-th lifecycle of a machine depends only on the seed."""
        offer = self.offers[offer_id]
        machine = offer["machine_id"]
        self._rental_counts[machine] += 1
        rng = random.Random(f"{self._seed}/{machine}/{self._rental_counts[machine]}")  # noqa: S311 - a simulation
        lifecycle = lifecycle or draw_lifecycle(rng, self.lifecycles)
        bid = order.get("price")
        rental = Rental(
            id=FIRST_RENTAL_ID + len(self.rentals),
            key=f"instance-key-{len(self.rentals)}",
            offer=dict(offer),
            order=dict(order),
            lifecycle=lifecycle,
            phases=draw_phases(rng, lifecycle, offer, str(order["image"])),
            created_at=self.now,
            listed_from=self.now + self.rng.uniform(0, LIST_LAG_S),
            is_bid=bid is not None,
            usd_per_hour=float(bid) if bid is not None else offer["dph_base"],
            label=str(order.get("label") or ""),
        )
        self.rentals[rental.id] = self._living[rental.id] = rental
        offer |= {"rentable": False, "taken_at": self.now}
        self._note_peak()
        return rental

    def destroy(self, rental: Rental) -> None:
        """End a rental. Its machine returns to the market under the id of a new offer."""
        self.catch_up()
        rental.destroyed_at = self.now
        rental.unlisted_at = self.now + self.rng.uniform(0, LIST_LAG_S)
        release(self.offers, rental.offer)

    def stop(self, rental: Rental) -> None:
        """Stop a rental, as the vendor does when a bid is outbid. The rental's disk is still billed."""
        self.catch_up()
        rental.stopped_at = self.now

    def resume(self, rental: Rental, *, after_s: Seconds) -> None:
        """Start a stopped rental again. The rental runs after ``after_s`` seconds, without pulling its image."""
        self.catch_up()
        rental.stopped_at = None
        rental.phases_from = self.now
        up = next((phase for phase in reversed(rental.phases) if phase.status == "running"), Phase(0, "running"))
        rental.phases = (Phase(0, "loading"), replace(up, at_s=after_s))

    def living(self) -> list[Rental]:
        """Return the rentals that may still be billed: those neither destroyed nor vanished with their host."""
        for rental in list(self._living.values()):
            if rental.destroyed_at is not None or self._lost(rental):
                del self._living[rental.id]
        return list(self._living.values())

    def usd_per_hour(self) -> float:
        """Return the total price of all living rentals, in dollars per hour."""
        return sum(rental.dph_total for rental in self.living())

    def _settle_bid(self, rental: Rental, hours: float) -> None:
        if not rental.is_bid:
            return
        if rental.resumes_at is not None and self.now >= rental.resumes_at and self.credit_usd > 0:
            rental.resumes_at = None
            self.resume(rental, after_s=self.rng.uniform(10, 60))
        elif rental.stopped_at is None and self.rng.random() < -math.expm1(-self.outbids_per_hour * hours):
            rental.stopped_at = self.now
            rental.stopped_status = self.rng.choice(("exited", "stopped"))
            rental.resumes_at = self.now + self.rng.uniform(600, 7200) if self.rng.random() < HALF else None

    def _lost(self, rental: Rental) -> bool:
        if rental.phase(self.now).listed:
            return False
        self._charge(rental)
        rental.destroyed_at = rental.unlisted_at = self.now
        return True

    def _charge(self, rental: Rental) -> None:
        usd = rental.bill(self.now)
        self.billed_usd += usd
        self.credit_usd -= usd

    def _note_peak(self) -> None:
        self.peak_machines = max(self.peak_machines, len(self.living()))
        self.peak_usd_per_hour = max(self.peak_usd_per_hour, self.usd_per_hour())
