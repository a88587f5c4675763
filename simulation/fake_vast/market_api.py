"""Handlers that read the market and the account."""

from collections.abc import Mapping
from typing import Any

from simulation.fake_vast import search
from simulation.fake_vast.cloud import ACCOUNT_KEY
from simulation.fake_vast.market import describe_market
from simulation.fake_vast.transport import Reply, Request, refusal
from simulation.fake_vast.vendor import Vendor


def search_offers(vendor: Vendor, request: Request, _: int) -> Reply:
    return _search(vendor, request.body)


def search_asks(vendor: Vendor, request: Request, _: int) -> Reply:
    return _search(vendor, request.body.get("q") or {})


def _search(vendor: Vendor, query: Mapping[str, Any]) -> Reply:
    try:
        found = search.search(vendor.cloud.offers.values(), query, vendor.cloud.now, vendor.leaks)
    except search.UnknownOperator as unknown:
        return refusal(400, "invalid_request", f"{unknown} is not a valid search op")
    if quota := vendor.throttle.count_rows(len(found), vendor.cloud.now):
        return Reply(429, quota, {"X-RateLimit-Reset": str(quota["retry_after"])})
    return Reply(200, {"success": True, "offers": found})


def read_account(vendor: Vendor, _: Request, __: int) -> Reply:
    credit = round(vendor.cloud.credit_usd, 6)
    return Reply(
        200,
        {"id": 1, "email": "operator@example.com", "username": "operator", "credit": credit, "balance": 0.0,
         "host_agreement_accepted": False, "api_key": ACCOUNT_KEY, "success": True},
    )  # fmt: skip


def list_gpu_names(_: Vendor, __: Request, ___: int) -> Reply:
    return Reply(200, {"success": True, "gpu_names": ["RTX 3090", "RTX 4090"]})


def read_metrics(vendor: Vendor, _: Request, __: int) -> Reply:
    """Return the numbers of offers and their prices per GPU."""
    return Reply(200, {"success": True, "gpus": describe_market(vendor.cloud.offers)})
