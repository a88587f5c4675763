"""The fleet's tick as Prefect sees it."""

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from blocks.session import open_control
from blocks.suite import collect_box_environment
from blocks.vast import find_credentials
from validation.credentials.issuer import open_issuer
from validation.fleet.reconcile import ReconcileContext, Report, reconcile
from validation.gateway.tokens import find_tokens
from validation.ledger.fleet import read_fleets
from validation.settings import load_settings


def list_fleets() -> list[str]:
    """The fleets that an operator ever wanted."""
    return read_fleets(open_control().engine)


@task(
    name="reconcile",
    task_run_name="reconcile {fleet}",
    retries=0,  # a tick that failed is not repeated: the next one begins by looking, two minutes later
    cache_policy=NO_CACHE,
)
def tick(fleet: str) -> Report | None:
    """Look, plan and act once for one fleet. None: somebody else is at it."""
    engine, settings = open_control().engine, load_settings()
    with find_credentials().open_client() as client, open_issuer(engine, settings) as issuer:
        return reconcile(
            ReconcileContext(
                engine, client, fleet, collect_box_environment, issuer=issuer, tokens=find_tokens(settings)
            )
        )


def describe_tick(fleet: str, report: Report | None) -> str:
    """One sentence on a tick."""
    if report is None:
        return f"{fleet}: another reconciler has the turn."
    there = ", ".join(f"{count} {state}" for state, count in sorted(report.by_state.items())) or "no machine"
    done = ", ".join(f"{count} {what}" for what, count in sorted(report.done.items())) or "nothing to do"
    return (
        f"{fleet}: {report.wanted} wanted, {there}; {done}; ${report.usd_per_hour:.2f} an hour, "
        f"${report.spent_usd:.2f} spent."
    )


def publish_notes(fleet: str, report: Report | None) -> None:
    """Leave an artifact where a tick did something or has something to say."""
    if report is None or not (report.done or report.notes):
        return
    rows = [{"what": what, "count": count, "note": ""} for what, count in sorted(report.done.items())]
    rows += [{"what": "note", "count": 1, "note": note} for note in report.notes]
    create_table_artifact(rows, key=f"fleet-{fleet}", description=describe_tick(fleet, report))
