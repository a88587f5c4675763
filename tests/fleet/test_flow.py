"""The reconcile flow: the final states of its runs."""

import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

import tasks.fleet
from blocks.control import ControlServices
from blocks.types import VastCredentials, find_vast_account
from flows.reconcile import reconcile_fleet
from tests.support.fleet_world import FLEET, World
from tests.support.vast_helpers import client_of
from validation.settings import Settings

OPEN_CLIENT = VastCredentials.open_client


@pytest.fixture
def world(ledger, prefect_server, monkeypatch):
    """A fleet whose flow runs in this process, against a real Prefect server."""
    world = World(ledger)
    world.cloud.lifecycles = {"ok": 1.0}
    world.queue(10)
    monkeypatch.setattr(tasks.fleet, "open_control_services", lambda: ControlServices(ledger, None))
    monkeypatch.setattr(VastCredentials, "open_client", lambda self: client_of(world.fake))
    for name in ("BOX_DATABASE_URL", "BOX_R2_ENDPOINT_URL", "BOX_PREFECT_API_URL"):
        monkeypatch.setenv(name, "somewhere")
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        yield world
        APILogHandler().flush()  # what the runs logged is on its way, and the server may end before it arrives


def test_run_ends_with_what_it_did_or_what_to_do(world):
    """The state message says that no fleet is ordered, what was rented, or what an operator must do."""
    state = reconcile_fleet(return_state=True)
    assert (state.is_completed(), state.message) == (True, "No fleet is ordered: `vfleet fleet up` orders one.")

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


def unset_the_key(world, monkeypatch):
    monkeypatch.setattr(tasks.fleet, "find_vast_account", lambda: VastCredentials(api_key=""))
    monkeypatch.setattr(VastCredentials, "open_client", OPEN_CLIENT)


def mistype_the_key(world, monkeypatch):
    monkeypatch.setattr(VastCredentials, "open_client", lambda self: client_of(world.fake, "wrong"))


@pytest.mark.parametrize(
    ("spoil", "wanted", "sentence"),
    [
        (unset_the_key, {}, "VAST_API_KEY is not set: make a key in the Vast.ai console, nothing was rented"),
        (mistype_the_key, {}, "(Invalid user key): check VAST_API_KEY and its permissions"),
        (lambda world, _: setattr(world.cloud, "credit_usd", 0.0), {}, "$0.00 are left"),
        (None, {"gpu_names": ("RTX 2060",)}, "the market has no RTX 2060 that meets the filter"),
        (None, {"usd_per_hour": 0.01}, "per hour, above its cap of $0.01"),
        (None, {"max_usd_per_hour": 0.01}, "no offer costs at most $0.010 per hour all in: the cheapest costs $0."),
    ],
    ids=["no key", "wrong key", "no credit", "impossible filter", "cap below the cheapest", "price below the cheapest"],
)
def test_run_fails_with_one_sentence_and_rents_nothing(world, monkeypatch, spoil, wanted, sentence):
    """The message of the failed run says what is wrong and what to do."""
    if spoil:
        spoil(world, monkeypatch)
    world.want(3, **wanted)
    state = reconcile_fleet(return_state=True)
    assert state.is_failed()
    assert sentence in state.message
    assert "Traceback" not in state.message
    assert world.cloud.rentals == {}


def test_environment_key_precedes_the_block(world):
    """Every client of a self-hosted server can read its blocks, so the key belongs in the control machine's
    environment."""
    VastCredentials(api_key="block-key").save("vast", overwrite=True)
    try:
        assert find_vast_account(Settings()).api_key.get_secret_value() == "block-key"
        settings = Settings(vast_api_key="environment-key")
        assert find_vast_account(settings).api_key.get_secret_value() == "environment-key"
    finally:
        VastCredentials.delete("vast")
