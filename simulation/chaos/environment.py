"""All that a chaos run plays with: the stack, the faulty line, the boxes and the corpus."""

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
from simulation.chaos.proxy import MARK_VARIABLE
from simulation.chaos.schedule import LEASE_S
from validation.domain import Seconds, Video
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.seed import seed_videos
from validation.local.demo import applied
from validation.local.postgres import EmbeddedPostgres
from validation.local.prefect_client import PrefectClient
from validation.local.stack import SOURCE_BUCKET, LocalStack, Report
from validation.settings import Settings
from validation.storage.store import open_store, put_once

CHUNK_VIDEOS = 20
LATENCY_S: Seconds = 0.4
"""Of every request to the store. It makes a chunk last ten seconds, longer than its process takes to start, without
costing any CPU: most faults then meet a chunk in work."""
SCHEDULES_S = {"dispatch-chunks": 10, "sweep-stale-claims": 20}
"""How often the control flows run here: prefect.yaml's periods, shortened with the lease as far as two cores bear. A
suspect of a crash needs a run of its own, so dispatch decides how soon the queue is empty."""

SETTINGS = {
    "VFLEET_SUITE": "vad",
    "VFLEET_LEASE_S": str(LEASE_S),
    "VFLEET_HEARTBEAT_S": "4",
    "VFLEET_DRAIN_GRACE_S": "20",
    "VFLEET_GROUP_VIDEOS": "5",
    "VFLEET_FETCHERS": "1",
    "PARQUET_SHARD_SIZE": str(CHUNK_VIDEOS),
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A control run that is polled ten seconds early takes its deployment's only place for so long.
    "PREFECT_WORKER_PREFETCH_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
}
"""What the fleet is told. Everything that takes time takes a fifth of what it takes in production."""


@dataclass(slots=True)
class ChaosEnvironment:
    """Everything that faults strike and checks look at."""

    folder: Path
    mark: str
    stack: LocalStack
    line: FaultyStore
    engine: Engine
    source: ObjectStore
    results: ObjectStore
    prefect: PrefectClient
    corpus: ChaosCorpus
    boxes: list[Box] = field(default_factory=list)
    control: list[Box] = field(default_factory=list)
    backlog: list[Video] = field(default_factory=list)
    """Made and uploaded, not yet queued: the ledger was away."""

    @property
    def scratch(self) -> Path:
        """Where every process of the fleet puts its temporary files."""
        return self.folder / "scratch"

    def tend(self) -> None:
        """Be the init of every box."""
        for box in (*self.boxes, *self.control):
            box.tend()

    def queue_videos(self, count: int) -> None:
        """Make, upload and queue more videos, by the direct way to the store."""
        made = self.corpus.make(count)
        for video in made:
            if video.tar is not None:
                put_once(self.source, f"{video.queued.video_id}.tar", video.tar)
        self.backlog += [video.queued for video in made]
        self.queue_backlog()

    def queue_backlog(self) -> None:
        """Queue what is made.

        Raises:
            FleetError: the ledger does not answer; call again.
        """
        seed_videos(self.engine, self.backlog)
        self.backlog.clear()


@contextmanager
def open_environment(folder: Path, *, seed: int, boxes: int, report: Report) -> Iterator[ChaosEnvironment]:
    """Start the stack and the line, deploy, and describe the boxes; they are started by ``ChaosEnvironment.tend``.

    However the block ends, nothing of it runs afterwards.
    """
    LocalStack(folder / "stack").erase()
    EmbeddedPostgres(folder / "prefect-database").erase()
    mark = uuid4().hex
    with ExitStack() as undo:
        database = undo.enter_context(EmbeddedPostgres(folder / "prefect-database"))
        url = database.libpq_url()
        stack = undo.enter_context(LocalStack(folder / "stack", prefect_database_url=url, report=report))
        undo.enter_context(applied(stack.environment() | SETTINGS))
        poison_path = f"/{SOURCE_BUCKET}/{POISON}.tar"
        line = FaultyStore(
            folder / "stack" / "line",
            stack.object_store,
            poison_path=poison_path,
            mark=mark,
            latency_s=LATENCY_S,
        )
        undo.enter_context(line)
        settings, engine = Settings(), open_engine(stack.postgres.libpq_url())
        undo.callback(engine.dispose)
        stage = ChaosEnvironment(
            folder=folder,
            mark=mark,
            stack=stack,
            line=line,
            engine=engine,
            source=open_store(settings.source_url, settings),
            results=open_store(settings.results_url, settings),
            prefect=PrefectClient(stack.environment()),
            corpus=ChaosCorpus(seed),
        )
        migrate(engine)
        stage.prefect.deploy_all()
        for deployment, every_s in SCHEDULES_S.items():
            stage.prefect.reschedule(deployment, every_s=every_s)
        stage.prefect.set_parameters("dispatch-chunks", chunk_videos=CHUNK_VIDEOS)
        _describe_boxes(stage, boxes)
        undo.callback(_kill_boxes, stage)
        yield stage


def _describe_boxes(stage: ChaosEnvironment, count: int) -> None:
    stage.scratch.mkdir(parents=True)
    environment = {
        **stage.stack.environment(),
        **stage.line.client_environment(),
        **SETTINGS,
        MARK_VARIABLE: stage.mark,
        "TMPDIR": str(stage.scratch),
    }
    logs = stage.folder / "stack" / "boxes"
    stage.boxes = [
        Box(f"box-{number}", logs, environment, pool="vast-gpu", worker_type="vast-gpu")
        for number in range(1, count + 1)
    ]
    stage.control = [Box("control", logs, environment, pool="control", worker_type="process")]


def _kill_boxes(stage: ChaosEnvironment) -> None:
    for box in (*stage.boxes, *stage.control):
        box.kill()
