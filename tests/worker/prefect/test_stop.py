"""The stop of a worker by one signal, by two signals or by SIGKILL: no chunk stays claimed, no process keeps
running."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.worker_fixtures import pack_tone
from validation.domain import Video, WorkerProfile
from validation.exit_codes import ExitCode
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.worker.prefect.registration import WorkerRegistration
from validation.worker.profile import current_identity

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

OPEN_CHUNKS = "SELECT count(*) FROM validation_chunks WHERE state = 'open'"
SCORED = "SELECT coalesce(max(videos_validated), 0) FROM validation_chunks"
CHUNKS = "SELECT state FROM validation_chunks"
WORKER = "SELECT status FROM worker_validators WHERE worker_id = 'box-1'"
INSTANCE = "SELECT config_json ->> 'instance' FROM worker_validators WHERE worker_id = 'box-1'"
VIDEOS = """
    SELECT validation_status, validation_attempts, validation_crashes, count(*)
    FROM video_queue GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

IN_REPOSITORY = {
    "prefect.deployments.steps.set_working_directory": {"directory": str(Path(__file__).resolve().parents[3])}
}


@pytest.fixture
def hold(ledger, prefect, start_worker):
    """Start a worker and a flow run on it that holds a chunk of two of the four videos."""

    def start(*, stubborn=False, **settings):
        run = prefect.schedule(prefect.deploy(), stubborn=stubborn)
        worker = start_worker(ledger.url, **settings)
        worker.wait_until(lambda: ledger.value(OPEN_CHUNKS) == 1, within_s=90, what="a chunk is held")
        return worker, run

    return start


def test_sigterm_lets_the_flow_run_commit_its_chunk(ledger, prefect, hold):
    """The run ends Completed, its scored video is kept, and the rest is pending without an attempt.

    The signal goes to the whole process group, as a terminal sends it; flow processes are in groups of their own.
    """
    worker, run = hold()

    os.killpg(worker.process.pid, signal.SIGTERM)

    assert worker.exit_code(within_s=60) == 0
    assert prefect.state(run)["type"] == "COMPLETED"
    assert ledger.rows(CHUNKS) == [("committed",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 3), ("validated", 1, 0, 1)]
    assert ledger.value(WORKER) == "offline"
    assert worker.leftovers() == []


def test_sigterm_lets_validate_chunk_commit_its_scored_videos(ledger, prefect, start_worker, tmp_path):
    """With the real flow and models: the group in work is finished and committed, the rest returns without an attempt.

    The inference server is suspended while the signal arrives, so that some videos are unscored.
    """
    source, results = tmp_path / "source", tmp_path / "results"
    results.mkdir()
    source.mkdir()
    videos = [Video(f"v{n}", "hi", 3) for n in range(150)]
    for video in videos:
        (source / f"{video.video_id}.tar").write_bytes(pack_tone(video, 3))
    seed_videos(ledger.engine, videos)
    run = prefect.schedule(prefect.deploy(entrypoint="flows/validate.py:validate_chunk", pull_steps=[IN_REPOSITORY]))
    worker = start_worker(
        ledger.url, VFLEET_SOURCE_URL=source.as_uri(), VFLEET_RESULTS_URL=results.as_uri(),
        VFLEET_CHUNK_VIDEOS="150", VFLEET_GROUP_VIDEOS="1", VFLEET_HEARTBEAT_S="1",
    )  # fmt: skip
    worker.wait_until(lambda: ledger.value(SCORED) > 0, within_s=120, what="a video is scored")
    (server,) = worker.inference_servers()
    server.suspend()
    worker.send(signal.SIGTERM)
    worker.wait_until(lambda: ledger.value(WORKER) == "draining", within_s=30, what="it drains")
    server.resume()

    assert worker.exit_code(within_s=60) == 0
    assert ledger.rows(CHUNKS) == [("committed",)]
    (returned, validated) = ledger.rows(VIDEOS)
    assert (returned[:3], validated[:3]) == (("pending", 0, 0), ("validated", 1, 0))
    assert returned[3] + validated[3] == 150
    assert prefect.state(run)["message"].endswith(f"{returned[3]} returned. Drained on request.")
    assert len(list(results.rglob("*.parquet"))) == 1
    assert ledger.value(WORKER) == "offline"
    assert worker.leftovers() == []


def test_run_beyond_the_grace_time_is_ended_with_the_reason(ledger, prefect, hold):
    """The chunk is released without an attempt, and the state of the run names the grace time."""
    worker, run = hold(stubborn=True, VFLEET_DRAIN_GRACE_S="1")
    (flow_process,) = worker.flow_processes()

    os.killpg(worker.process.pid, signal.SIGINT)

    assert worker.exit_code(within_s=60) == 0
    assert not flow_process.is_running()
    state = prefect.state(run)
    assert state["type"] == "CRASHED"
    assert "its grace of 1 s was over" in state["message"]
    assert ledger.rows(CHUNKS) == [("released",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 4)]
    assert ledger.value(WORKER) == "offline"


def test_replaced_worker_drains_and_leaves_the_row_alone(ledger, prefect, hold):
    """A box that was frozen until another took its worker id drains, and does not change the other's row."""
    worker, _ = hold(VFLEET_HEARTBEAT_S="1")
    worker.send(signal.SIGSTOP)
    successor = WorkerProfile("box-1", config={"instance": "another machine"})
    register_worker(ledger.engine, successor, replaces=ledger.value(INSTANCE))
    worker.send(signal.SIGCONT)

    assert worker.exit_code(within_s=60) == 0
    assert "another machine works as box-1 now" in worker.stderr()
    assert ledger.rows(CHUNKS) == [("expired",)]
    assert (ledger.value(WORKER), ledger.value(INSTANCE)) == ("online", "another machine")


def test_second_sigterm_ends_the_grace_time(ledger, prefect, hold):
    """The second signal ends the flow processes at once and releases the chunk."""
    worker, run = hold(stubborn=True, VFLEET_DRAIN_GRACE_S="600")

    worker.send(signal.SIGTERM)
    worker.wait_until(lambda: ledger.value(WORKER) == "draining", within_s=30, what="it drains")
    worker.send(signal.SIGTERM)

    assert worker.exit_code(within_s=60) == 0
    assert "a second signal came" in prefect.state(run)["message"]
    assert ledger.rows(CHUNKS) == [("released",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 4)]
    assert ledger.value(WORKER) == "offline"


def test_sigkill_of_a_worker_ends_its_flow_processes(ledger, hold):
    """The kernel ends them. The next session of the worker takes the chunks back at once, since the old process is
    dead."""
    worker, _ = hold(stubborn=True)
    (flow_process,) = worker.flow_processes()

    worker.send(signal.SIGKILL)
    worker.exit_code(within_s=10)
    psutil.wait_procs([flow_process], timeout=5)
    assert not flow_process.is_running()
    assert ledger.rows(CHUNKS) == [("open",)]

    WorkerRegistration(ledger.engine, WorkerProfile("box-1", config={"instance": str(current_identity())})).register()
    assert ledger.rows(CHUNKS) == [("expired",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 4)]  # a box-side death is no crash of the videos
    assert ledger.value(WORKER) == "online"


def test_worker_stops_after_one_chunk_without_objects(ledger, prefect, start_worker):
    """The error is in its output, its row and the run's state; it takes no further run and exits with BAD_INPUT."""
    deployment = prefect.deploy(entrypoint="flows/holder.py:refuse_chunk")
    first = prefect.schedule(deployment)
    worker = start_worker(ledger.url)
    assert worker.exit_code(within_s=120) == ExitCode.BAD_INPUT
    sentence = "all 50 videos of chunk c fail alike"
    assert worker.stderr().splitlines()[-1].startswith(sentence)
    assert prefect.state(first)["type"] == "FAILED"
    assert sentence in prefect.state(first)["message"]
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert ledger.value("SELECT last_error FROM worker_validators WHERE worker_id = 'box-1'").startswith(sentence)
    later = prefect.schedule(deployment)
    assert prefect.state(later)["type"] == "SCHEDULED"
    assert worker.leftovers() == []
