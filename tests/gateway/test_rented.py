"""A rented box passes the real gateway with the environment of its create request, while it is rented."""

import json

import pytest

from simulation.market.world import World
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.reconcile import ReconcileContext, reconcile
from validation.ledger.fleet import scale_to_zero, set_target
from validation.vast.offer_filter import OfferFilter

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

FLEET = "blue"
SEEN_GONE_S = 40
"""Longer than half a minute: two listings so far apart prove that a machine is gone."""


def test_rented_box_passes_the_gateway_until_it_is_destroyed(gateway, ledger):
    """Renting creates the token, which opens the box's own work, and destroying revokes it; no operator is needed."""
    world = World(ledger)
    world.cloud.lifecycles = {"ok": 1.0}
    world.queue(4)
    order = LaunchSpec("worker:1", OfferFilter()).to_json()
    set_target(ledger, FLEET, machines=1, max_usd_per_hour=2.0, max_usd=10.0, order=order)
    with world.client:
        context = ReconcileContext(
            ledger, world.client, FLEET, lambda: {"PREFECT_API_URL": gateway.nginx.api_url}, tokens=gateway.tokens
        )
        reconcile(context)
        (rental,) = world.cloud.living()
        environment = rental.order["env"]
        assert environment["PREFECT_API_URL"] == gateway.nginx.api_url
        with gateway.open_client_with(json.loads(environment["PREFECT_CLIENT_CUSTOM_HEADERS"])) as box:
            beat = "/work_pools/vast-gpu/workers/heartbeat"
            assert box.get("/work_pools/vast-gpu").status_code == 200
            assert box.post(beat, json={"name": environment["WORKER_ID"]}).status_code == 204
            assert box.post(beat, json={"name": "val-99"}).status_code == 403

            scale_to_zero(ledger, FLEET, abandon=True)
            reconcile(context)
            assert world.cloud.living() == []
            assert box.get("/work_pools/vast-gpu").status_code == 401
        for _ in range(3):
            world.fake.advance(SEEN_GONE_S)
            last = reconcile(context)
        assert last.is_empty
