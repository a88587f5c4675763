"""A chaos run reports the faults that it did not inject."""

import time

from simulation.chaos.injections import Injection
from simulation.chaos.runner import RunRecord, find_unproven
from simulation.chaos.schedule import FaultKind, PlannedFault


def planned(kind: FaultKind) -> PlannedFault:
    return PlannedFault(1.0, kind, 0, 0.0)


def test_fault_kind_without_a_target_is_unproven():
    """One injection per kind suffices, and a kind that missed twice is named once."""
    injected = Injection(planned(FaultKind.KILL_FLOW), "a flow", lambda: None, (), time.time())
    missed = [
        planned(kind)
        for kind in (FaultKind.KILL_FLOW, FaultKind.KILL_INFERENCE_SERVER, FaultKind.KILL_INFERENCE_SERVER)
    ]
    assert find_unproven(RunRecord(injections=[injected], missed=missed)) == [FaultKind.KILL_INFERENCE_SERVER]
