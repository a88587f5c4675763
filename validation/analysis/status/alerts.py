"""The alerts of the fleet: data in ``sql/alerts.toml``, evaluated against the ledger."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.migrate import SQL
from validation.ledger.rpc import translate_error

MAX_EXAMPLES = 3
"""Rows that a sentence names."""
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Its query returns one row per thing that is wrong."""

    name: str
    severity: Literal["critical", "warning"]
    meaning: str
    remedy: str
    """What to do, in Markdown."""
    query: str
    every_s: Seconds = 120.0
    """How often the control run evaluates it."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that is on."""

    alert: Alert
    rows: Sequence[dict[str, Any]]
    """What the query returned."""

    def describe(self) -> str:
        """The meaning, then the first rows with the names of their columns."""
        shown = [", ".join(f"{name} {value}" for name, value in row.items()) for row in self.rows[:MAX_EXAMPLES]]
        more = len(self.rows) - len(shown)
        return f"{self.alert.meaning} {'; '.join(shown)}{f'; and {more} more' if more else ''}."

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``say_json``."""
        alert = self.alert
        return {
            "alert": alert.name, "severity": alert.severity, "meaning": alert.meaning,
            "remedy": plain_remedy(alert), "rows": [dict(row) for row in self.rows],
        }  # fmt: skip


@lru_cache(maxsize=1)
def load_alerts() -> tuple[Alert, ...]:
    """All alerts, in the order of the file."""
    described = tomllib.loads((SQL / "alerts.toml").read_text())
    return tuple(Alert(name, **fields) for name, fields in described.items())


def find_firing(engine: Engine, alerts: Iterable[Alert] | None = None) -> list[FiringAlert]:
    """The alerts that are on, critical ones first. Reads only.

    Args:
        engine: the ledger.
        alerts: which alerts to evaluate; None for all.

    Raises:
        Unreachable, LedgerBusy: the ledger does not answer.
    """
    found = [FiringAlert(alert, rows) for alert in alerts or load_alerts() if (rows := _evaluate(engine, alert))]
    return sorted(found, key=lambda firing: firing.alert.severity)


def plain_remedy(alert: Alert) -> str:
    """What to do, without links."""
    return _LINK.sub(r"\1", alert.remedy).replace("`", "")


def _evaluate(engine: Engine, alert: Alert) -> list[dict[str, Any]]:
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql(alert.query).mappings()]
    except DBAPIError as error:
        raise translate_error(error, engine, f"alert {alert.name}", {}) from error
