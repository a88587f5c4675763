"""The start of a worker: its row before the first poll, the runs that it accepts, and the reasons to refuse the
start."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import anyio
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from validation.doctor.prefect_server import PrefectRefused
from validation.domain import WorkerProfile
from validation.errors import BadInput, Unreachable
from validation.ledger.engine import open_engine
from validation.ledger.migrate import newest_migration
from validation.ledger.workers import register_worker
from validation.local.service import reserve_port
from validation.models.suite import load_suite
from validation.models.suites import SUITES
from validation.worker.prefect import VastGpuWorker
from validation.worker.prefect.worker import check_work_pool
from validation.worker.profile import current_identity

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

CLONE_STEP = {"prefect.deployments.steps.git_clone": {"repository": "https://example.invalid/code.git"}}
INSTALL_STEP = {
    "prefect.deployments.steps.set_working_directory": {"directory": "/tmp", "requires": "a-package"},
}

STDLIB_ENTRYPOINT = {
    "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(Path(os.__file__).parent)}}],
    "entrypoint": "subprocess.py:call",
    "parameters": {"popenargs": [["touch", "/tmp/stolen"]]},
}
DISALLOWED_VARIABLE = {"job_variables": {"env": {"LD_PRELOAD": "/tmp/evil.so", "VFLEET_CHUNK_VIDEOS": "7"}}}


def test_worker_is_registered_before_it_polls(ledger, prefect, start_worker):
    """The row shows the worker's id, machine, suite and limits.

    Runs of deployments that bring code or settings of their own crash with the reason.
    """

    def has_crashed(run):
        return prefect.state(run)["type"] == "CRASHED"

    def message(run):
        return prefect.state(run)["message"]

    disallowed = [{"pull_steps": [CLONE_STEP]}, {"pull_steps": [INSTALL_STEP]}, STDLIB_ENTRYPOINT, DISALLOWED_VARIABLE]
    runs = [prefect.schedule(prefect.deploy(**changes)) for changes in disallowed]
    worker = start_worker(ledger.url, VFLEET_CHUNK_VIDEOS="7")
    for run in runs:
        worker.wait_until(partial(has_crashed, run), within_s=60, what="it is refused")
    assert "would run other code by the pull step prefect.deployments.steps.git_clone:" in message(runs[0])
    assert "steps.set_working_directory with requires:" in message(runs[1])
    assert "would run other code by the entrypoint subprocess.py:call:" in message(runs[2])
    assert "the job variable env sets LD_PRELOAD:" in message(runs[3])

    ((status, prefect_worker, config, started_at),) = ledger.rows(
        "SELECT status, prefect_worker, config_json, started_at FROM worker_validators WHERE worker_id = 'box-1'"
    )
    assert (status, prefect_worker, prefect.workers()) == ("online", "box-1", ["box-1"])
    assert started_at < min(map(prefect.first_pending_at, runs))
    assert config["suite"] == "vad"
    assert config["revisions"] == load_suite("vad").revisions
    assert config["batch_budget_s"] == SUITES["vad"].budget_s
    assert config["budgets"]["chunk_videos"] == 7
    assert config["budgets"]["flow_runs"] == 2
    assert set(config["versions"]) == {"prefect", "python", "validation-fleet"}
    assert f":{worker.process.pid}:" in config["instance"]

    worker.send(signal.SIGTERM)
    assert worker.exit_code(within_s=60) == 0


def test_pool_template_describes_the_allowed_job_variables(prefect):
    """The form of a new pool describes each variable and has no command, because a deployment must not choose one."""
    template = VastGpuWorker.get_default_base_job_template()
    pool = {"name": f"{prefect.pool}-made", "type": "vast-gpu", "base_job_template": template}
    prefect.http.post("/work_pools/", json=pool).raise_for_status()
    variables = template["variables"]["properties"]
    assert set(variables) == {"name", "env", "labels", "stream_output", "working_dir"}
    assert all(variable["description"] for variable in variables.values())
    assert "command" not in template["job_configuration"]


def test_offered_runs_are_submitted_in_random_order(monkeypatch):
    """A hundred workers are offered the same list; if all began at its head, ninety-nine would be refused. None is left
    out."""
    offered = [f"run-{n}" for n in range(50)]
    taken = []

    async def take(_, flow_run_response):
        taken.append([offer.flow_run.id for offer in flow_run_response])

    async def offer():
        worker = VastGpuWorker("any")
        worker._limiter = anyio.CapacityLimiter(1)
        await worker._submit_scheduled_flow_runs([SimpleNamespace(flow_run=SimpleNamespace(id=run)) for run in offered])

    monkeypatch.setattr(ProcessWorker, "_submit_scheduled_flow_runs", take)
    for _ in range(10):
        asyncio.run(offer())
    assert len({order[0] for order in taken}) > 1
    assert all(sorted(order) == sorted(offered) for order in taken)


def test_refused_start_is_one_sentence_and_an_exit_code(ledger, prefect, start_worker):
    """Exit code 2 for a wrong setting and 3 for a transient error; no traceback, and no worker appears in Prefect."""
    instance = str(current_identity())
    register_worker(ledger.engine, WorkerProfile("box-1", config={"instance": instance}))
    address = f"127.0.0.1:{reserve_port()}"
    started = {
        start_worker(ledger.url): (2, f"worker id box-1 is in use by {instance}"),
        start_worker(ledger.url, PREFECT_API_URL=f"http://{address}/api"): (
            3,
            f"server at http://{address}/api is unr",
        ),
    }
    for worker, (code, words) in started.items():
        assert (worker.exit_code(within_s=120), words in worker.stderr()) == (code, True), worker.stderr()
        assert len(worker.stderr().strip().splitlines()) == 1, worker.stderr()
    assert prefect.workers() == []
    assert ledger.value("SELECT config_json ->> 'instance' FROM worker_validators") == instance


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("VFLEET_LEASE_S", "soon", "setting lease_s is 'soon'"),
        (
            "VFLEET_HEARTBEAT_S",
            "31",
            "setting heartbeat_s is '31': value error, must be at most 30 with a lease_s of 75",
        ),
        ("VFLEET_LEASE_S", "40", "setting heartbeat_s is "),
        ("WORKER_ID", "a/b", "worker id 'a/b' cannot name a Prefect worker"),
        ("PREFECT_API_URL", "", "PREFECT_API_URL is not set"),
    ],
)
def test_invalid_setting_is_named(variable, value, sentence, refusal):
    """The sentence names the variable to change."""
    code, stderr = refusal("any", api_url=None, **{variable: value})
    assert (code, stderr.startswith(sentence)) == (2, True), stderr


def test_ledger_at_another_migration_is_refused(unmigrated, prefect, prefect_server, refusal):
    """The sentence names both migrations."""
    code, stderr = refusal(prefect.pool, prefect_server.api_url, DATABASE_URL=unmigrated)
    assert code == 2
    assert stderr.startswith(f"this code knows migration {newest_migration()}, the database is not migrated at all")


def test_unreachable_ledger_is_named(prefect, prefect_server, refusal):
    """The exit code is 3, and the sentence shows the address without its password."""
    address = f"127.0.0.1:{reserve_port()}"
    code, stderr = refusal(prefect.pool, prefect_server.api_url, DATABASE_URL=f"postgresql://me:secret@{address}/none")
    assert code == 3
    assert stderr.startswith(f"the ledger at {address}/none is unreachable")
    assert "secret" not in stderr


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Start a worker that is refused; returns its exit code and its standard error."""

    def start(pool, api_url, **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        settings = {PREFECT_API_URL: api_url} if api_url else {}
        with temporary_settings(settings, restore_defaults={PREFECT_API_URL}), pytest.raises(SystemExit) as exit_:
            asyncio.run(VastGpuWorker(pool).start())
        return exit_.value.code, capsys.readouterr().err

    return start


def test_pool_of_another_type_is_refused(prefect, prefect_server):
    """Its flow runs need another worker; a missing pool is accepted, because Prefect creates it."""
    prefect.http.post("/work_pools/", json={"name": f"{prefect.pool}-other", "type": "process"}).raise_for_status()
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        asyncio.run(check_work_pool(f"{prefect.pool}-unmade", "vast-gpu"))
        with pytest.raises(BadInput, match=f"{prefect.pool}-other is for workers of the type process, not vast-gpu"):
            asyncio.run(check_work_pool(f"{prefect.pool}-other", "vast-gpu"))


@pytest.mark.parametrize(("status", "error"), [(401, PrefectRefused), (422, BadInput), (500, Unreachable)])
def test_prefect_error_status_decides_the_error(status, error):
    """Refused credentials need a change; a status of 500 may pass."""
    with (
        answering(status) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(error, match=f"status {status}"),
    ):
        asyncio.run(check_work_pool("any", "vast-gpu"))


@pytest.fixture
def unmigrated(postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"unmigrated_{os.getpid()}"
    url = postgres.create_database(name)
    yield url
    open_engine(url).dispose()
    postgres.drop_database(name)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that responds to every request with one status; yields its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_freed_slot_is_filled_without_waiting_for_the_next_poll(ledger, prefect, start_worker):
    """With an hour between polls, a third run still starts when one of the first two ends."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE video_queue SET status = 'processing'")  # no claimable video
    deployment = prefect.deploy()
    runs = [prefect.schedule(deployment) for _ in range(3)]
    worker = start_worker(ledger.url, PREFECT_WORKER_QUERY_SECONDS="3600")
    worker.wait_until(
        lambda: all(prefect.state(run)["type"] == "COMPLETED" for run in runs),
        within_s=110,
        what="three runs have ended",
    )


def test_source_without_the_queued_videos_refuses_the_start(ledger, prefect, prefect_server, refusal, tmp_path):
    """The worker tries tars of the queue before it claims, so a wrong bucket or prefix is found at the start."""
    empty = {"VFLEET_SOURCE_URL": tmp_path.as_uri(), "VFLEET_RESULTS_URL": tmp_path.as_uri()}
    code, stderr = refusal(
        prefect.pool, prefect_server.api_url, DATABASE_URL=ledger.url, VFLEET_SUITE="vad", WORKER_ID="box-1", **empty
    )
    assert (code, stderr.startswith("none of 3 queued videos has its tar")) == (2, True), stderr
    assert ledger.value("SELECT count(*) FROM worker_validators") == 0
