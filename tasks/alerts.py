"""Tells Prefect which alerts are new and which are over; an automation sends them on."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from prefect.events import emit_event
from prefect.variables import Variable

from validation.analysis.status.alerts import Alert, FiringAlert, load_alerts, plain_remedy

VARIABLE = "vfleet_alerts"
"""The Prefect variable that remembers which alerts are on, each with the time since when."""
ON, OVER = "vfleet.alert.on", "vfleet.alert.over"


def select_due(times: Collection[datetime], period_s: float) -> list[Alert]:
    """The alerts that a control run evaluates: those whose own period begins with one of its times."""
    return [alert for alert in load_alerts() if any(time.timestamp() % alert.every_s < period_s for time in times)]


def emit_changes(evaluated: Collection[Alert], firing: Collection[FiringAlert]) -> tuple[list[str], list[str]]:
    """Emit an event for each alert that is new and each that is over. Returns the names of both.

    An alert that was not evaluated stays as it was. What is on is remembered after the events were emitted, so an
    interrupted run emits a change twice rather than never.
    """
    before = read_last_firing()
    on = {found.alert.name: found for found in firing}
    new = [name for name in on if name not in before]
    over = [alert.name for alert in evaluated if alert.name in before and alert.name not in on]
    for name in new:
        _emit(ON, on[name].alert, f"{on[name].alert.severity}: {name}", on[name].describe())
    for alert in evaluated:
        if alert.name in over:
            _emit(OVER, alert, f"over: {alert.name}", f"On since {before[alert.name]}.")
    if new or over:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {name: since for name, since in before.items() if name not in over}
        Variable.set(VARIABLE, kept | dict.fromkeys(new, now), overwrite=True)
    return new, over


def read_last_firing() -> Mapping[str, str]:
    """The alerts that were on at the last evaluation, each with the time since when."""
    known: Any = Variable.get(VARIABLE, default={})
    return known if isinstance(known, dict) else {}


def _emit(event: str, alert: Alert, subject: str, body: str) -> None:
    emit_event(
        event,
        resource={"prefect.resource.id": f"vfleet.alert.{alert.name}", "prefect.resource.name": alert.name},
        payload={"subject": f"validation fleet, {subject}", "body": f"{body} {plain_remedy(alert)}"},
    )
