"""Watches a simulated day as the vendor's database would show it, where no client can look."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulation.market.ledger import read_wanted_labels
from simulation.market.world import World
from validation.ledger.fleet import read_budget
from validation.ledger.queries import audit_ledger


@dataclass(frozen=True, slots=True)
class Caps:
    """What an operator allowed."""

    machines: int
    usd_per_hour: float
    usd: float


@dataclass
class InvariantMonitor:
    """Counts what must never happen. Each machine is counted once, each broken cap at every look."""

    world: World
    caps: Caps | None = None
    """None for an arm that keeps neither caps nor books: of it, only duplicates are counted."""
    duplicates: set[object] = field(default_factory=set)
    """Machines that came to live under the name of another, and laws of the ledger that do not hold."""
    orphans: set[int] = field(default_factory=set)
    """Machines that the books do not know, or hold to be gone."""
    cap_violations: int = 0
    sentences: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Look once, at this moment."""
        living = self.world.cloud.living()
        names: set[str] = set()
        for contract in living:
            name = str(contract.order["env"]["WORKER_ID"])
            if name in names and contract.id not in self.duplicates:
                self.duplicates.add(contract.id)
                self._say(f"instance {contract.id} answers to {name}, as another does")
            names.add(name)
        wanted = read_wanted_labels(self.world.ledger) if self.caps else None
        for contract in living:
            if wanted is not None and contract.label not in wanted and contract.id not in self.orphans:
                self.orphans.add(contract.id)
                self._say(f"instance {contract.id} ({contract.label}) is in no open row")
        for sentence in self._broken_caps(len(living)):
            self.cap_violations += 1
            self._say(sentence)

    def end(self, fleet: str) -> None:
        """Look a last time: nothing bills, and the books balance."""
        for contract in self.world.cloud.living():
            self.orphans.add(contract.id)
            self._say(f"instance {contract.id} ({contract.label}) bills after the end")
        billed, spent = self.world.cloud.billed_usd, read_budget(self.world.ledger, fleet).spent_usd
        if billed > spent:
            self.cap_violations += 1
            self._say(f"the vendor billed ${billed:.2f}, the books say at most ${spent:.2f}")
        for check in audit_ledger(self.world.ledger):
            if check.violations:
                self.duplicates.add(check.invariant)
                self._say(f"invariant broken: {check.invariant} ({check.violations} times)")

    def _broken_caps(self, living: int) -> Iterator[str]:
        cloud, caps = self.world.cloud, self.caps
        if caps is None:
            return
        if living > caps.machines:
            yield f"{living} machines, of at most {caps.machines}"
        if (rate := cloud.usd_per_hour()) > caps.usd_per_hour:
            yield f"${rate:.2f} an hour, of at most ${caps.usd_per_hour:.2f}"
        if cloud.billed_usd > caps.usd:
            yield f"${cloud.billed_usd:.2f} billed, of at most ${caps.usd:.2f}"

    def _say(self, sentence: str) -> None:
        hours = (self.world.cloud.now - self.world.began) / 3600
        self.sentences.append(f"after {hours:.2f} h: {sentence}")
