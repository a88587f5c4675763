"""Each tick gives the boxes that it rents a token for the gateway, and revokes the tokens of boxes that are gone."""

import base64
import json
from dataclasses import replace

import pytest

from tests.support.fleet_world import FLEET, World
from validation.cli.main import main
from validation.errors import BadInput
from validation.fleet.launch_spec import read_box_environment
from validation.gateway.tokens import TokenFile
from validation.ledger.fleet import read_budget

BOX = {
    "BOX_DATABASE_URL": "postgresql://box", "BOX_R2_ENDPOINT_URL": "https://r2", "BOX_PREFECT_API_URL": "https://x/api",
}  # fmt: skip


@pytest.fixture
def tokens(tmp_path):
    """A token file with a token that an operator added."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("home-1")
    return tokens


@pytest.fixture
def world(ledger, tokens):
    """A fleet whose reconciler writes the token file."""
    world = World(ledger)
    world.context = replace(world.context, tokens=tokens)
    world.queue(50)
    with world.client:
        yield world


def presented(environment) -> tuple[str, str]:
    """The name and the token that a box sends to the gateway."""
    scheme, _, credential = json.loads(environment["PREFECT_CLIENT_CUSTOM_HEADERS"])["Authorization"].partition(" ")
    assert scheme == "Basic"
    name, _, token = base64.b64decode(credential).decode().partition(":")
    return name, token


def test_rented_box_has_its_own_token_until_it_is_gone(world, tokens):
    """The token is in the box's environment, under the box's name, and is revoked in the tick that destroys the box. A
    token that an operator added stays."""
    by_hand = tokens.read()["home-1"]
    world.want(2)
    world.tick()
    environments = [rental.order["env"] for rental in world.cloud.living()]
    assert (
        {presented(env)[0] for env in environments} == {env["WORKER_ID"] for env in environments} == {"val-1", "val-2"}
    )
    assert len({presented(env)[1] for env in environments}) == 2
    assert set(tokens.read()) == {"home-1", "val-1", "val-2"}
    before = tokens.read()
    world.ticks(5)
    assert tokens.read() == before, "a box that works keeps its token"

    world.want(1)
    world.ticks(20)
    (left,) = world.cloud.living()
    assert set(tokens.read()) == {"home-1", left.order["env"]["WORKER_ID"]}
    world.scale_to_zero(now=True)
    assert tokens.read() == {"home-1": by_hand}


def test_failed_create_leaves_no_token(world, tokens):
    """After a refused create the token is revoked within the tick; after an unanswered one once the box is proven
    absent."""
    world.fake.connection.play_next("create", "reject_then_502")
    world.want(1)
    world.tick()
    assert world.states() == {"requested": 1}
    assert set(tokens.read()) == {"home-1", "val-1"}
    unanswered = tokens.read()["val-1"]
    world.want(0)
    world.ticks(6)
    assert world.states() == {}
    assert set(tokens.read()) == {"home-1"}, "the box never was"
    world.fake.connection.play_next("create", "commit_then_refuse")
    world.want(1)
    assert world.tick().done == {"refused": 1, "destroyed": 1}
    assert tokens.read().get("val-1") != unanswered
    assert set(tokens.read()) == {"home-1"}


def test_token_of_an_interrupted_create_is_revoked(world, tokens, monkeypatch):
    """The next tick also revokes a token whose box never reached the ledger, but no token of another fleet."""

    def die(*_):
        raise KeyboardInterrupt

    world.want(1)
    with monkeypatch.context() as dying:
        dying.setattr(world.client, "create", die)
        with pytest.raises(KeyboardInterrupt):
            world.tick()
    assert set(tokens.read()) == {"home-1", "val-1"}
    world.want(0)
    world.ticks(6)
    tokens.add("val-7", label=read_budget(world.ledger, FLEET).label_prefix + "7/0123456789ab")
    tokens.add("val-8", label="vfleet/green-0f0f0f0f/8/0123456789ab")
    world.tick()
    assert set(tokens.read()) == {"home-1", "val-8"}


def test_nothing_is_rented_while_tokens_cannot_be_written(world, tmp_path):
    """The tick names the token file that it cannot write, and rents once it can."""
    folder = tmp_path / "gone"
    world.context = replace(world.context, tokens=TokenFile(folder / "boxes"))
    world.want(2)
    report = world.tick()
    assert world.cloud.rentals == {}
    assert (world.states(), report.done) == ({}, {})
    assert f"token file {folder}/boxes cannot be changed" in report.problem
    folder.mkdir()
    world.tick()
    assert len(world.cloud.living()) == 2


@pytest.mark.parametrize("name", ["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"])
def test_shared_prefect_credential_is_refused_beside_tokens(name):
    """A shared credential would open the Prefect server to every box alike, and outlive all boxes."""
    environments = {**BOX, f"BOX_{name}": "x"}
    assert name in read_box_environment(environments)
    with pytest.raises(BadInput, match=f"BOX_{name} would give all boxes one credential for Prefect"):
        read_box_environment(environments | {"VFLEET_GATEWAY_TOKENS": "/etc/nginx/vfleet-boxes"})


def test_box_outside_the_fleet_is_added_and_revoked_by_hand(ledger, tokens, monkeypatch, capsys):
    """`vfleet box add` prints all that its environment needs; no tick ends its token, `vfleet box revoke` does."""
    monkeypatch.setenv("DATABASE_URL", ledger.url.set(drivername="postgresql").render_as_string(hide_password=False))
    monkeypatch.setenv("VFLEET_GATEWAY_TOKENS", str(tokens.path))
    assert main(["box", "add", "home-2"]) == 0
    environments = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert set(environments) == {"WORKER_ID", "VFLEET_BOX_KEY", "PREFECT_CLIENT_CUSTOM_HEADERS"}
    assert presented(environments)[0] == "home-2"
    assert tokens.revoke_fleet("", keep=()) == []
    assert main(["box", "revoke", "home-2"]) == 0
    assert set(tokens.read()) == {"home-1"}


def test_revocation_of_an_unknown_box_is_refused(ledger, tokens, monkeypatch, capsys):
    """A mistyped worker id must not look revoked."""
    monkeypatch.setenv("DATABASE_URL", ledger.url.set(drivername="postgresql").render_as_string(hide_password=False))
    monkeypatch.setenv("VFLEET_GATEWAY_TOKENS", str(tokens.path))
    assert main(["box", "revoke", "home-99"]) == 2
    assert "no box has worker id 'home-99'" in capsys.readouterr().err
    assert set(tokens.read()) == {"home-1"}
