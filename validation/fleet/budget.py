"""What the fleet may still cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetState:
    """Caps, and what is used of them. ``usd_per_hour`` counts every machine that is not known to be gone."""

    max_usd_per_hour: float
    max_usd: float
    usd_per_hour: float
    spent_usd: float
    credit_usd: float | None = None
    """Of the account; None where it could not be read."""

    @property
    def left_usd(self) -> float:
        """The smaller of what the operator and what the account allows."""
        budget = self.max_usd - self.spent_usd
        return budget if self.credit_usd is None else min(budget, self.credit_usd)

    @property
    def runway_h(self) -> float:
        """Hours until the money ends at the present rate; infinite where nothing is spent."""
        return max(0.0, self.left_usd) / self.usd_per_hour if self.usd_per_hour > 0 else float("inf")

    def rejection_reason(self, usd_per_hour: float, usd_once: float, *, hours: float) -> str | None:
        """Why one more machine would be too much; None if caps and money allow it for so many hours."""
        rate = self.usd_per_hour + usd_per_hour
        if rate > self.max_usd_per_hour:
            return f"one more would cost ${rate:.2f} an hour together, above the cap of ${self.max_usd_per_hour:.2f}"
        if rate * hours + usd_once > self.left_usd:
            return f"${max(0.0, self.left_usd):.2f} are left, which would not pay for {hours:.0f} h with one more"
        return None
