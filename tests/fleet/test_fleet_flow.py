"""The flow that keeps the fleet: what its runs end in."""

import pytest
from fleet_world import FLEET, World
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings
from vast_steps import client_of

import tasks.fleet
from blocks.session import Control
from blocks.vast import VastCredentials, find_credentials
from flows.reconcile import reconcile_fleet
from validation.settings import Settings


@pytest.fixture
def world(ledger, prefect_server, monkeypatch):
    """A fleet whose flow runs in this process, against a real Prefect server."""
    world = World(ledger)
    world.cloud.fates = {"ok": 1.0}
    world.queue(10)
    monkeypatch.setattr(tasks.fleet, "open_control", lambda: Control(ledger, None))
    monkeypatch.setattr(VastCredentials, "open_client", lambda self: client_of(world.fake))
    for name in ("BOX_DATABASE_URL", "BOX_R2_ENDPOINT_URL", "BOX_PREFECT_API_URL"):
        monkeypatch.setenv(name, "somewhere")
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        yield world
        APILogHandler().flush()  # what the runs logged is on its way, and the server may end before it arrives


def test_a_run_says_what_it_did_or_fails_with_what_to_do(world):
    """Nobody wants a fleet; one is wanted and comes; and one that its operator must see to."""
    state = reconcile_fleet(return_state=True)
    assert (state.is_completed(), state.message) == (True, "Nobody wants a fleet: `vfleet fleet up` makes one.")

    world.want(2)
    state = reconcile_fleet(return_state=True)
    assert state.is_completed()
    assert state.message.startswith(f"{FLEET}: 2 wanted, 2 renting; 2 rented; $0.")

    world.pass_time(200)
    world.cloud.credit_usd = 0.01
    world.want(3)
    state = reconcile_fleet(return_state=True)
    assert state.is_failed()
    assert state.message.startswith(f"{FLEET}: $0.01 are left")


def test_the_environments_key_comes_first_and_the_block_second(world):
    """A self-hosted server's blocks are everybody's: the key belongs in the control plane's environment."""
    VastCredentials(api_key="of the block").save("vast", overwrite=True)
    assert find_credentials(Settings()).api_key.get_secret_value() == "of the block"
    told = Settings(vast_api_key="of the environment")
    assert find_credentials(told).api_key.get_secret_value() == "of the environment"
