"""A run says what it did not prove."""

import time

from simulation.chaos.injections import Injection
from simulation.chaos.runner import Record, find_unproven
from simulation.chaos.schedule import FaultKind, PlannedFault


def planned(kind: FaultKind) -> PlannedFault:
    return PlannedFault(1.0, kind, 0, 0.0)


def test_a_kind_of_fault_that_never_found_a_victim_is_a_violation():
    """Once is enough of each kind, and a second miss of one is no second violation."""
    struck = Injection(planned(FaultKind.KILL_FLOW), "a flow", lambda: None, (), time.time())
    missed = [planned(kind) for kind in (FaultKind.KILL_FLOW, FaultKind.KILL_HOST, FaultKind.KILL_HOST)]
    assert find_unproven(Record(strikes=[struck], missed=missed)) == [
        "proves nothing of 'SIGKILL a model host': it found no victim"
    ]
