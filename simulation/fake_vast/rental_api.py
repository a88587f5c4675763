"""What changes a machine of the fake: renting, stopping, starting, destroying."""

from typing import TYPE_CHECKING, Any

from simulation.fake_vast.rental import Rental
from simulation.fake_vast.transport import Reply, Request
from validation.domain import Seconds

if TYPE_CHECKING:
    from simulation.fake_vast.api import FakeVast

REBOOT_S: Seconds = 30.0
RACE_S: Seconds = 3.0
MAX_AT_ONCE = 64


def refusal(status: int, error: str, message: str, **more: Any) -> Reply:
    return Reply(status, {"success": False, "error": error, "msg": message, **more})


def create(fake: "FakeVast", request: Request, offer_id: int) -> Reply:
    """Check in the vendor's order, then rent."""
    order, cloud = dict(request.body), fake.cloud
    if not order.get("image"):
        return refusal(400, "invalid_args", "error 400/1000: image is missing")
    if not isinstance(order.get("env"), dict):
        order["env"] = {}  # the vendor ignores any other shape without a word
    if cloud.credit_usd <= 0:
        return refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
    if cloud.usd_per_hour() > fake.mix.spend_limit_usd_per_hour:
        return refusal(400, "spend_rate_limit", "Your account has reached its spend rate limit; contact support.")
    offer = cloud.offers.get(offer_id)
    if offer is None or not offer["rentable"]:
        return _sell_again(fake, offer_id, order)
    contract = cloud.create(offer_id, order)
    if contract.is_bid and contract.usd_per_hour < offer["min_bid"]:
        cloud.stop(contract)
        return refusal(400, "invalid_price", "bid is below the minimum", new_contract=contract.id)
    return Reply(200, {"success": True, "new_contract": contract.id, "instance_api_key": contract.key})


def _sell_again(fake: "FakeVast", offer_id: int, order: dict[str, Any]) -> Reply:
    """An offer that has gone. Within seconds of its taking, some report to have rented it a second time."""
    cloud, offer = fake.cloud, fake.cloud.offers.get(offer_id)
    message = f"error 404/3603: no_such_ask  Instance type by id {offer_id} is not available."
    if fake.mix.race_mode == "accept_both" and offer and cloud.now - offer.get("taken_at", 0.0) <= RACE_S:
        contract = cloud.create(offer_id, order, fate="port_taken")
        return Reply(200, {"success": True, "new_contract": contract.id, "instance_api_key": contract.key})
    if fake.mix.race_mode == "refuse_410":
        return refusal(410, "no_such_ask", message)
    return refusal(400, "invalid_args", message, ask_id=offer_id)


def create_many(fake: "FakeVast", request: Request, _: int) -> Reply:
    """Rent several offers with one order. What the vendor answers is not documented: here, one answer an offer."""
    numbers = request.body.get("ids") or []
    if not numbers or len(numbers) > MAX_AT_ONCE:
        return refusal(400, "invalid_args", f"error 400/1001: ids must name 1 to {MAX_AT_ONCE} offers")
    answers = {int(number): create(fake, request, int(number)).body for number in numbers}
    made = [body["new_contract"] for body in answers.values() if isinstance(body, dict) and body["success"]]
    return Reply(200, {"success": bool(made), "new_contracts": made, "results": answers})


def update_many(fake: "FakeVast", request: Request, _: int) -> Reply:
    """Label, stop or start several."""
    numbers = request.body.get("ids") or []
    answers = {int(number): update(fake, request, int(number)).body for number in numbers}
    return Reply(200, {"success": True, "results": answers})


def update(fake: "FakeVast", request: Request, number: int) -> Reply:
    """Label, stop or start."""
    contract = find(fake, number)
    if contract is None:
        return not_found(number)
    if "label" in request.body:
        contract.label = str(request.body["label"] or "")
    if request.body.get("state") == "stopped":
        fake.cloud.stop(contract)
    elif request.body.get("state") == "running" and contract.stopped_at is not None:
        return _start(fake, contract)
    return Reply(200, {"success": True})


def _start(fake: "FakeVast", contract: Rental) -> Reply:
    if fake.cloud.rng.random() < 0.5:  # noqa: PLR2004 - half of them: the card has gone to somebody else
        fake.cloud.resume(contract, after_s=fake.cloud.rng.uniform(600, 7200))
        queued = "Required resources are currently unavailable, state change queued."
        return refusal(200, "resources_unavailable", queued)
    fake.cloud.resume(contract, after_s=fake.cloud.rng.uniform(10, 60))
    return Reply(200, {"success": True})


def destroy(fake: "FakeVast", _: Request, number: int) -> Reply:
    contract = find(fake, number)
    if contract is None:
        return not_found(number)
    fake.cloud.destroy(contract)
    return Reply(200, {"success": True})


def destroy_many(fake: "FakeVast", request: Request, _: int) -> Reply:
    numbers = request.body.get("instance_ids") or request.body.get("ids") or []
    found = [contract for number in numbers if (contract := find(fake, int(number)))]
    for contract in found:
        fake.cloud.destroy(contract)
    return Reply(200, {"success": True, "destroyed": [contract.id for contract in found]})


def change_bid(fake: "FakeVast", request: Request, number: int) -> Reply:
    contract = find(fake, number)
    if contract is None:
        return not_found(number)
    fake.cloud.settle()
    contract.usd_per_hour = float(request.body["price"])
    return Reply(200, {"success": True})


def reboot(fake: "FakeVast", _: Request, number: int) -> Reply:
    contract = find(fake, number)
    if contract is None:
        return not_found(number)
    fake.cloud.resume(contract, after_s=REBOOT_S)
    return Reply(200, {"success": True})


def find(fake: "FakeVast", number: int) -> Rental | None:
    """A machine that lives."""
    contract = fake.cloud.contracts.get(number)
    return contract if contract is not None and contract.is_alive(fake.cloud.now) else None


def not_found(number: int) -> Reply:
    return refusal(404, "no_such_instance", f"Instance {number} not found.")
