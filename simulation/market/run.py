"""A simulated day of a fleet against a vendor with every fault, beside the script that everybody writes first."""

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

OFFERS_A_SLOT, MACHINES_A_SLOT = 12, 9
"""So large a market for so many slots. About a fifth of it meets the filter: two machines for each that is wanted, as
the vendor's market had them free for a hundred."""
CREDIT_USD_A_SLOT = 100.0
CAP_USD_PER_HOUR_A_SLOT = 0.5
MAX_ENDING_TICKS = 120
"""Four hours."""


def run_soak(folder: Path, *, machines: int, hours: float, seed: int) -> int:
    """Simulate both arms, print a table and write a report. Returns an exit code.

    It is 1 where the fleet had a duplicate, an orphan or a broken cap; the other arm may do what it likes.
    """
    logging.getLogger("vfleet").setLevel(logging.ERROR)  # a spoiled request is no news here
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    home, began = folder.resolve() / "soak", time.monotonic()
    caps = Caps(machines, CAP_USD_PER_HOUR_A_SLOT * machines, CAP_USD_PER_HOUR_A_SLOT * machines * hours)
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
    """The same world for both arms: a market large enough, an account with credit, a queue that does not end."""
    world = World(
        ledger, seed=seed, credit_usd=CREDIT_USD_A_SLOT * machines, offers=OFFERS_A_SLOT * machines,
        machines=MACHINES_A_SLOT * machines,
    )  # fmt: skip
    world.play(STANDARD)
    world.queue(4 * machines)
    return world


def simulate_fleet(world: World, caps: Caps, *, hours: float) -> StrategyMetrics:
    """This project's day, held against its caps and its books all the time."""
    arm = FleetStrategy(world, machines=caps.machines, usd_per_hour=caps.usd_per_hour, usd=caps.usd)
    watcher = InvariantMonitor(world, caps)
    live(world, arm, hours=hours, watcher=watcher, troubles=Incidents(world, hours))
    watcher.end(FLEET)
    return measure(arm.name, watcher)


def simulate_cheapest(world: World, machines: int, *, hours: float) -> StrategyMetrics:
    """The script's day."""
    arm = CheapestStrategy(world, machines=machines)
    watcher = InvariantMonitor(world)
    live(world, arm, hours=hours, watcher=watcher, troubles=Incidents(world, hours))
    return measure(arm.name, watcher)


def live(world: World, arm: Strategy, *, hours: float, watcher: InvariantMonitor, troubles: Incidents | None) -> None:
    """A tick every two minutes for so many hours, then the end, until the arm believes that nothing is left."""
    while world.cloud.now < world.began + hours * 3600:
        if troubles:
            troubles.trigger_due()
        _pass_tick(world, arm.tick)
        watcher.look()
    for _ in range(MAX_ENDING_TICKS):
        ended = _pass_tick(world, arm.dismiss)
        watcher.look()
        if ended:
            return


def _pass_tick(world: World, act: Callable[[], Outcome]) -> Outcome:
    """Act, and let the rest of the two minutes pass."""
    began = world.cloud.now
    outcome = act()
    world.fake.advance(max(0.0, began + TICK_S - world.cloud.now))
    return outcome


@contextmanager
def fresh_ledger(postgres: EmbeddedPostgres, name: str) -> Iterator[Engine]:
    """A migrated ledger of its own, gone at the end."""
    postgres.drop_database(name)
    engine = open_engine(postgres.create_database(name))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
        postgres.drop_database(name)
