"""A worker that is told to stop, told twice, or killed: nothing stays claimed, nothing stays running."""

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
from validation.worker.process_identity import current_identity

pytestmark = pytest.mark.timeout(300)  # the first of them waits for the Prefect server as well

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


def test_a_sigterm_lets_the_chunk_in_hand_be_committed(ledger, prefect, hold):
    """The run ends by itself and Completed, what it did is kept, the rest is pending with no attempt lost.

    The signal goes to the whole process group, as a terminal or an init may send it: flow runs are not in it.
    """
    worker, run = hold()

    os.killpg(worker.process.pid, signal.SIGTERM)

    assert worker.exit_code(within_s=60) == 0
    assert prefect.state(run)["type"] == "COMPLETED"
    assert ledger.rows(CHUNKS) == [("committed",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 3), ("validated", 1, 0, 1)]
    assert ledger.value(WORKER) == "offline"
    assert worker.litter() == []


def test_a_sigterm_lets_the_real_flow_commit_what_it_has_scored(ledger, prefect, start_worker, tmp_path):
    """`validate_chunk` with models: the wave in hand is finished and committed, the rest returned, no attempt lost.

    Its model host is frozen while the signal comes, so that there is a wave in hand and a rest.
    """
    source, results = tmp_path / "source", tmp_path / "results"
    results.mkdir()
    source.mkdir()
    videos = [Video(f"v{n}", "hi", 3) for n in range(400)]
    for video in videos:
        (source / f"{video.video_id}.tar").write_bytes(pack_tone(video, 3))
    seed_videos(ledger.engine, videos)
    run = prefect.schedule(prefect.deploy(entrypoint="flows/validate.py:validate_chunk", pull_steps=[IN_REPOSITORY]))
    worker = start_worker(
        ledger.url, VFLEET_SOURCE_URL=source.as_uri(), VFLEET_RESULTS_URL=results.as_uri(),
        VFLEET_CHUNK_VIDEOS="400", VFLEET_GROUP_VIDEOS="1", VFLEET_HEARTBEAT_S="1",
    )  # fmt: skip
    worker.wait_until(lambda: ledger.value(SCORED) > 0, within_s=120, what="a video is scored")
    (host,) = worker.model_hosts()
    host.suspend()
    worker.send(signal.SIGTERM)
    worker.wait_until(lambda: ledger.value(WORKER) == "draining", within_s=30, what="it drains")
    host.resume()

    assert worker.exit_code(within_s=60) == 0
    assert ledger.rows(CHUNKS) == [("committed",)]
    (returned, validated) = ledger.rows(VIDEOS)
    assert (returned[:3], validated[:3]) == (("pending", 0, 0), ("validated", 1, 0))
    assert returned[3] + validated[3] == 400
    assert prefect.state(run)["message"].endswith(f"{returned[3]} returned. Drained on request.")
    assert len(list(results.rglob("*.parquet"))) == 1
    assert ledger.value(WORKER) == "offline"
    assert worker.litter() == []


def test_a_run_that_outlives_its_grace_is_ended_and_says_so(ledger, prefect, hold):
    """Past the grace time everything is released, no attempt is lost, and the run's state names the grace."""
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


def test_a_worker_that_was_succeeded_drains_and_touches_nothing(ledger, prefect, hold):
    """A box that was frozen so long that another took its id ends by itself, and leaves the other's row alone."""
    worker, _ = hold(VFLEET_HEARTBEAT_S="1")
    worker.send(signal.SIGSTOP)
    successor = WorkerProfile("box-1", config={"instance": "another machine"})
    register_worker(ledger.engine, successor, replaces=ledger.value(INSTANCE))
    worker.send(signal.SIGCONT)

    assert worker.exit_code(within_s=60) == 0
    assert "another machine works as box-1 now" in worker.told()
    assert ledger.rows(CHUNKS) == [("expired",)]
    assert (ledger.value(WORKER), ledger.value(INSTANCE)) == ("online", "another machine")


def test_a_second_sigterm_ends_the_grace(ledger, prefect, hold):
    """Whoever asks twice does not want to wait: the same end at once, though the grace has hardly begun."""
    worker, run = hold(stubborn=True, VFLEET_DRAIN_GRACE_S="600")

    worker.send(signal.SIGTERM)
    worker.wait_until(lambda: ledger.value(WORKER) == "draining", within_s=30, what="it drains")
    worker.send(signal.SIGTERM)

    assert worker.exit_code(within_s=60) == 0
    assert "a second signal came" in prefect.state(run)["message"]
    assert ledger.rows(CHUNKS) == [("released",)]
    assert ledger.rows(VIDEOS) == [("pending", 0, 0, 4)]
    assert ledger.value(WORKER) == "offline"


def test_a_killed_worker_leaves_no_flow_process_and_its_next_life_takes_its_chunks_back(ledger, hold):
    """A worker that is SIGKILLed can do nothing any more: the kernel ends its flow runs, and the worker that starts
    under its id need not wait for a heartbeat to go stale, because it can see that the other is dead."""
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


def test_a_worker_stops_after_one_chunk_without_objects(ledger, prefect, start_worker):
    """It takes no further run: one sentence in its output, its row and the run's state; exit code BAD_INPUT."""
    deployment = prefect.deploy(entrypoint="flows/holder.py:refuse_chunk")
    first = prefect.schedule(deployment)
    worker = start_worker(ledger.url)
    assert worker.exit_code(within_s=120) == ExitCode.BAD_INPUT
    sentence = "none of the 50 videos of chunk c was found"
    assert worker.told().splitlines()[-1].startswith(sentence)
    assert prefect.state(first)["type"] == "FAILED"
    assert sentence in prefect.state(first)["message"]
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert ledger.value("SELECT last_error FROM worker_validators WHERE worker_id = 'box-1'").startswith(sentence)
    later = prefect.schedule(deployment)
    assert prefect.state(later)["type"] == "SCHEDULED"
    assert worker.litter() == []
