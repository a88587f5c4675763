"""Check the state of a simulated day against the fake vendor's database, which a client cannot read."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulation.market.ledger import read_wanted_labels
from simulation.market.world import World
from validation.ledger.fleet import read_budget
from validation.ledger.queries import audit_ledger


@dataclass(frozen=True, slots=True)
class Caps:
    """The operator's caps: number of machines, dollars per hour and total dollars."""

    machines: int
    usd_per_hour: float
    usd: float


@dataclass
class InvariantMonitor:
    """Counts violations. An instance is counted once, and a broken cap is counted at every check."""

    world: World
    caps: Caps | None = None
    """The caps to check; None for a strategy without caps and ledger, for which only duplicates are counted."""
    duplicates: set[object] = field(default_factory=set)
    """Instances with the worker id of another living instance, and violated invariants of the ledger."""
    orphans: set[int] = field(default_factory=set)
    """Instances that the ledger does not know or records as gone."""
    cap_violations: int = 0
    messages: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Check the present state for duplicates, orphans and broken caps."""
        living = self.world.cloud.living()
        names: set[str] = set()
        for rental in living:
            name = str(rental.order["env"]["WORKER_ID"])
            if name in names and rental.id not in self.duplicates:
                self.duplicates.add(rental.id)
                self._record(f"instance {rental.id} uses worker id {name}, as another does")
            names.add(name)
        wanted = read_wanted_labels(self.world.ledger) if self.caps else None
        for rental in living:
            if wanted is not None and rental.label not in wanted and rental.id not in self.orphans:
                self.orphans.add(rental.id)
                self._record(f"instance {rental.id} ({rental.label}) has no open row in the ledger")
        for message in self._broken_caps(len(living)):
            self.cap_violations += 1
            self._record(message)

    def end(self, fleet: str) -> None:
        """Check that no instance is left, that the ledger's spend covers the bill, and that all invariants hold."""
        for rental in self.world.cloud.living():
            self.orphans.add(rental.id)
            self._record(f"instance {rental.id} ({rental.label}) bills after the end")
        billed, spent = self.world.cloud.billed_usd, read_budget(self.world.ledger, fleet).spent_usd
        if billed > spent:
            self.cap_violations += 1
            self._record(f"the vendor billed ${billed:.2f}, the ledger says at most ${spent:.2f}")
        for invariant in audit_ledger(self.world.ledger):
            if invariant.violations:
                self.duplicates.add(invariant.invariant)
                self._record(f"violated: {invariant.invariant} ({invariant.violations} times)")

    def _broken_caps(self, living: int) -> Iterator[str]:
        cloud, caps = self.world.cloud, self.caps
        if caps is None:
            return
        if living > caps.machines:
            yield f"{living} boxes, of at most {caps.machines}"
        if (rate := cloud.usd_per_hour()) > caps.usd_per_hour:
            yield f"${rate:.2f} per hour, of at most ${caps.usd_per_hour:.2f}"
        if cloud.billed_usd > caps.usd:
            yield f"${cloud.billed_usd:.2f} billed, of at most ${caps.usd:.2f}"

    def _record(self, message: str) -> None:
        hours = (self.world.cloud.now - self.world.started_at) / 3600
        self.messages.append(f"after {hours:.2f} h: {message}")
