"""The commands of `vfleet fleet` do what they say, refuse with one sentence, and rent nothing themselves."""

import re

import pytest

from tests.support.fleet_world import FLEET, World
from tests.support.vast_helpers import VirtualClock, client_of
from validation.cli.main import app
from validation.errors import BadInput
from validation.fleet import commands
from validation.ledger.fleet import FleetUnknown, read_bans, read_budget, record_tick
from validation.settings import load_settings
from validation.vast.errors import VastKeyRefused

UP = ["--machines", "3", "--budget", "50", "--max-usd-per-hour", "5", "--image", "ghcr.io/o/worker:1"]


@pytest.fixture
def world(ledger) -> World:
    world = World(ledger)
    world.cloud.lifecycles = {"ok": 1.0}
    world.queue(100)
    return world


@pytest.fixture
def command(world, monkeypatch):
    """Run `fleet ...` against the fake; its client is opened anew each time, as in a process of its own."""
    for name in ("BOX_DATABASE_URL", "BOX_R2_ENDPOINT_URL", "BOX_PREFECT_API_URL"):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("VAST_API_KEY", "account-key")
    monkeypatch.setattr(commands, "open_ledger", lambda: world.ledger)
    monkeypatch.setattr(
        commands, "_open_client", lambda: client_of(world.fake, load_settings().vast_api_key.get_secret_value())
    )

    def run(*words: str) -> None:
        app(["fleet", *words], standalone_mode=False)

    return run


def test_up_records_the_order_and_rents_nothing(world, command, capsys):
    """The next tick rents; the output says what it may cost."""
    world.queue(1000)
    command("up", *UP, "--fleet", FLEET)
    assert (
        "3 boxes wanted, at most $5.00 per hour and $50.00 in all; the cheapest offer costs $0."
        in capsys.readouterr().out
    )
    assert world.cloud.rentals == {}
    assert world.tick().done == {"rented": 3}


def test_plan_shows_the_next_tick_and_its_cost(world, command, capsys):
    """The plan changes nothing."""
    world.want(2)
    command("plan", "--fleet", FLEET)
    shown = capsys.readouterr().out
    assert shown.count("slot ") == 2
    assert "now $0.00 per hour, then $0." in shown
    assert "of at most $20.00; $0.00 spent of $500.00" in shown
    assert (world.cloud.rentals, world.states()) == ({}, {})


def test_an_order_is_priced_before_it_is_given(world, command, capsys):
    """How many boxes the market has, for how much, and how long a budget lasts; nothing is recorded."""
    command("plan", "--machines", "3", "--budget", "30")
    shown = capsys.readouterr().out
    assert "3 of 3 boxes are offered now, for $" in shown
    assert "$30.00 last " in shown
    assert world.cloud.rentals == {}
    with pytest.raises(BadInput, match="give --machines too"):
        command("plan", "--budget", "30")


def test_status_and_plan_repeat_the_last_tick(world, command, capsys):
    """Before the first tick they say so; then they repeat what the last tick said."""
    world.want(2)
    command("status", "--fleet", FLEET)
    assert "no tick has run yet" in capsys.readouterr().out
    record_tick(world.ledger, FLEET, ["VAST_API_KEY is not set"])
    for name in ("status", "plan"):
        command(name, "--fleet", FLEET)
        assert re.search(r"last tick, -?\d+ s ago: VAST_API_KEY is not set", capsys.readouterr().out)


def test_status_shows_boxes_and_money(world, command, capsys):
    world.want(2)
    world.ticks(10)
    command("status", "--fleet", FLEET)
    shown = capsys.readouterr().out
    assert shown.count("working") == 2
    assert "2 boxes wanted; $0." in shown
    assert "the account's credit fell by $0." in shown


def test_down_lets_boxes_finish_their_chunk(world, command, capsys):
    world.want(2)
    world.ticks(10)
    command("down", "--fleet", FLEET)
    assert "finishes its chunk" in capsys.readouterr().out
    assert len(world.cloud.living()) == 2
    world.ticks(8)
    assert world.cloud.living() == []


def test_down_now_returns_when_nothing_is_left(world, command, capsys):
    """It returns after two complete listings without a box, with what the fleet cost. The order holds for the flow's
    ticks too."""
    world.want(2)
    world.ticks(10)
    commands.down(FLEET, now=True, clock=VirtualClock(world.fake))
    assert world.cloud.living() == []
    assert read_budget(world.ledger, FLEET).abandoned
    assert world.states() == {}
    assert capsys.readouterr().out.strip().endswith("were spent in all")


def test_bans_are_shown_and_lifted(world, command, capsys):
    world.cloud.lifecycles = {"oci_error": 1.0}
    world.want(1)
    world.tick()
    world.want(0)
    world.ticks(2)
    (ban,) = read_bans(world.ledger)
    command("bans")
    assert "runtime_failed" in capsys.readouterr().out
    command("unban", "machine", str(ban.vendor_id))
    assert read_bans(world.ledger) == []
    with pytest.raises(BadInput, match="is not banned"):
        command("unban", "machine", str(ban.vendor_id))
    with pytest.raises(BadInput, match="of a machine or a host"):
        command("unban", "planet", "3")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max-price", "0.01"], "no offer costs at most.*the cheapest costs"),
        (["--max-usd-per-hour", "0.01"], "the fleet's cap of .0.010 per hour is below the cheapest offer"),
        (["--gpu", "RTX 2060"], "the market has no RTX 2060"),
        (["--machines", "-1"], "the number of boxes must be at least 0"),
        (["--disk", "-5"], "disk_gb is -5"),
    ],
)
def test_impossible_order_is_refused_and_not_recorded(world, command, words, sentence):
    """The message names the value that must change."""
    with pytest.raises(BadInput, match=sentence):
        command("up", *UP, *words, "--fleet", FLEET)
    with pytest.raises(FleetUnknown):
        read_budget(world.ledger, FLEET)


def test_order_is_refused_without_credit(world, command):
    """The message says whose fault it is and what to do."""
    world.cloud.credit_usd = 0.0
    with pytest.raises(BadInput, match=r"has no credit \(it shows \$0\.00\): top it up"):
        command("up", *UP, "--fleet", FLEET)
    with pytest.raises(FleetUnknown):
        read_budget(world.ledger, FLEET)


def test_order_is_refused_without_a_valid_key(world, command, monkeypatch):
    for key, sentence in (("", "VAST_API_KEY is not set"), ("wrong", "check VAST_API_KEY")):
        monkeypatch.setenv("VAST_API_KEY", key)
        with pytest.raises((BadInput, VastKeyRefused), match=sentence):
            command("up", *UP)
