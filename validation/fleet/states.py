"""The ways that a rented machine may go. The ledger holds the same table and refuses every other step."""

from collections.abc import Mapping

from validation.ledger.fleet import State

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "requested": frozenset({"renting", "destroying", "gone"}),
    "renting": frozenset({"working", "destroying"}),
    "working": frozenset({"draining", "destroying"}),
    "draining": frozenset({"destroying"}),
    "destroying": frozenset({"destroyed"}),
    "destroyed": frozenset({"destroying", "gone"}),
    "gone": frozenset(),
}

OCCUPYING: frozenset[State] = frozenset({"requested", "renting", "working", "draining", "destroying"})
"""States in which a machine counts against the number of machines: it bills, or may."""

SERVING: frozenset[State] = frozenset({"requested", "renting", "working"})
"""States in which a machine works, or is on its way to."""
