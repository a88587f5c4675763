"""What a plan may ask for."""

from dataclasses import dataclass, field
from typing import TypeAlias

from validation.fleet.blacklist import Reason
from validation.ledger.fleet import RentedInstance
from validation.vast.offers import Offer


@dataclass(frozen=True, slots=True)
class Adopt:
    """A create whose answer was lost did take effect: a listing shows its label."""

    machine: RentedInstance
    instance_id: int


@dataclass(frozen=True, slots=True)
class MarkReady:
    """Its worker heartbeats: it counts."""

    machine: RentedInstance


@dataclass(frozen=True, slots=True)
class Drain:
    """Let it finish what it holds."""

    machine: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Terminate:
    """Destroy it, and ban it where it was at fault."""

    machine: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Destroy:
    """Send the destroy again: the vendor has not agreed yet, or still lists the machine."""

    machine: RentedInstance


@dataclass(frozen=True, slots=True)
class DestroyOrphan:
    """A machine with our label that no row of the ledger wants."""

    instance_id: int
    label: str


@dataclass(frozen=True, slots=True)
class MarkClosed:
    """It is proven to be gone, or never to have been."""

    machine: RentedInstance
    reason: Reason


@dataclass(frozen=True, slots=True)
class Rent:
    """Ask for one more, under this slot's name."""

    slot: int
    offer: Offer


Step: TypeAlias = Adopt | MarkReady | Drain | Terminate | Destroy | MarkClosed
"""What one machine of the ledger is due."""
Action: TypeAlias = Step | DestroyOrphan | Rent


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in order: what frees money comes before what costs some."""

    actions: tuple[Action, ...] = ()
    to_rent: int = 0
    """How many machines are lacking, and may be rented, if the market has them."""
    spares: tuple[Offer, ...] = ()
    """What to take instead of an offer that is gone."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for an operator: why less is done than one may expect."""
