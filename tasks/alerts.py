"""Emits a Prefect event per alert that is new or over; a Prefect automation sends the message of the event."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from prefect.events import emit_event
from prefect.variables import Variable

from validation.analysis.status.alerts import Alert, FiringAlert, load_alerts, plain_remedy

VARIABLE = "vfleet_alerts"
"""The Prefect variable that stores the alerts that are on: alert name -> time when the alert began, in ISO 8601."""
ON, OVER = "vfleet.alert.on", "vfleet.alert.over"


def select_due(times: Collection[datetime], period_s: float) -> list[Alert]:
    """Return the alerts that a control run evaluates.

    The alert's ``every_s`` divides the time since 1970 (UTC) into intervals. The alert is due if one of the times lies
    in the first ``period_s`` seconds of an interval.
    """
    return [alert for alert in load_alerts() if any(time.timestamp() % alert.every_s < period_s for time in times)]


def emit_changes(evaluated: Collection[Alert], firing: Collection[FiringAlert]) -> tuple[list[str], list[str]]:
    """Emit an event for each alert that is new and each alert that is over. Returns the names (new, over).

    An alert that was not evaluated keeps its state. The state of the alerts is stored after the events were emitted, so
    after an interrupted run an event may be emitted twice, but is never lost.
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
    """Read the alerts that were on after the last evaluation: alert name -> time when the alert began."""
    known: Any = Variable.get(VARIABLE, default={})
    return known if isinstance(known, dict) else {}


def _emit(event: str, alert: Alert, subject: str, body: str) -> None:
    """Emit the event of one alert, with the subject and body of the message that the automation sends."""
    emit_event(
        event,
        resource={"prefect.resource.id": f"vfleet.alert.{alert.name}", "prefect.resource.name": alert.name},
        payload={"subject": f"validation fleet, {subject}", "body": f"{body} {plain_remedy(alert)}"},
    )
