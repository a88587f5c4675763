"""What befalls everybody at once, in the course of a simulated day."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulation.fake_vast.failures import STANDARD
from simulation.market.world import World
from validation.domain import Seconds

OUTAGE = {endpoint: {"html_502": 1.0} for endpoint in ("create", "destroy", "list", "search", "account")}
SILENCE_S: Seconds = 1200.0
RECLAIMED = 0.2


@dataclass
class Incidents:
    """Each comes once, when its share of the day has passed, and is the same for whoever keeps the machines."""

    world: World
    hours: float
    _credit_usd: float = 0.0
    _due: list[tuple[Seconds, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        day_s = self.hours * 3600
        plan: Mapping[Seconds, Callable[[], None]] = {
            0.35 * day_s: self._lose_the_vendor,
            0.35 * day_s + SILENCE_S: self._find_the_vendor,
            0.55 * day_s: self._empty_the_account,
            0.55 * day_s + SILENCE_S: self._fill_the_account,
            0.80 * day_s: self._reclaim_machines,
        }
        self._due = [(self.world.began + after_s, trigger_due) for after_s, trigger_due in plan.items()]

    def trigger_due(self) -> None:
        """Let come what is due."""
        while self._due and self._due[0][0] <= self.world.cloud.now:
            self._due.pop(0)[1]()

    def _lose_the_vendor(self) -> None:
        """Every request is answered by a proxy, that it cannot reach the vendor."""
        self.world.fake.faults.set_all(OUTAGE)

    def _find_the_vendor(self) -> None:
        self.world.fake.faults.set_all(STANDARD.transport)

    def _empty_the_account(self) -> None:
        """The vendor stops every machine; disks go on billing."""
        self._credit_usd, self.world.cloud.credit_usd = self.world.cloud.credit_usd, 0.0
        self.world.cloud.settle()

    def _fill_the_account(self) -> None:
        self.world.cloud.credit_usd += self._credit_usd

    def _reclaim_machines(self) -> None:
        """A data centre ends its contracts: a fifth of all machines, wherever they are in their lives."""
        living = self.world.cloud.living()
        for contract in living[:: round(1 / RECLAIMED)]:
            self.world.cloud.stop(contract)
