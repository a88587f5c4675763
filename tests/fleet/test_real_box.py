"""A rented machine of the fake runs the real thing: our entrypoint, our self-test, a worker of the type `vast-gpu`."""

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
from validation.fleet.reconcile import ReconcileContext, Report, reconcile
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
    """A fleet of one machine, in real time but for the vendor's."""

    ledger: Engine
    vast: EmbeddedVast
    room: ContainerRunner
    context: ReconcileContext
    prefect_url: str

    def rent(self) -> int:
        """Rent one machine and let its container start; returns the vendor's id."""
        set_target(
            self.ledger, FLEET, machines=1, max_usd_per_hour=1.0, max_usd=10.0,
            order=LaunchSpec("worker:1", OfferFilter(gpu_names=("RTX 3090",))).to_json(),
        )  # fmt: skip
        assert self.tick().done == {"rented": 1}
        self.vast.advance(1000)
        self.room.sync()
        (machine,) = self.living()
        return machine["id"]

    def tick(self) -> Report:
        report = reconcile(self.context)
        assert report is not None
        return report

    def living(self) -> list[dict]:
        return self.vast.state()["living"]

    def worker(self) -> tuple | None:
        rows = fetch(self.ledger, "SELECT worker_id, status, gpu_type FROM worker_validators")
        return tuple(rows[0]) if rows else None

    def wait_until(self, predicate: Callable[[], bool], what: str) -> None:
        assert poll_until(predicate, within_s=120), f"not in time: {what}\n{self.room.log_tail()}"


@pytest.fixture
def box_login(postgres, migrated_template) -> Iterator[tuple[Engine, str]]:
    """A ledger, and an address of it with which one may do what a box may, and nothing else."""
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
    """Open a site whose machines show a card of this name."""
    ledger, box_url = box_login
    seed_videos(ledger, [Video("v1", "hi", 3)])
    buckets = {kind: f"{kind}-{os.getpid()}" for kind in ("source", "results")}
    for bucket in buckets.values():
        object_store.create_bucket(bucket)
    told = {f"BOX_{name}": value for name, value in object_store.client_environment().items()} | {
        "BOX_DATABASE_URL": box_url, "BOX_VFLEET_SUITE": "vad",
        "BOX_VFLEET_SOURCE_URL": f"s3://{buckets['source']}", "BOX_VFLEET_RESULTS_URL": f"s3://{buckets['results']}",
        "BOX_PREFECT_API_URL": prefect_server.api_url,
        "BOX_VFLEET_DEVICE": "cpu",  # the driver's program is faked here, its library is not; this suite needs no card
    }  # fmt: skip
    with EmbeddedVast(open_folder / "vast") as vast, VastClient(SecretStr("account-key"), vast.url) as client:
        vast.play(mix={})

        def open_one(card: str) -> Site:
            image = describe_image(open_folder, card)
            room = ContainerRunner(vast, ENTRYPOINT, image, open_folder / "boxes").__enter__()
            rooms.append(room)
            context = ReconcileContext(ledger, client, FLEET, lambda: read_box_environment(told))
            return Site(ledger, vast, room, context, prefect_server.api_url)

        rooms: list[ContainerRunner] = []
        yield open_one
        for room in rooms:
            room.__exit__(None, None, None)


def describe_image(folder: Path, card: str) -> dict[str, str]:
    """What an image sets, on a machine whose driver names this card."""
    driver = folder / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(f"#!/bin/sh\necho '{card}, 580.65.06'\n")
    driver.chmod(0o755)
    kept = {name: os.environ[name] for name in ("TEST_SESSION", "PREFECT_HOME", "HOME") if name in os.environ}
    return kept | {
        "PATH": f"{driver.parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1", "TMPDIR": str(folder),
        "PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def test_a_real_worker_is_rented_accepted_drained_and_destroyed(open_site):
    """With nothing but what its order told it: it tests itself, registers under its slot's name with the key that was
    drawn for it, heartbeats, is accepted, is told to drain through the ledger, and dies with its machine."""
    site = open_site("NVIDIA GeForce RTX 3090")
    number = site.rent()
    assert site.tick().done == {}, "running is no proof of work"
    site.wait_until(lambda: site.worker() is not None, "its worker is in the ledger")
    assert site.worker() == ("val-1", "online", "RTX_3090")
    assert site.tick().done == {"accepted": 1}
    site.wait_until(lambda: "val-1" in polling_workers(site.prefect_url), "it polls Prefect")

    scale_to_zero(site.ledger, FLEET)
    assert site.tick().done == {"drained": 1}
    assert site.worker() == ("val-1", "draining", "RTX_3090")
    assert site.tick().done == {"destroyed": 1}
    assert site.living() == []
    assert not site.room.has_ended(number), "a machine's end is no farewell"
    site.room.sync()
    assert site.worker() == ("val-1", "offline", "RTX_3090")
    site.vast.advance(10)
    for _ in range(2):
        pass_time(site.ledger, 31)
        report = site.tick()
    assert report.is_empty or site.tick().is_empty


def test_a_box_with_another_card_never_joins_and_gives_itself_back(open_site):
    """It finds out before its worker starts, and destroys its rental with its own key, though nobody told it to."""
    site = open_site("NVIDIA GeForce GTX 1060")
    number = site.rent()
    site.wait_until(lambda: site.living() == [], "its rental has ended")
    site.wait_until(lambda: site.room.has_ended(number), "its entrypoint has ended")
    assert "no RTX 3090 is visible: the driver shows NVIDIA GeForce GTX 1060" in site.room.log_tail()
    assert site.worker() is None


def polling_workers(api_url: str) -> set[str]:
    """Who asked for work of the pool lately."""
    answer = httpx.post(f"{api_url}/work_pools/vast-gpu/workers/filter", json={}, trust_env=False)
    return {worker["name"] for worker in answer.json()} if answer.is_success else set()
