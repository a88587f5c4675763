"""Handlers that change instances: they rent, stop, start, label and destroy instances."""

from typing import Any

from simulation.fake_vast.rental import Rental
from simulation.fake_vast.transport import Reply, Request, refusal
from simulation.fake_vast.vendor import Vendor
from validation.domain import Seconds

REBOOT_S: Seconds = 30.0
RACE_S: Seconds = 3.0
MAX_AT_ONCE = 64


def create(vendor: Vendor, request: Request, offer_id: int) -> Reply:
    """Rent an offer. The checks that may refuse it have the same order as at the vendor."""
    order, cloud = dict(request.body), vendor.cloud
    if not order.get("image"):
        return refusal(400, "invalid_args", "error 400/1000: image is missing")
    if not isinstance(order.get("env"), dict):
        order["env"] = {}  # the vendor ignores any other shape without an error
    if cloud.credit_usd <= 0:
        return refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
    if cloud.usd_per_hour() > vendor.mix.spend_limit_usd_per_hour:
        return refusal(400, "spend_rate_limit", "Your account has reached its spend rate limit; contact support.")
    offer = cloud.offers.get(offer_id)
    if offer is None or not offer["rentable"]:
        return _sell_again(vendor, offer_id, order)
    rental = cloud.create(offer_id, order)
    if rental.is_bid and rental.usd_per_hour < offer["min_bid"]:
        cloud.stop(rental)
        return refusal(400, "invalid_price", "bid is below the minimum", new_contract=rental.id)
    return Reply(200, {"success": True, "new_contract": rental.id, "instance_api_key": rental.key})


def _sell_again(vendor: Vendor, offer_id: int, order: dict[str, Any]) -> Reply:
    """Answer a create request for an offer that is gone. Within ``RACE_S`` the fake may rent it a second time."""
    cloud, offer = vendor.cloud, vendor.cloud.offers.get(offer_id)
    message = f"error 404/3603: no_such_ask  Instance type by id {offer_id} is not available."
    if vendor.mix.race_mode == "accept_both" and offer and cloud.now - offer.get("taken_at", 0.0) <= RACE_S:
        rental = cloud.create(offer_id, order, lifecycle="port_taken")
        return Reply(200, {"success": True, "new_contract": rental.id, "instance_api_key": rental.key})
    if vendor.mix.race_mode == "refuse_410":
        return refusal(410, "no_such_ask", message)
    return refusal(400, "invalid_args", message, ask_id=offer_id)


def create_many(vendor: Vendor, request: Request, _: int) -> Reply:
    """Rent several offers with one order. The vendor does not document its response; the fake returns one per offer."""
    numbers = request.body.get("ids") or []
    if not numbers or len(numbers) > MAX_AT_ONCE:
        return refusal(400, "invalid_args", f"error 400/1001: ids must name 1 to {MAX_AT_ONCE} offers")
    answers = {int(number): create(vendor, request, int(number)).body for number in numbers}
    made = [body["new_contract"] for body in answers.values() if isinstance(body, dict) and body["success"]]
    return Reply(200, {"success": bool(made), "new_contracts": made, "results": answers})


def update_many(vendor: Vendor, request: Request, _: int) -> Reply:
    """Label, stop or start several instances."""
    numbers = request.body.get("ids") or []
    answers = {int(number): update(vendor, request, int(number)).body for number in numbers}
    return Reply(200, {"success": True, "results": answers})


def update(vendor: Vendor, request: Request, number: int) -> Reply:
    """Label, stop or start one instance."""
    rental = find(vendor, number)
    if rental is None:
        return not_found(number)
    if "label" in request.body:
        rental.label = str(request.body["label"] or "")
    if request.body.get("state") == "stopped":
        vendor.cloud.stop(rental)
    elif request.body.get("state") == "running" and rental.stopped_at is not None:
        return _start(vendor, rental)
    return Reply(200, {"success": True})


def _start(vendor: Vendor, rental: Rental) -> Reply:
    if vendor.cloud.rng.random() < 0.5:  # noqa: PLR2004 - half of them: the GPU was rented by another account
        vendor.cloud.resume(rental, after_s=vendor.cloud.rng.uniform(600, 7200))
        queued = "Required resources are currently unavailable, state change queued."
        return refusal(200, "resources_unavailable", queued)
    vendor.cloud.resume(rental, after_s=vendor.cloud.rng.uniform(10, 60))
    return Reply(200, {"success": True})


def destroy(vendor: Vendor, _: Request, number: int) -> Reply:
    rental = find(vendor, number)
    if rental is None:
        return not_found(number)
    vendor.cloud.destroy(rental)
    return Reply(200, {"success": True})


def destroy_many(vendor: Vendor, request: Request, _: int) -> Reply:
    numbers = request.body.get("instance_ids") or request.body.get("ids") or []
    found = [rental for number in numbers if (rental := find(vendor, int(number)))]
    for rental in found:
        vendor.cloud.destroy(rental)
    return Reply(200, {"success": True, "destroyed": [rental.id for rental in found]})


def change_bid(vendor: Vendor, request: Request, number: int) -> Reply:
    rental = find(vendor, number)
    if rental is None:
        return not_found(number)
    vendor.cloud.catch_up()
    rental.usd_per_hour = float(request.body["price"])
    return Reply(200, {"success": True})


def reboot(vendor: Vendor, _: Request, number: int) -> Reply:
    rental = find(vendor, number)
    if rental is None:
        return not_found(number)
    vendor.cloud.resume(rental, after_s=REBOOT_S)
    return Reply(200, {"success": True})


def find(vendor: Vendor, number: int) -> Rental | None:
    """Return an instance by its id; None if the instance was destroyed or never existed."""
    rental = vendor.cloud.rentals.get(number)
    return rental if rental is not None and rental.is_alive(vendor.cloud.now) else None


def not_found(number: int) -> Reply:
    return refusal(404, "no_such_instance", f"Instance {number} not found.")
