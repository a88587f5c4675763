"""An instance of the fake vendor runs the real entrypoint, self-test and worker."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from simulation.fake_vast.container_runner import ContainerRunner
from simulation.fake_vast.service import EmbeddedVast
from tests.support.fleet_helpers import pass_time
from tests.support.ledger_helpers import engine_for, execute, fetch
from validation.domain import Video
from validation.fleet.launch_spec import LaunchSpec, read_box_environment
from validation.fleet.reconcile import ReconcileContext, TickReport, reconcile
from validation.ledger.fleet import scale_to_zero, set_target
from validation.ledger.seed import seed_videos
from validation.local.process import poll_until
from validation.vast.client import VastClient
from validation.vast.offer_filter import OfferFilter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
FLEET = "real"
ENTRYPOINT = (sys.executable, "-m", "validation.worker.bootstrap")
_names = (f"real_box_{os.getpid()}_{n}" for n in itertools.count())


@dataclass
class Site:
    """A fleet of one box, in real time but for the vendor's."""

    ledger: Engine
    vast: EmbeddedVast
    runner: ContainerRunner
    context: ReconcileContext
    prefect_url: str

    def rent(self) -> int:
        """Rent one box and let its container start; returns the vendor's id."""
        set_target(
            self.ledger, FLEET, machines=1, max_usd_per_hour=1.0, max_usd=10.0,
            order=LaunchSpec("worker:1", OfferFilter(gpu_names=("RTX 3090",))).to_json(),
        )  # fmt: skip
        assert self.tick().done == {"rented": 1}
        self.vast.advance(1000)
        self.runner.sync()
        (box,) = self.living()
        return box["id"]

    def tick(self) -> TickReport:
        report = reconcile(self.context)
        assert report is not None
        return report

    def living(self) -> list[dict]:
        return self.vast.state()["living"]

    def worker(self) -> tuple | None:
        rows = fetch(self.ledger, "SELECT worker_id, status, gpu_type FROM worker_validators")
        return tuple(rows[0]) if rows else None

    def wait_until(self, predicate: Callable[[], bool], what: str) -> None:
        assert poll_until(predicate, within_s=120), f"not in time: {what}\n{self.runner.log_tail()}"


@pytest.fixture
def box_login(postgres, migrated_template) -> Iterator[tuple[Engine, str]]:
    """A ledger, and its address with the login of a box."""
    name = next(_names)
    url = make_url(postgres.create_database(name, template=migrated_template))
    engine = engine_for(url.render_as_string(hide_password=False))
    execute(engine, f"CREATE ROLE {name} LOGIN PASSWORD 'box' IN ROLE validation_worker")
    yield engine, url.set(username=name, password="box").render_as_string(hide_password=False)
    engine.dispose()
    postgres.drop_database(name)
    other = engine_for(postgres.libpq_url())
    execute(other, f"DROP ROLE {name}")
    other.dispose()


@pytest.fixture
def open_site(box_login, prefect_server, object_store, open_folder) -> Iterator[Callable[[str], Site]]:
    """Open a site whose driver shows a GPU of this name."""
    ledger, box_url = box_login
    seed_videos(ledger, [Video("v1", "hi", 3)])
    buckets = {kind: f"{kind}-{os.getpid()}" for kind in ("source", "results")}
    for bucket in buckets.values():
        object_store.create_bucket(bucket)
    environment = {f"BOX_{name}": value for name, value in object_store.client_environment().items()} | {
        "BOX_DATABASE_URL": box_url, "BOX_VFLEET_SUITE": "vad",
        "BOX_VFLEET_SOURCE_URL": f"s3://{buckets['source']}", "BOX_VFLEET_RESULTS_URL": f"s3://{buckets['results']}",
        "BOX_PREFECT_API_URL": prefect_server.api_url,
        "BOX_VFLEET_DEVICE": "cpu",  # only the driver's program is faked, not its library; this suite needs no GPU
    }  # fmt: skip
    with EmbeddedVast(open_folder / "vast") as vast, VastClient(SecretStr("account-key"), vast.url) as client:
        vast.play(mix={})

        def open_one(gpu: str) -> Site:
            image = describe_image(open_folder, gpu)
            runner = ContainerRunner(vast, ENTRYPOINT, image, open_folder / "boxes").__enter__()
            runners.append(runner)
            context = ReconcileContext(ledger, client, FLEET, lambda: read_box_environment(environment))
            return Site(ledger, vast, runner, context, prefect_server.api_url)

        runners: list[ContainerRunner] = []
        yield open_one
        for runner in runners:
            runner.__exit__(None, None, None)


def describe_image(folder: Path, gpu: str) -> dict[str, str]:
    """The image's environment, with a driver that names this GPU."""
    driver = folder / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(f"#!/bin/sh\necho '{gpu}, 580.65.06'\n")
    driver.chmod(0o755)
    kept = {name: os.environ[name] for name in ("TEST_SESSION", "PREFECT_HOME", "HOME") if name in os.environ}
    return kept | {
        "PATH": f"{driver.parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1", "TMPDIR": str(folder),
        "PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def test_real_worker_is_rented_accepted_drained_and_destroyed(open_site):
    """With the environment of its create request alone it tests itself, registers with its box key, sends heartbeats,
    is marked ready, drains when the ledger says so, and is killed with its instance."""
    site = open_site("NVIDIA GeForce RTX 3090")
    number = site.rent()
    assert site.tick().done == {}, "a running status does not make it ready"
    site.wait_until(lambda: site.worker() is not None, "its worker is in the ledger")
    assert site.worker() == ("val-1", "online", "RTX_3090")
    assert site.tick().done == {"accepted": 1}
    site.wait_until(lambda: "val-1" in polling_workers(site.prefect_url), "it polls Prefect")

    scale_to_zero(site.ledger, FLEET)
    assert site.tick().done == {"drained": 1}
    assert site.worker() == ("val-1", "draining", "RTX_3090")
    assert site.tick().done == {"destroyed": 1}
    assert site.living() == []
    assert not site.runner.has_ended(number), "a machine's end is no farewell"
    site.runner.sync()
    assert site.worker() == ("val-1", "offline", "RTX_3090")
    site.vast.advance(10)
    for _ in range(2):
        pass_time(site.ledger, 31)
        report = site.tick()
    assert report.is_empty or site.tick().is_empty


def test_box_with_another_gpu_never_registers_and_destroys_itself(open_site):
    """It finds the mismatch before its worker starts, and destroys its instance with the instance's own key."""
    site = open_site("NVIDIA GeForce GTX 1060")
    number = site.rent()
    site.wait_until(lambda: site.living() == [], "its rental has ended")
    site.wait_until(lambda: site.runner.has_ended(number), "its entrypoint has ended")
    assert "no RTX 3090 is visible: the driver shows NVIDIA GeForce GTX 1060" in site.runner.log_tail()
    assert site.worker() is None


def polling_workers(api_url: str) -> set[str]:
    """The workers that polled the pool lately."""
    answer = httpx.post(f"{api_url}/work_pools/vast-gpu/workers/filter", json={}, trust_env=False)
    return {worker["name"] for worker in answer.json()} if answer.is_success else set()
