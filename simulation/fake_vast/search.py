"""Search the offers of the fake: filters, order, prices, and special cases of the vendor."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from validation.domain import Seconds

MAX_ROWS = 64
"""The vendor's maximum number of rows. A larger limit of a query has no effect."""
HOURS_PER_MONTH = 730
NOT_FILTERS = {"order", "type", "limit", "allocated_storage", "disable_bundling", "resource_type"}
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda value, wanted: value in wanted,
    "notin": lambda value, wanted: value not in wanted,
}


class UnknownOperator(Exception):
    """The query uses an operator that the vendor does not know."""


def search(
    offers: Iterable[Mapping[str, Any]],
    query: Mapping[str, Any],
    now: Seconds,
    leaks: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Return the offers that match a query, with prices that include the disk of the query.

    Args:
        offers: the market.
        query: the filters, with the order, the limit, the kind of rental and the size of the disk in GB.
        now: the virtual time, as epoch seconds.
        leaks: a function that is called for each free offer that breaks exactly one bound. If it returns true, the
            offer is returned anyway.

    Raises:
        UnknownOperator: a filter uses an operator that the vendor does not know.
    """
    if "id" in query:  # the vendor finds an offer only by ask_contract_id
        return []
    storage_gb = float(query.get("allocated_storage") or 8)
    priced = [price(offer, query.get("type", "on-demand"), storage_gb, now) for offer in offers]
    broken = [(row, _count_broken(row, query)) for row in priced]
    found = [row for row, bounds in broken if bounds == 0 or (bounds == 1 and row["rentable"] and leaks())]
    for column, direction in reversed(query.get("order") or []):
        found.sort(key=lambda row: (row.get(column) is None, row.get(column) or 0), reverse=direction == "desc")
    return found[: min(int(query.get("limit") or MAX_ROWS), MAX_ROWS)]


def price(offer: Mapping[str, Any], kind: str, storage_gb: float, now: Seconds) -> dict[str, Any]:
    """Return an offer as a row of a search. Its price depends on the kind of rental (bid or on demand) and the disk."""
    base = offer["min_bid"] if kind == "bid" else offer["dph_base"]
    total = base + storage_gb * offer["storage_cost"] / HOURS_PER_MONTH
    return {**offer, "dph_base": base, "dph_total": round(total, 6), "duration": offer["end_date"] - now}


def _count_broken(row: Mapping[str, Any], query: Mapping[str, Any]) -> int:
    """Count the bounds of the query that a row breaks."""
    filters = {name: bounds for name, bounds in query.items() if name not in NOT_FILTERS and isinstance(bounds, dict)}
    return sum(not _holds(_value(row, name), op, wanted) for name, b in filters.items() for op, wanted in b.items())


def _value(row: Mapping[str, Any], name: str) -> Any:
    match name:
        case "verified":
            return row["verification"] == "verified"
        case "datacenter":
            return row["hosting_type"] == 1
        case "geolocation":
            return row["geolocation"].rpartition(", ")[2]
        case "driver_version":
            return int("".join(f"{int(part):03d}" for part in row["driver_version"].split(".")))
    return row.get(name)


def _holds(value: Any, op: str, wanted: Any) -> bool:
    if op not in OPERATORS:
        raise UnknownOperator(op)
    if value is None:
        return False
    if isinstance(value, int | float) and isinstance(wanted, str):  # the vendor's client sends numbers as text
        wanted = float(wanted)
    return OPERATORS[op](value, wanted)
