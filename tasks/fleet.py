"""Runs one tick of a fleet as a Prefect task, and publishes the report of the tick."""

import logging
from contextlib import suppress
from typing import TypeAlias

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from blocks.control import open_control_services
from blocks.types import collect_box_environment, find_vast_account
from validation.credentials.issuer import open_issuer
from validation.errors import FleetError
from validation.escape import for_markdown
from validation.fleet.reconcile import ReconcileContext, TickReport, reconcile
from validation.gateway.tokens import find_token_file
from validation.ledger.fleet import read_fleets, record_tick
from validation.settings import load_settings

LoggerLike: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"


def list_fleets() -> list[str]:
    """Return the names of all fleets that an operator has ever ordered."""
    return read_fleets(open_control_services().engine)


@task(
    name="reconcile",
    task_run_name="reconcile {fleet}",
    retries=0,  # the next tick, two minutes later, observes everything again
    cache_policy=NO_CACHE,
)
def tick(fleet: str) -> TickReport | None:
    """Run one tick of one fleet, and record the sentences or the error of the tick in the ledger.

    Returns:
        The report; None if another reconciler holds the fleet's lock.
    """
    engine, settings = open_control_services().engine, load_settings()
    try:
        with find_vast_account().open_client() as client, open_issuer(engine, settings) as issuer:
            return reconcile(
                ReconcileContext(
                    engine, client, fleet, collect_box_environment, issuer=issuer, tokens=find_token_file(settings)
                )
            )
    except FleetError as error:
        with suppress(FleetError):  # the error may be an unreachable ledger
            record_tick(engine, fleet, [str(error)])
        raise


def describe_tick(fleet: str, report: TickReport | None) -> str:
    """Describe a tick in one sentence, with the fleet's dollars per hour and the dollars spent."""
    if report is None:
        return f"{fleet}: another reconciler holds the lock."
    boxes = ", ".join(f"{count} {state}" for state, count in sorted(report.by_state.items())) or "no box"
    done = ", ".join(f"{count} {what}" for what, count in sorted(report.done.items())) or "nothing to do"
    return (
        f"{fleet}: {report.wanted} wanted, {boxes}; {done}; ${report.usd_per_hour:.2f} per hour, "
        f"${report.spent_usd:.2f} spent."
    )


def log_tick(logger: LoggerLike, fleet: str, report: TickReport | None) -> None:
    """Log the description of a tick, with the numbers of its report as fields."""
    fields: dict[str, object] = {"event": "fleet_reconciled", "fleet": fleet}
    if report is not None:
        fields |= {"wanted": report.wanted, "usd_per_hour": report.usd_per_hour, "spent_usd": report.spent_usd}
        fields |= {"actions": dict(report.done), "boxes": dict(report.by_state), "problem": report.problem}
    logger.info("%s", describe_tick(fleet, report), extra=fields)


def publish_tick(fleet: str, report: TickReport | None) -> None:
    """Publish a table artifact if the tick executed an action or its report has notes."""
    if report is None or not (report.done or report.notes):
        return
    rows = [{"what": what, "count": count, "note": ""} for what, count in sorted(report.done.items())]
    rows += [{"what": "note", "count": 1, "note": for_markdown(note)} for note in report.notes]
    create_table_artifact(rows, key=f"fleet-{fleet}", description=describe_tick(fleet, report))
