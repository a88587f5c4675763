"""`make docs-alerts`: writes what is made from the alerts, a section of docs/operate.md and Grafana's rules."""

from pathlib import Path
from typing import Any

import yaml

from validation.analysis.status.alerts import Alert, load_alerts, plain_remedy

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/operate.md"
GRAFANA = ROOT / "deploy/grafana/alerts.yaml"
HEADING = "## Alerts\n"
DATASOURCE = "validation-ledger"
"""The uid of Grafana's data source, which logs in with the role validation_reader."""
_INTRODUCTION = """
`vfleet alerts` prints what is on and exits with 1 if anything is. The control run evaluates the alerts and sends what
is new or over ([Being woken](#being-woken)). `deploy/grafana/alerts.yaml` has them as rules for Grafana.
"""
_HEAD = "# Alert rules for Grafana's provisioning, made from sql/alerts.toml by `make docs-alerts`.\n"


def render_page(page: str) -> str:
    """The page with its section on alerts, which is its last, made anew."""
    before = page[: page.index(HEADING)]
    sections = [
        f"\n### {alert.name}\n{alert.meaning} Severity: {alert.severity}.\n**What to do.** {alert.remedy}\n"
        f"```sql\n{alert.query}```\n"
        for alert in load_alerts()
    ]
    return before + HEADING + _INTRODUCTION + "".join(sections)


def render_rules() -> str:
    """Grafana's alert rules, one per alert."""
    group = {
        "orgId": 1,
        "name": "validation-fleet",
        "folder": "Validation fleet",
        "interval": "2m",
        "rules": [_make_rule(alert) for alert in load_alerts()],
    }
    return _HEAD + yaml.safe_dump({"apiVersion": 1, "groups": [group]}, sort_keys=False, width=120)


def _make_rule(alert: Alert) -> dict[str, Any]:
    """On if the query returns a row. Grafana compares a number, so the rows are counted."""
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
    PAGE.write_text(render_page(PAGE.read_text()))
    GRAFANA.write_text(render_rules())
