"""How patient the fleet is, and with what."""

from dataclasses import dataclass

from validation.domain import Seconds


@dataclass(frozen=True, slots=True)
class ControllerPolicy:
    """The constants of the plan, each with its reason."""

    silent_boot_s: Seconds = 360.0
    """From a running container to its worker's first heartbeat: models load within two minutes."""
    silent_s: Seconds = 300.0
    """From heartbeat to heartbeat. They come every 30 s; a ledger that is away for a minute is no reason."""
    lost_s: Seconds = 300.0
    """How long the vendor may have lost sight of a machine: most that come back do so sooner."""
    blip_s: Seconds = 30.0
    """A machine that was just made may show as stopped for a moment."""
    stuck_s: Seconds = 2700.0
    """A worker that holds a chunk finishes a video within minutes; in 45 it does not work, whatever it says."""
    slow_share: float = 0.5
    """Of the median of its class: below it, a machine is slow."""
    slow_s: Seconds = 900.0
    """For how long, before it is replaced."""
    class_size: int = 3
    """Machines of a class that must have shown their speed before one of them can be called slow."""
    drain_s: Seconds = 900.0
    """How long a machine may finish its chunk."""
    lag_s: Seconds = 60.0
    """A listing may show a destroyed machine for so long: seconds, at the vendor's."""
    absences_to_close: int = 2
    absences_to_disbelieve: int = 3
    """Complete listings without its label that prove that an unanswered create came to nothing."""

    event_machines: int = 3
    event_share: float = 0.3
    """So many that stop, or fall silent, together did not fail each by itself."""
    hold_s: Seconds = 600.0
    """How long nothing is rented after such an event."""
    image_refusals: int = 3
    """So many machines that may not pull the image, and no more that could: it is the image, or its registry."""
    image_hold_s: Seconds = 1500.0

    rent_runway_h: float = 2.0
    """Nothing is rented that the money would not pay for so long, with all the others."""
    drain_runway_h: float = 1 / 3
    """Money for less: finish and go."""
    destroy_runway_h: float = 1 / 6
    """Money for less: a hundred paced destroys take five minutes, and ticks come every two."""

    rents_a_tick: int = 20
    """At 4.5 s each, a tick of renting ends before the next but one."""
    destroys_a_tick: int = 30
