"""The monitor of a simulated day sees every violation, and the day is one of the real ledger."""

import json

import pytest

from simulation.fake_vast.failures import FailureMix
from simulation.market.incidents import Incidents
from simulation.market.invariant_monitor import Caps, InvariantMonitor
from simulation.market.metrics import SoakReport, measure, write_report
from simulation.market.run import run
from simulation.market.strategies import FLEET, ORDER, CheapestStrategy, FleetStrategy
from simulation.market.world import START, World
from tests.support.ledger_helpers import fetch
from validation.ledger.fleet import set_target

CAPS = Caps(machines=3, usd_per_hour=2.0, usd=50.0)


@pytest.fixture
def world(ledger) -> World:
    """A vendor without fault, and work for ever."""
    world = World(ledger)
    world.play(FailureMix(strict=True))
    world.queue(20)
    return world


def rent_behind_the_books(world, label="vfleet/soak-x/1/x", name="val-9"):
    offer = next(number for number, offer in world.cloud.offers.items() if offer["rentable"])
    return world.cloud.create(offer, {"image": "i", "label": label, "env": {"WORKER_ID": name}})


def test_ledger_uses_the_simulated_clock(world):
    """Registrations, leases and commits have the fake's time."""
    strategy = FleetStrategy(world, machines=2, usd_per_hour=2.0, usd=50.0)
    for _ in range(15):
        strategy.tick()
        world.fake.advance(120)
    assert world.workers.useful_s > 0
    late = f"to_timestamp({START})"
    ((real,),) = fetch(
        world.ledger,
        f"SELECT count(*) FROM validation_chunks, worker_validators WHERE claimed_at < {late} OR closed_at < {late} "
        f"OR lease_expires_at < {late} OR last_heartbeat_at < {late} OR started_at < {late}",
    )
    assert real == 0


def test_quiet_day_has_no_violations(world, tmp_path):
    """Three boxes for an hour are marked ready, drained and gone; the metrics add up."""
    strategy, monitor = FleetStrategy(world, machines=3, usd_per_hour=2.0, usd=50.0), InvariantMonitor(world, CAPS)
    run(world, strategy, hours=1, monitor=monitor, incidents=None)
    monitor.end(FLEET)
    figures = measure(strategy.name, monitor)
    assert (figures.violations, figures.left_usd_per_hour, monitor.messages) == (0, 0.0, [])
    assert 0 < figures.useful_h <= figures.paid_h < 6
    assert figures.money_usd == pytest.approx(1000 - world.cloud.credit_usd)
    assert figures.audio_h > 0
    write_report(tmp_path / "report.json", SoakReport(1, 1.0, 3, 0.0, [figures]))
    assert json.loads((tmp_path / "report.json").read_text())["strategies"][0]["usd_per_1000_audio_h"] > 0


def test_monitor_counts_orphans_duplicates_and_broken_caps(world):
    """The monitor counts and names each violation that is created outside the ledger."""
    set_target(world.ledger, FLEET, machines=3, max_usd_per_hour=2.0, max_usd=50.0, order=ORDER.to_json())
    monitor = InvariantMonitor(world, Caps(machines=1, usd_per_hour=0.2, usd=0.01))
    monitor.check()
    assert monitor.messages == []
    for _ in range(2):
        rent_behind_the_books(world)
    world.fake.advance(3600)
    monitor.check()
    monitor.check()
    assert (len(monitor.orphans), len(monitor.duplicates), monitor.cap_violations) == (2, 1, 6)
    monitor.end(FLEET)
    assert "bills after the end" in " ".join(monitor.messages)
    assert "the ledger says at most $0.00" in " ".join(monitor.messages)


def test_cheapest_strategy_replaces_dead_instances(world):
    """The comparison is a fair one."""
    strategy = CheapestStrategy(world, machines=4)
    strategy.tick()
    assert len(world.cloud.living()) == 4
    world.fake.advance(600)
    dead = world.cloud.living()[0]
    world.cloud.stop(dead)
    strategy.tick()
    living = world.cloud.living()
    assert dead not in living
    world.fake.connection.play_next("destroy", *["html_502"] * 3)
    world.cloud.stop(living[0])
    for _ in range(2):
        strategy.tick()
        world.fake.advance(120)
    living = world.cloud.living()
    assert sorted(rental.label for rental in living) == ["val-1", "val-2", "val-3", "val-4"]
    assert strategy.scale_down()
    assert world.cloud.living() == []


def test_incidents_begin_and_end(world):
    """The vendor is away for a while, the account is empty, and a fifth of the instances is reclaimed; each once."""
    world.queue(0)
    machines = [rent_behind_the_books(world, name=f"val-{n}") for n in range(5)]
    credit = world.cloud.credit_usd
    incidents = Incidents(world, hours=2)
    for hours, away, broke in ((0.68, False, False), (0.75, True, False), (1.05, False, False), (1.15, False, True)):
        world.fake.advance(START + hours * 3600 - world.cloud.now)
        incidents.trigger_due()
        assert bool(world.client.list_instances().why_incomplete) == away
        assert (world.cloud.credit_usd <= 0) == broke
    assert all(rental.stopped_at is not None for rental in machines)
    world.fake.advance(3600)
    incidents.trigger_due()
    assert 0 < world.cloud.credit_usd < credit
