"""Evaluate the alerts, and send a message per alert that begins or ends."""

from datetime import datetime

from prefect import flow, get_run_logger

from blocks.control import open_control_services
from tasks.alerts import emit_changes, select_due
from validation.analysis.status.alerts import find_firing, load_alerts


@flow(name="check-alerts", flow_run_name="check the alerts")
def check_alerts() -> str:
    """Evaluate every alert of sql/alerts.toml. The automation `notify-alerts` sends the alerts that are new or over."""
    return evaluate_alerts(None, 0)


def evaluate_alerts(times: list[datetime] | None, period_s: float) -> str:
    """Evaluate the alerts that are due at the times of a control run, or all alerts if ``times`` is None.

    Emits an event and stores the new state for each alert that is new or over.

    Returns a sentence with the numbers of alerts that are on, new and over.
    """
    due = list(load_alerts()) if times is None else select_due(times, period_s)
    firing = find_firing(open_control_services().engine, due)
    new, over = emit_changes(due, firing)
    for found in firing:
        get_run_logger().warning("%s: %s", found.alert.name, found.describe(), extra={"event": "alert_on"})
    return f"{len(firing)} alerts are on, {len(new)} of them new; {len(over)} are over."
