"""Fixtures: real workers of the type `vast-gpu`, on a real Prefect server and a ledger of their own."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import Engine, text

from validation.domain import Video
from validation.ledger.engine import open_engine
from validation.ledger.seed import seed_videos
from validation.local.prefect_client import RetryingTransport
from validation.local.process import poll_until

FOLDER = Path(__file__).parent
_names = (f"faults_{os.getpid()}_{n}" for n in itertools.count())


@dataclass(frozen=True)
class Ledger:
    """A ledger of one test, and a way to query it."""

    url: str
    engine: Engine

    def rows(self, sql: str) -> list[tuple]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]


@pytest.fixture
def ledger(postgres, migrated_template) -> Iterator[Ledger]:
    """A ledger of four claimable videos."""
    name = next(_names)
    url = postgres.create_database(name, template=migrated_template)
    engine = open_engine(url)
    seed_videos(engine, [Video(f"v{n}", "hi", 3) for n in range(4)])
    yield Ledger(url, engine)
    engine.dispose()
    postgres.drop_database(name)


@dataclass(frozen=True)
class Prefect:
    """The calls of Prefect's API that these tests need, in a work pool of their own."""

    pool: str
    http: httpx.Client

    def deploy(self, **changes: Any) -> str:
        """Deploy `hold_chunk` to the pool, with these changes; returns the deployment's id."""
        deployment = {
            "name": next(_names),
            "flow_id": self._post("/flows/", name="hold-chunk")["id"],
            "entrypoint": "flows/holder.py:hold_chunk",
            "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(FOLDER)}}],
        }
        return self._post("/deployments/", **{**deployment, **changes}, work_pool_name=self.pool)["id"]

    def schedule(self, deployment: str, **parameters: Any) -> str:
        """Schedule a run for now; returns its id."""
        run = self._post(
            f"/deployments/{deployment}/create_flow_run", state={"type": "SCHEDULED"}, parameters=parameters
        )
        return run["id"]

    def state(self, flow_run: str) -> dict[str, Any]:
        return self.http.get(f"/flow_runs/{flow_run}").raise_for_status().json()["state"]

    def first_pending_at(self, flow_run: str) -> datetime:
        """When a worker first polled the run."""
        states = self.http.get("/flow_run_states/", params={"flow_run_id": flow_run}).raise_for_status().json()
        return min(datetime.fromisoformat(state["timestamp"]) for state in states if state["type"] == "PENDING")

    def workers(self) -> list[str]:
        return [worker["name"] for worker in self._post(f"/work_pools/{self.pool}/workers/filter")]

    def _post(self, path: str, **body: Any) -> Any:
        return self.http.post(path, json=body).raise_for_status().json()


@pytest.fixture
def prefect(prefect_server) -> Iterator[Prefect]:
    """The API of the session's Prefect server, with a work pool of the test's own."""
    pool = next(_names).replace("_", "-")
    with httpx.Client(transport=RetryingTransport(), base_url=prefect_server.api_url, timeout=30) as http:
        http.post("/work_pools/", json={"name": pool, "type": "vast-gpu"}).raise_for_status()
        yield Prefect(pool, http)


class PrefectCommand:
    """A `prefect` command in a process group and a folder of its own."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        self._err = folder / "stderr"
        with (folder / "stdout").open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *words],
                env={**os.environ, **environment, "TMPDIR": str(folder)},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def flow_processes(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "prefect.engine" in child.cmdline()]

    def inference_servers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "validation.inference" in child.cmdline()]

    def exit_code(self, *, within_s: float) -> int:
        return self.process.wait(timeout=within_s)

    def wait_until(self, predicate: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Fail if something does not come true in time, or the command ends before it does."""
        poll_until(lambda: predicate() or self.process.poll() is not None, within_s=within_s)
        assert predicate(), (
            f"not within {within_s} s: {what}; exit {self.process.poll()}; standard error:\n{self.stderr()}"
        )

    def stderr(self) -> str:
        """The standard error of the command so far."""
        return self._err.read_text()

    def leftovers(self) -> list[str]:
        """The temporary files of this project that the command left. (Prefect leaves an empty folder.)"""
        return [path.name for path in self.folder.glob("vfleet*")]


@pytest.fixture
def start_worker(prefect, prefect_server, tmp_path) -> Iterator[Callable[..., PrefectCommand]]:
    """Start workers on the test's pool, with settings as environment variables; all are killed at the end."""
    started: list[PrefectCommand] = []

    def start(database_url: str, **settings: str) -> PrefectCommand:
        folder = tmp_path / f"worker-{len(started)}"
        folder.mkdir()
        for number in range(4):  # a worker reads the start of a queued video's tar before it polls
            (folder / f"v{number}.tar").write_bytes(b"\0" * 1024)
        environment = {
            **prefect_server.client_environment(),
            "DATABASE_URL": database_url,
            "WORKER_ID": "box-1",
            "VFLEET_SOURCE_URL": folder.as_uri(),
            "VFLEET_RESULTS_URL": folder.as_uri(),
            "VFLEET_SUITE": "vad",  # its inference server starts in two seconds
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        }
        words = ["worker", "start", "--pool", prefect.pool, "--type", "vast-gpu"]
        started.append(PrefectCommand(words, environment | settings, folder))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
