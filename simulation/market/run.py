"""Simulate a day of the fleet with a failing vendor, and compare it with a simple script."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from sqlalchemy import Engine

from simulation.fake_vast.failures import STANDARD
from simulation.market.incidents import Incidents
from simulation.market.invariant_monitor import Caps, InvariantMonitor
from simulation.market.metrics import SoakReport, StrategyMetrics, measure, print_report, write_report
from simulation.market.strategies import FLEET, TICK_S, CheapestStrategy, FleetStrategy, Strategy
from simulation.market.world import World
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.local.postgres import EmbeddedPostgres

Outcome = TypeVar("Outcome")

OFFERS_PER_SLOT, MACHINES_PER_SLOT = 12, 9
"""Number of offers and machines in the market per slot of the fleet. About a fifth of the machines match the filter.
These are two machines per slot, as the vendor's market had for a fleet of 100."""
CREDIT_USD_PER_SLOT = 100.0
CAP_USD_PER_HOUR_PER_SLOT = 0.5
MAX_FINAL_TICKS = 120
"""Maximum number of ticks for scaling down: four hours."""


def run_soak(folder: Path, *, machines: int, hours: float, seed: int) -> int:
    """Simulate both strategies, print a table and write a report. Return an exit code.

    The exit code is 1 if the fleet had a duplicate, an orphan or a broken cap, else 0. Violations of the script do not
    count.
    """
    logging.getLogger("vfleet").setLevel(logging.ERROR)  # a failed request is expected here
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    home, began = folder.resolve() / "soak", time.monotonic()
    caps = Caps(machines, CAP_USD_PER_HOUR_PER_SLOT * machines, CAP_USD_PER_HOUR_PER_SLOT * machines * hours)
    with EmbeddedPostgres(home / "postgres") as postgres:
        with fresh_ledger(postgres, "soak_fleet") as ledger:
            fleet = simulate_fleet(open_world(ledger, machines, seed), caps, hours=hours)
        with fresh_ledger(postgres, "soak_cheapest") as ledger:
            cheapest = simulate_cheapest(open_world(ledger, machines, seed), machines, hours=hours)
    report = SoakReport(seed, hours, machines, time.monotonic() - began, [fleet, cheapest])
    print_report(console, report)
    path = home / f"report-{machines}x{hours:g}h-{seed}.json"
    write_report(path, report)
    console.print(f"written to {path}")
    return 0 if report.is_clean else 1


def open_world(ledger: Engine, machines: int, seed: int) -> World:
    """Create the world of a strategy, equal for both: a large market, an account with credit, and an endless queue."""
    world = World(
        ledger, seed=seed, credit_usd=CREDIT_USD_PER_SLOT * machines, offers=OFFERS_PER_SLOT * machines,
        machines=MACHINES_PER_SLOT * machines,
    )  # fmt: skip
    world.play(STANDARD)
    world.queue(4 * machines)
    return world


def simulate_fleet(world: World, caps: Caps, *, hours: float) -> StrategyMetrics:
    """Simulate the day of the fleet. Its caps and its ledger are checked after every tick."""
    strategy = FleetStrategy(world, machines=caps.machines, usd_per_hour=caps.usd_per_hour, usd=caps.usd)
    monitor = InvariantMonitor(world, caps)
    run(world, strategy, hours=hours, monitor=monitor, incidents=Incidents(world, hours))
    monitor.end(FLEET)
    return measure(strategy.name, monitor)


def simulate_cheapest(world: World, machines: int, *, hours: float) -> StrategyMetrics:
    """Simulate the day of the simple script."""
    strategy = CheapestStrategy(world, machines=machines)
    monitor = InvariantMonitor(world)
    run(world, strategy, hours=hours, monitor=monitor, incidents=Incidents(world, hours))
    return measure(strategy.name, monitor)


def run(
    world: World, strategy: Strategy, *, hours: float, monitor: InvariantMonitor, incidents: Incidents | None
) -> None:
    """Run a tick every two minutes for ``hours`` hours, then scale down until no instance is left."""
    while world.cloud.now < world.started_at + hours * 3600:
        if incidents:
            incidents.trigger_due()
        _run_tick(world, strategy.tick)
        monitor.check()
    for _ in range(MAX_FINAL_TICKS):
        ended = _run_tick(world, strategy.scale_down)
        monitor.check()
        if ended:
            return


def _run_tick(world: World, act: Callable[[], Outcome]) -> Outcome:
    """Run one tick, then advance the time to the end of the tick's two minutes."""
    began = world.cloud.now
    outcome = act()
    world.fake.advance(max(0.0, began + TICK_S - world.cloud.now))
    return outcome


@contextmanager
def fresh_ledger(postgres: EmbeddedPostgres, name: str) -> Iterator[Engine]:
    """Create and migrate a new ledger. Its database is dropped at the end of the ``with`` block."""
    postgres.drop_database(name)
    engine = open_engine(postgres.create_database(name))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
        postgres.drop_database(name)
