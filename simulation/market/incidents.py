"""Incidents of a simulated day that affect many or all instances at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulation.fake_vast.failures import STANDARD
from simulation.market.world import World
from validation.domain import Seconds

OUTAGE = {endpoint: {"html_502": 1.0} for endpoint in ("create", "destroy", "list", "search", "account")}
INCIDENT_S: Seconds = 1200.0
RECLAIMED_SHARE = 0.2


@dataclass
class Incidents:
    """The incidents of a day. Each happens once, at a fixed share of the day, equally for every strategy."""

    world: World
    hours: float
    _credit_usd: float = 0.0
    _due: list[tuple[Seconds, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        day_s = self.hours * 3600
        plan: Mapping[Seconds, Callable[[], None]] = {
            0.35 * day_s: self._start_outage,
            0.35 * day_s + INCIDENT_S: self._end_outage,
            0.55 * day_s: self._empty_account,
            0.55 * day_s + INCIDENT_S: self._refill_account,
            0.80 * day_s: self._reclaim_instances,
        }
        self._due = [(self.world.started_at + after_s, trigger) for after_s, trigger in plan.items()]

    def trigger_due(self) -> None:
        """Trigger the incidents that are due."""
        while self._due and self._due[0][0] <= self.world.cloud.now:
            self._due.pop(0)[1]()

    def _start_outage(self) -> None:
        """Make every request fail with status 502, as if from a proxy."""
        self.world.fake.connection.set_all(OUTAGE)

    def _end_outage(self) -> None:
        self.world.fake.connection.set_all(STANDARD.transport)

    def _empty_account(self) -> None:
        """Set the credit to zero, so that the vendor stops every instance. Disks are still billed."""
        self._credit_usd, self.world.cloud.credit_usd = self.world.cloud.credit_usd, 0.0
        self.world.cloud.catch_up()

    def _refill_account(self) -> None:
        self.world.cloud.credit_usd += self._credit_usd

    def _reclaim_instances(self) -> None:
        """Stop a fifth of all instances, as if a data centre ended its rentals."""
        living = self.world.cloud.living()
        for rental in living[:: round(1 / RECLAIMED_SHARE)]:
            self.world.cloud.stop(rental)
