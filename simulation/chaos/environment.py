"""The environment of a chaos run: the stack, the proxy with network faults, the boxes and the corpus."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from obstore.store import ObjectStore
from sqlalchemy import Engine

from simulation.chaos.box import Box
from simulation.chaos.corpus import POISON, ChaosCorpus
from simulation.chaos.faulty_store import FaultyStore
from simulation.chaos.proxy import RUN_MARKER
from simulation.chaos.schedule import LEASE_S
from validation.domain import Seconds, Video
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.seed import seed_videos
from validation.local.demo import replaced_environment
from validation.local.postgres import EmbeddedPostgres
from validation.local.prefect_client import PrefectClient
from validation.local.stack import SOURCE_BUCKET, LocalStack, Report
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent

CHUNK_VIDEOS = 20
LATENCY_S: Seconds = 0.4
"""Latency that the proxy adds to every request to the object store. With it, a chunk takes about 10 s without using
CPU. This is longer than the start of the chunk's process, so most faults affect a chunk in work."""
OPERATE_EVERY_S = 20
"""The period of the control flow in seconds. It is a sixth of the period in prefect.yaml, as leases are shorter too."""

SETTINGS = {
    "VFLEET_SUITE": "vad",
    "VFLEET_LEASE_S": str(LEASE_S),
    "VFLEET_HEARTBEAT_S": "4",
    "VFLEET_DRAIN_GRACE_S": "20",
    "VFLEET_GROUP_VIDEOS": "5",
    "VFLEET_FETCHERS": "1",
    "PARQUET_SHARD_SIZE": str(CHUNK_VIDEOS),
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # By default a worker fetches a control run 10 s early, which would block the deployment's only slot for 10 s.
    "PREFECT_WORKER_PREFETCH_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
}
"""The environment variables of the fleet. Its durations are shorter than in production, as the lease is."""


@dataclass(slots=True)
class ChaosEnvironment:
    """The servers, boxes, stores and corpus of a run. Faults and checks use them."""

    folder: Path
    mark: str
    stack: LocalStack
    store_proxy: FaultyStore
    engine: Engine
    source: ObjectStore
    results: ObjectStore
    prefect: PrefectClient
    corpus: ChaosCorpus
    boxes: list[Box] = field(default_factory=list)
    control: list[Box] = field(default_factory=list)
    backlog: list[Video] = field(default_factory=list)
    """Videos that are uploaded but not yet queued, because the ledger did not answer."""

    @property
    def scratch(self) -> Path:
        """The folder of the fleet's temporary files."""
        return self.folder / "scratch"

    def restart_dead_workers(self) -> None:
        """Restart every worker that has exited, as the init of a box does."""
        for box in (*self.boxes, *self.control):
            box.restart_if_dead()

    def queue_videos(self, count: int) -> None:
        """Make, upload and queue ``count`` more videos. The upload does not go through the proxy."""
        made = self.corpus.make(count)
        for video in made:
            if video.tar is not None:
                put_if_absent(self.source, f"{video.queued.video_id}.tar", video.tar)
        self.backlog += [video.queued for video in made]
        self.queue_backlog()

    def queue_backlog(self) -> None:
        """Queue the uploaded videos.

        Raises:
            FleetError: the ledger does not answer. The videos stay in the backlog, so the call can be repeated.
        """
        seed_videos(self.engine, self.backlog)
        self.backlog.clear()


@contextmanager
def open_environment(folder: Path, *, seed: int, boxes: int, report: Report) -> Iterator[ChaosEnvironment]:
    """Start the stack and the proxy, and deploy the flows. ``restart_dead_workers`` starts the boxes.

    All processes are stopped at the end of the ``with`` block, also after an error.
    """
    LocalStack(folder / "stack").erase()
    EmbeddedPostgres(folder / "prefect-database").erase()
    mark = uuid4().hex
    with ExitStack() as undo:
        database = undo.enter_context(EmbeddedPostgres(folder / "prefect-database"))
        url = database.libpq_url()
        stack = undo.enter_context(LocalStack(folder / "stack", prefect_database_url=url, report=report))
        undo.enter_context(replaced_environment(stack.environment() | SETTINGS))
        poison_path = f"/{SOURCE_BUCKET}/{POISON}.tar"
        store_proxy = FaultyStore(
            folder / "stack" / "line",
            stack.object_store,
            poison_path=poison_path,
            mark=mark,
            latency_s=LATENCY_S,
        )
        undo.enter_context(store_proxy)
        settings, engine = Settings(), open_engine(stack.postgres.libpq_url())
        undo.callback(engine.dispose)
        chaos = ChaosEnvironment(
            folder=folder,
            mark=mark,
            stack=stack,
            store_proxy=store_proxy,
            engine=engine,
            source=open_store(settings.source_url, settings),
            results=open_store(settings.results_url, settings),
            prefect=PrefectClient(stack.environment()),
            corpus=ChaosCorpus(seed),
        )
        migrate(engine)
        chaos.prefect.deploy_all()
        chaos.prefect.reschedule("operate-fleet", every_s=OPERATE_EVERY_S)
        chaos.prefect.set_parameters("operate-fleet", chunk_videos=CHUNK_VIDEOS, period_s=OPERATE_EVERY_S)
        _describe_boxes(chaos, boxes)
        undo.callback(_kill_boxes, chaos)
        yield chaos


def _describe_boxes(chaos: ChaosEnvironment, count: int) -> None:
    chaos.scratch.mkdir(parents=True)
    environment = {
        **chaos.stack.environment(),
        **chaos.store_proxy.client_environment(),
        **SETTINGS,
        RUN_MARKER: chaos.mark,
        "TMPDIR": str(chaos.scratch),
    }
    logs = chaos.folder / "stack" / "boxes"
    chaos.boxes = [
        Box(f"box-{number}", logs, environment, pool="vast-gpu", worker_type="vast-gpu")
        for number in range(1, count + 1)
    ]
    chaos.control = [Box("control", logs, environment, pool="control", worker_type="process")]


def _kill_boxes(chaos: ChaosEnvironment) -> None:
    for box in (*chaos.boxes, *chaos.control):
        box.kill()
