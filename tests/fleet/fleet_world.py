"""A fleet in virtual time: a real ledger, a fake vendor without a socket, and boxes that heartbeat into the ledger."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger_steps import execute, fetch
from sqlalchemy import Engine, text
from vast_steps import VirtualClock, client_of

from validation.fleet.client import VastClient
from validation.fleet.offers import PREDICTED_SEGMENTS_PER_S, OfferFilter
from validation.fleet.order import FleetOrder
from validation.fleet.reconcile import Desk, Report, reconcile
from validation.ledger.fleet import dismiss_fleet, want_fleet
from validation.local.fake_vast.api import FakeVast
from validation.local.fake_vast.cloud import Cloud

FLEET = "blue"
TICK_S = 120
SIMULATED_CLOCK = """
    CREATE TABLE simulated_clock (at timestamptz);
    INSERT INTO simulated_clock VALUES (to_timestamp({now}));
    CREATE OR REPLACE FUNCTION validation.fleet_now() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
    AS $$ SELECT at FROM simulated_clock $$;
"""
HEARTBEATS = """
    INSERT INTO worker_validators AS w (worker_id, last_heartbeat_at, last_video_completed_at, avg_segs_per_second,
                                        flow_run_ids, config_json)
    SELECT b.worker_id, validation.fleet_now(), validation.fleet_now(), b.speed,
           ARRAY[gen_random_uuid()], jsonb_build_object('gpus', jsonb_build_array(jsonb_build_object('name', b.gpu)))
    FROM jsonb_to_recordset(:boxes) AS b(worker_id text, speed real, gpu text)
    ON CONFLICT (worker_id) DO UPDATE
    SET last_heartbeat_at = excluded.last_heartbeat_at,
        last_video_completed_at = excluded.last_video_completed_at,
        avg_segs_per_second = excluded.avg_segs_per_second,
        config_json = excluded.config_json,
        status = CASE WHEN w.status = 'draining' THEN w.status ELSE 'online' END,
        flow_run_ids = CASE WHEN w.status = 'draining' THEN '{}' ELSE excluded.flow_run_ids END
"""
"""What a box's heartbeat leaves in its row, at the fleet's time; one that drains has finished its chunk by then."""


class DatedVast(FakeVast):
    """A fake whose time is also the time of the fleet's books."""

    def __init__(self, ledger: Engine, **options) -> None:
        super().__init__(**options)
        self._ledger = ledger
        with ledger.begin() as connection:
            connection.connection.driver_connection.execute(SIMULATED_CLOCK.format(now=self.cloud.now))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        with self._ledger.begin() as connection:
            connection.execute(text("UPDATE simulated_clock SET at = to_timestamp(:now)"), {"now": self.cloud.now})


@dataclass
class World:
    """One fleet, from `want` to nothing."""

    ledger: Engine
    seed: int = 0
    credit_usd: float = 1000.0
    fake: DatedVast = field(init=False)
    client: VastClient = field(init=False)
    reports: list[Report] = field(default_factory=list)
    useful_s: float = 0.0
    lying: set[int] = field(default_factory=set)
    """Machines whose driver names another card."""

    def __post_init__(self) -> None:
        # Ahead of the real clock: what the protocol stamps with now() is then always of the past.
        cloud = Cloud(seed=self.seed, now=time.time() + 86_400, credit_usd=self.credit_usd)
        self.fake = DatedVast(self.ledger, cloud=cloud, strict=True, seed=self.seed)
        self.client = client_of(self.fake)
        self.desk = Desk(self.ledger, self.client, FLEET, lambda: {"DATABASE_URL": "postgresql://box"})

    @property
    def cloud(self) -> Cloud:
        return self.fake.cloud

    def want(self, machines: int, *, usd_per_hour=20.0, usd=500.0, **bounds) -> None:
        order = FleetOrder("ghcr.io/o/worker:1", OfferFilter(**bounds), chunk_videos=1)
        want_fleet(
            self.ledger, FLEET, machines=machines, max_usd_per_hour=usd_per_hour, max_usd=usd, order=order.to_json()
        )

    def queue(self, videos: int) -> None:
        """So many chunks of one video are left."""
        execute(self.ledger, "DELETE FROM video_queue")
        execute(
            self.ledger,
            "INSERT INTO video_queue (video_id, status) SELECT 'v' || n, 'done' FROM generate_series(1, :n) n",
            n=videos,
        )

    def tick(self, *, abandon: bool = False) -> Report:
        """Boxes heartbeat; the reconciler runs; two minutes pass."""
        started = self.cloud.now
        self.heartbeat()
        report = reconcile(self.desk, abandon=abandon)
        self.reports.append(report)
        self.check_slots()
        self.pass_time(max(0.0, TICK_S - (self.cloud.now - started)))
        return report

    def ticks(self, count: int) -> Report:
        return [self.tick() for _ in range(count)][-1]

    def pass_time(self, seconds: float) -> None:
        self.fake.advance(seconds)

    def heartbeat(self) -> None:
        boxes = [
            {
                "worker_id": contract.order["env"]["WORKER_ID"],
                "speed": speed * PREDICTED_SEGMENTS_PER_S[contract.offer["gpu_name"]],
                "gpu": "NVIDIA GTX 1060"
                if contract.id in self.lying
                else f"NVIDIA GeForce {contract.offer['gpu_name']}",
            }
            for contract in self.cloud.living()
            if (speed := contract.speed(self.cloud.now)) > 0
        ]
        self.useful_s += TICK_S * len(boxes)
        execute(self.ledger, HEARTBEATS, boxes=json.dumps(boxes))

    def dismiss(self, *, within_ticks: int = 60) -> None:
        """Want nothing, and tick until nothing is there."""
        dismiss_fleet(self.ledger, FLEET)
        for _ in range(within_ticks):
            if self.tick().is_empty:
                return
        raise AssertionError(f"after {within_ticks} ticks: {self.reports[-1]}")

    def check_slots(self) -> None:
        """No two living machines answer to one name."""
        names = [contract.order["env"]["WORKER_ID"] for contract in self.cloud.living()]
        assert len(names) == len(set(names)), names

    def states(self) -> dict[str, int]:
        return dict(fetch(self.ledger, "SELECT state, count(*) FROM fleet_instances WHERE state <> 'gone' GROUP BY 1"))

    def reasons(self) -> dict[str, int]:
        return dict(
            fetch(self.ledger, "SELECT reason, count(*) FROM fleet_instances WHERE reason IS NOT NULL GROUP BY 1")
        )

    def spoil(
        self, chances: dict[str, float], endpoints: Sequence[str] = ("create", "list", "destroy", "account")
    ) -> None:
        for endpoint in endpoints:
            self.fake.faults.set_chances(endpoint, chances)


__all__ = ["FLEET", "TICK_S", "VirtualClock", "World"]
