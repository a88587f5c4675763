"""Rent and terminate boxes until each fleet has the boxes that its operator ordered."""

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from tasks.fleet import describe_tick, list_fleets, log_tick, publish_tick, tick


@flow(name="reconcile-fleet", flow_run_name="reconcile the fleet")
def reconcile_fleet() -> State[None]:
    """Rent missing boxes, replace failing boxes, terminate surplus boxes. Safe to run by hand at any time.

    The run ends Failed if boxes are missing for a reason that an operator must remove: no key, no credit, a cap below
    the cheapest offer. The message of the state names the reason.
    """
    sentences, problems = [], []
    for fleet in list_fleets():
        report = tick(fleet)
        publish_tick(fleet, report)
        log_tick(get_run_logger(), fleet, report)
        sentences.append(describe_tick(fleet, report))
        if report is not None and report.problem:
            problems.append(f"{fleet}: {report.problem}")
    if problems:
        return Failed(message=" ".join(problems))
    return Completed(message=" ".join(sentences) or "No fleet is ordered: `vfleet fleet up` orders one.")
