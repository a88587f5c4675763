"""A fleet in virtual time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulation.market import world
from simulation.market.world import CHUNK_VIDEOS
from tests.support.ledger_helpers import fetch
from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.reconcile import ReconcileContext, TickReport, reconcile
from validation.ledger.fleet import read_rented_instances, scale_to_zero, set_target
from validation.vast.offer_filter import OfferFilter

FLEET = "blue"
TICK_S = 120


@dataclass
class World(world.World):
    """One fleet, and a vendor without failures unless a test sets some."""

    reports: list[TickReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fake.throttle.strict = True
        self.cloud.lifecycles = {"ok": 1.0}
        self.context = ReconcileContext(self.ledger, self.client, FLEET, lambda: {"DATABASE_URL": "postgresql://box"})

    def want(self, machines: int, *, usd_per_hour=20.0, usd=500.0, **bounds) -> None:
        """Order this many boxes."""
        order = LaunchSpec("ghcr.io/o/worker:1", OfferFilter(**bounds), chunk_videos=CHUNK_VIDEOS)
        set_target(
            self.ledger, FLEET, machines=machines, max_usd_per_hour=usd_per_hour, max_usd=usd, order=order.to_json()
        )

    def tick(self) -> TickReport:
        """Run one tick; two minutes pass, in which boxes work."""
        started = self.cloud.now
        report = reconcile(self.context)
        self.reports.append(report)
        self.check_worker_ids()
        self.pass_time(max(0.0, TICK_S - (self.cloud.now - started)))
        return report

    def ticks(self, count: int) -> TickReport:
        """Run several ticks; returns the last report."""
        return [self.tick() for _ in range(count)][-1]

    def pass_time(self, seconds: float) -> None:
        self.fake.advance(seconds)

    def scale_to_zero(self, *, now: bool = False, within_ticks: int = 60) -> None:
        """Scale to zero, and tick until no box is left."""
        scale_to_zero(self.ledger, FLEET, abandon=now)
        for _ in range(within_ticks):
            if self.tick().is_empty:
                return
        raise AssertionError(f"after {within_ticks} ticks: {self.reports[-1]}")

    def check_worker_ids(self) -> None:
        """Check that no two living boxes have one worker id."""
        names = [rental.order["env"]["WORKER_ID"] for rental in self.cloud.living()]
        assert len(names) == len(set(names)), names

    def states(self) -> dict[str, int]:
        return dict(fetch(self.ledger, "SELECT state, count(*) FROM fleet_instances WHERE state <> 'gone' GROUP BY 1"))

    def reasons(self) -> dict[str, int]:
        return dict(
            fetch(self.ledger, "SELECT reason, count(*) FROM fleet_instances WHERE reason IS NOT NULL GROUP BY 1")
        )

    def chunk_states(self) -> dict[str, int]:
        return dict(fetch(self.ledger, "SELECT state, count(*) FROM validation_chunks GROUP BY 1"))

    def box(self):
        """The only box of the ledger."""
        (box,) = read_rented_instances(self.ledger, FLEET)
        return box

    def corrupt(
        self, chances: Mapping[str, float], endpoints: Iterable[str] = ("create", "list", "destroy", "account")
    ) -> None:
        for endpoint in endpoints:
            self.fake.connection.set_chances(endpoint, chances)
