"""Keep the rented machines as their operator wants them."""

from prefect import flow
from prefect.states import Completed, Failed, State

from tasks.fleet import describe_tick, list_fleets, publish_notes, tick


@flow(name="reconcile-fleet", flow_run_name="reconcile the fleet")
def reconcile_fleet() -> State[None]:
    """Rent what is lacking, replace what fails, dismiss what is too much. Safe to run by hand at any time.

    Ends Failed, with the sentence, where machines are lacking for a reason that an operator must see to: no key, no
    credit, a cap below the cheapest offer.
    """
    sentences, problems = [], []
    for fleet in list_fleets():
        report = tick(fleet)
        publish_notes(fleet, report)
        sentences.append(describe_tick(fleet, report))
        if report is not None and report.problem:
            problems.append(f"{fleet}: {report.problem}")
    if problems:
        return Failed(message=" ".join(problems))
    return Completed(message=" ".join(sentences) or "Nobody wants a fleet: `vfleet fleet up` makes one.")
