"""Evaluate the alerts of ``sql/alerts.toml`` against the ledger.

`python -m validation.analysis.status.alerts` (`make docs-alerts`) generates the section on alerts of docs/operate.md
and the alert rules of Grafana.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.migrate import SQL
from validation.ledger.rpc import translate_error

MAX_EXAMPLES = 3
"""Maximum number of rows that the description of a firing alert lists."""
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
"""Matches a Markdown link; the group is its text."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. It fires if its query returns a row; each row describes one problem."""

    name: str
    severity: Literal["critical", "warning"]
    meaning: str
    remedy: str
    """Instructions for the operator, in Markdown."""
    query: str
    every_s: Seconds = 120.0
    """Seconds between two evaluations by the control run."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert whose query returned rows."""

    alert: Alert
    rows: Sequence[dict[str, Any]]
    """The rows that the query returned."""

    def describe(self) -> str:
        """Return the alert's meaning, followed by the first ``MAX_EXAMPLES`` rows with the names of their columns."""
        shown = [", ".join(f"{name} {value}" for name, value in row.items()) for row in self.rows[:MAX_EXAMPLES]]
        more = len(self.rows) - len(shown)
        return f"{self.alert.meaning} {'; '.join(shown)}{f'; and {more} more' if more else ''}."

    def to_json(self) -> dict[str, Any]:
        """Return the firing alert as plain values for ``print_json``."""
        alert = self.alert
        return {
            "alert": alert.name, "severity": alert.severity, "meaning": alert.meaning,
            "remedy": plain_remedy(alert), "rows": [dict(row) for row in self.rows],
        }  # fmt: skip


@lru_cache(maxsize=1)
def load_alerts() -> tuple[Alert, ...]:
    """Load all alerts of ``sql/alerts.toml``, in the order of the file."""
    described = tomllib.loads((SQL / "alerts.toml").read_text(encoding="utf-8"))
    return tuple(Alert(name, **fields) for name, fields in described.items())


def find_firing(engine: Engine, alerts: Iterable[Alert] | None = None) -> list[FiringAlert]:
    """Return the alerts whose queries return rows, critical alerts first. The ledger is only read.

    Args:
        engine: the ledger.
        alerts: the alerts to evaluate; None for all alerts.

    Raises:
        Unreachable, LedgerBusy: the ledger does not answer.
    """
    found = [
        FiringAlert(alert, rows)
        for alert in (load_alerts() if alerts is None else alerts)
        if (rows := _evaluate(engine, alert))
    ]
    return sorted(found, key=lambda firing: firing.alert.severity)


def plain_remedy(alert: Alert) -> str:
    """Return the alert's remedy as plain text, without Markdown links and backquotes."""
    return _LINK.sub(r"\1", alert.remedy).replace("`", "")


def _evaluate(engine: Engine, alert: Alert) -> list[dict[str, Any]]:
    """Return the rows of an alert's query."""
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql(alert.query).mappings()]
    except DBAPIError as error:
        raise translate_error(error, engine, f"alert {alert.name}", {}) from error


ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/operate.md"
GRAFANA = ROOT / "deploy/grafana/alerts.yaml"
HEADING = "## Alerts\n"
DATASOURCE = "validation-ledger"
"""The uid of Grafana's data source, which logs in with the role validation_reader."""
_INTRODUCTION = """
`vfleet alerts` prints the alerts that are on, and exits with 1 if an alert is on. The control run evaluates the alerts
and sends those that are new or over ([Being woken](#being-woken)). `deploy/grafana/alerts.yaml` has the alerts as
rules for Grafana.
"""
_HEAD = "# Alert rules for Grafana's provisioning, made from sql/alerts.toml by `make docs-alerts`.\n"


def replace_alerts_section(page: str) -> str:
    """Return the text of ``docs/operate.md`` with its last section, the alerts, generated from ``sql/alerts.toml``.

    Args:
        page: the present text of the page.
    """
    before = page[: page.index(HEADING)]
    sections = [
        f"\n### {alert.name}\n{alert.meaning} Severity: {alert.severity}.\n**What to do.** {alert.remedy}\n"
        f"```sql\n{alert.query}```\n"
        for alert in load_alerts()
    ]
    return before + HEADING + _INTRODUCTION + "".join(sections)


def render_grafana_rules() -> str:
    """Return the alert rules of Grafana as YAML, one rule per alert."""
    group = {
        "orgId": 1,
        "name": "validation-fleet",
        "folder": "Validation fleet",
        "interval": "2m",
        "rules": [_make_rule(alert) for alert in load_alerts()],
    }
    return _HEAD + yaml.safe_dump({"apiVersion": 1, "groups": [group]}, sort_keys=False, width=120)


def _make_rule(alert: Alert) -> dict[str, Any]:
    """Make a Grafana rule that fires if the query returns a row. The rule counts rows, as Grafana compares numbers."""
    counted = f"SELECT count(*) AS found FROM (\n{alert.query.strip().rstrip(';')}\n) AS alert"  # noqa: S608 - our data
    query = {"refId": "A", "format": "table", "rawQuery": True, "editorMode": "code", "rawSql": counted}
    above_zero = {"evaluator": {"type": "gt", "params": [0]}}
    threshold = {"refId": "B", "type": "threshold", "expression": "A", "conditions": [above_zero]}
    return {
        "uid": f"vfleet-{alert.name}",
        "title": alert.name,
        "condition": "B",
        "data": [
            {"refId": "A", "relativeTimeRange": {"from": 600, "to": 0}, "datasourceUid": DATASOURCE, "model": query},
            {"refId": "B", "relativeTimeRange": {"from": 0, "to": 0}, "datasourceUid": "__expr__", "model": threshold},
        ],
        "for": "0s",
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.meaning, "description": plain_remedy(alert)},
    }


if __name__ == "__main__":
    PAGE.write_text(replace_alerts_section(PAGE.read_text(encoding="utf-8")))
    GRAFANA.write_text(render_grafana_rules(), encoding="utf-8")
