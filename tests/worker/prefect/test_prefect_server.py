"""Errors of the Prefect server: they affect the run they are about, and neither the worker nor its other runs."""

import asyncio
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from uuid import uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from validation.local.process import poll_until
from validation.worker.prefect import VastGpuWorker
from validation.worker.prefect.flow_processes import FlowProcesses

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

OPEN_CHUNKS = "SELECT count(*) FROM validation_chunks WHERE state = 'open'"
CHUNKS = "SELECT DISTINCT state FROM validation_chunks"
WORKER = "SELECT status FROM worker_validators"


@pytest.fixture
def serve(ledger, prefect, prefect_server, monkeypatch, tmp_path):
    """Run a worker in this process and call ``steps`` meanwhile; the test can break the worker's Prefect client."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(4):
        (tmp_path / f"v{number}.tar").write_bytes(b"\0" * 1024)
    environment = {"DATABASE_URL": ledger.url, "WORKER_ID": "box-1", "VFLEET_SUITE": "vad"}
    stores = dict.fromkeys(("VFLEET_SOURCE_URL", "VFLEET_RESULTS_URL"), tmp_path.as_uri())
    for name, value in {**environment, **stores}.items():
        monkeypatch.setenv(name, value)

    async def serve_during(steps: Callable[[], None]) -> None:
        serving = asyncio.create_task(VastGpuWorker(prefect.pool).start())
        await asyncio.to_thread(steps)
        if not serving.done():
            signal.raise_signal(signal.SIGTERM)
        with suppress(asyncio.CancelledError):
            await serving

    def serve(steps: Callable[[], None]) -> None:
        with temporary_settings({PREFECT_API_URL: prefect_server.api_url, PREFECT_WORKER_QUERY_SECONDS: 0.5}):
            asyncio.run(serve_during(steps))

    return serve


@pytest.fixture
def break_deployment(monkeypatch):
    """Make `read_deployment` raise an error for one deployment; returns the list of failed calls."""
    ask = PrefectClient.read_deployment
    broken: dict[str, Exception] = {}
    requests: list[str] = []

    async def answer(client, deployment_id):
        if (error := broken.get(str(deployment_id))) is not None:
            requests.append(str(deployment_id))
            raise error
        return await ask(client, deployment_id)

    monkeypatch.setattr(PrefectClient, "read_deployment", answer)

    def break_one(deployment: str, error: Exception | None) -> list[str]:
        broken[deployment] = error
        return requests

    return break_one


def http_error(status: int) -> httpx.HTTPStatusError:
    """An HTTP error of this status."""
    request = httpx.Request("GET", "http://prefect/api")
    return httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status, request=request))


def test_prefect_error_about_one_run_leaves_worker_and_other_runs_alone(ledger, prefect, serve, break_deployment):
    """The run stays scheduled, and this worker processes it once Prefect works again."""
    good, bad = prefect.deploy(), prefect.deploy()

    def steps():
        prefect.schedule(good)
        assert poll_until(lambda: ledger.value(OPEN_CHUNKS) == 1, within_s=90)
        requests = break_deployment(bad, http_error(503))
        prefect.schedule(bad)
        assert poll_until(lambda: len(requests) >= 3, within_s=30)  # more often than there are slots
        assert ledger.value(WORKER) == "online"
        break_deployment(bad, None)
        assert poll_until(lambda: ledger.value(OPEN_CHUNKS) == 2, within_s=60)

    serve(steps)
    assert ledger.rows(CHUNKS) == [("committed",)]
    assert ledger.value(WORKER) == "offline"


def test_unexpected_prefect_error_drains_the_worker(ledger, prefect, serve, break_deployment):
    """Prefect cancels everything that its worker awaits; the worker still drains, retires and raises the error."""
    good, bad = prefect.deploy(), prefect.deploy()
    break_deployment(bad, RuntimeError("an unexpected error"))

    def steps():
        prefect.schedule(good)
        assert poll_until(lambda: ledger.value(OPEN_CHUNKS) == 1, within_s=90)
        prefect.schedule(bad)
        assert poll_until(lambda: ledger.value(WORKER) == "offline", within_s=60)

    with pytest.raises(RuntimeError, match="an unexpected error"):
        serve(steps)
    assert ledger.rows(CHUNKS) == [("committed",)]


@pytest.fixture
def worker():
    """A worker with one slot and no server."""
    worker = VastGpuWorker("any")
    worker._limiter = anyio.CapacityLimiter(1)
    worker._processes = FlowProcesses("any")
    return worker


def test_run_of_a_deleted_deployment_frees_its_slot(worker):
    """The run is cancelled, and its slot is free for the next run."""
    run = FlowRun(id=uuid4(), name="run", flow_id=uuid4(), deployment_id=uuid4())

    async def lose(*_, **__):
        raise ObjectNotFound(http_error(404))

    async def submit():
        worker._client = SimpleNamespace(read_deployment=lose, set_flow_run_state=lose)
        worker.limiter.acquire_on_behalf_of_nowait(run.id)
        worker._submitting_flow_run_ids.add(run.id)
        await worker._submit_run(run)
        assert worker.limiter.borrowed_tokens == 0

    asyncio.run(submit())
    assert worker._submitting_flow_run_ids == set()


def test_run_is_submitted_at_most_once_and_never_while_ending(worker):
    """Prefect may offer a running run again, and a poll may be answered after the SIGTERM."""
    here, other = (SimpleNamespace(flow_run=SimpleNamespace(id=uuid4())) for _ in range(2))

    async def submit():
        worker.limiter.acquire_on_behalf_of_nowait(here.flow_run.id)
        yield await worker._submit_scheduled_flow_runs([here])
        worker.limiter.release_on_behalf_of(here.flow_run.id)
        worker._ending = True
        yield await worker._submit_scheduled_flow_runs([other])

    async def gather():
        return [submitted async for submitted in submit()]

    assert asyncio.run(gather()) == [[], []]
    assert worker._submitting_flow_run_ids == set()


@pytest.mark.parametrize(
    ("state", "is_marked"),
    [(Running(), True), (Crashed(), True), (Cancelled(), False), (Failed(), False), (Completed(), False),
     (Scheduled(), False)],
)  # fmt: skip
def test_only_running_and_crashed_runs_are_marked_with_the_reason(worker, state, is_marked):
    """A run that has another state keeps it; the reason replaces only Prefect's own Crashed."""
    marked = []

    async def read(_):
        return SimpleNamespace(state=state)

    async def mark(_, state, *, force):
        marked.append((state.message, force))

    worker._client = SimpleNamespace(read_flow_run=read, set_flow_run_state=mark)
    asyncio.run(worker._mark_crashed(uuid4(), "its grace was over"))
    assert bool(marked) == is_marked
