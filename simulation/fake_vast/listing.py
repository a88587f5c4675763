"""Handlers that list and show instances."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from simulation.fake_vast.rental_api import find, not_found
from simulation.fake_vast.transport import Reply, Request, refusal
from simulation.fake_vast.vendor import Vendor

MAX_ROWS = 25
COMPUTED = {"dph_total", "uptime_mins", "duration"}
"""Columns that the vendor refuses in the filter of a listing."""


def list_page(vendor: Vendor, request: Request, _: int) -> Reply:
    """Return one page of the listing, with at most ``MAX_ROWS`` rows in the order of their ids."""
    rows = [
        rental.row(vendor.cloud.now) for rental in vendor.cloud.rentals.values() if rental.is_listed(vendor.cloud.now)
    ]
    filters = json.loads(request.query.get("select_filters") or "{}")
    if bad := COMPUTED & set(filters):
        return refusal(400, "invalid_request", f"{min(bad)} is not a valid search key")
    chosen = sorted((row for row in rows if _passes(row, filters)), key=lambda row: row["id"])
    token = request.query.get("after_token") or "0"
    if not token.isdecimal():
        return refusal(400, "invalid_token", "after_token is not valid")
    page = [row for row in chosen if row["id"] > int(token)][
        : min(int(request.query.get("limit") or MAX_ROWS), MAX_ROWS)
    ]
    more = bool(page) and page[-1]["id"] < chosen[-1]["id"]
    return Reply(
        200,
        {
            "success": True,
            "instances_found": len(page),
            "total_instances": len(chosen),
            "label_counts": Counter(row["label"] or "" for row in chosen),
            "next_token": str(page[-1]["id"]) if more else None,
            "instances": page,
        },
    )


def _passes(row: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    for column, wanted in filters.items():
        allowed = wanted.get("in", [wanted.get("eq")]) if isinstance(wanted, dict) else [wanted]
        if row.get(column) not in allowed:
            return False
    return True


def refuse_old_listing(_: Vendor, __: Request, ___: int) -> Reply:
    message = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead."
    return refusal(410, "deprecated_endpoint", message)


def list_filters(vendor: Vendor, _: Request, __: int) -> Reply:
    rows = [c.row(vendor.cloud.now) for c in vendor.cloud.rentals.values() if c.is_listed(vendor.cloud.now)]
    names = ("actual_status", "gpu_name", "verification")
    return Reply(200, {"success": True, "filters": [{name: row[name] for name in names} for row in rows]})


def show_one(vendor: Vendor, _: Request, number: int) -> Reply:
    rental = find(vendor, number)
    return Reply(200, {"instances": rental.row(vendor.cloud.now) if rental else None})


def request_logs(vendor: Vendor, request: Request, number: int) -> Reply:
    rental = find(vendor, number)
    if rental is None:
        return not_found(number)
    rental.log_reads = 0
    host = request.query.get("host", "")
    return Reply(200, {"success": True, "result_url": f"{host}/logs/{number}"})


def read_logs(vendor: Vendor, _: Request, number: int) -> Reply:
    """Return the log of an instance. The first two reads return 404, as at the vendor."""
    rental = vendor.cloud.rentals.get(number)
    if rental is None:
        return not_found(number)
    rental.log_reads += 1
    return Reply(404, "") if rental.log_reads <= 2 else Reply(200, f"log of instance {number}\n")  # noqa: PLR2004
