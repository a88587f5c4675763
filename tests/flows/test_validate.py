"""The flow `validate_chunk` on a real Prefect server: its task runs, retries, messages and final states."""

from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows.validate import validate_chunk
from tasks.chunk import claim_chunk, commit_chunk, fetch_group, score_group, write_shard
from tests.support.ledger_helpers import fetch, statuses
from validation.errors import ClaimLost, Transient, Unreachable
from validation.ledger.workers import drain_worker
from validation.local.process import poll_until
from validation.worker.chunk import context as contexts
from validation.worker.chunk.open import DRAIN_FILE_VARIABLE


def task_runs(prefect, flow_run_id: UUID) -> list:
    """The task runs of a flow run, as the server has recorded them."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    return prefect.read_task_runs(flow_run_filter=chosen)


def run_flow(**parameters):
    """Run `validate_chunk`; returns its final state."""
    return validate_chunk(return_state=True, **parameters)


def test_flow_run_commits_a_chunk(prefect, flow_box):
    """One run claims, fetches, scores, writes and commits; its message counts the videos and its name holds the
    shard."""
    flow_box.add_videos(*"abcdefg")
    state = run_flow(size=7)
    assert state.is_completed()
    assert state.message == "7 videos validated (14 segments), 0 failed, 0 returned."
    assert set(statuses(flow_box.engine).values()) == {"validated"}

    run_id = state.state_details.flow_run_id
    assert prefect.read_flow_run(run_id).name == "ann · shard 0001 · 7 videos"
    assert fetch(flow_box.engine, "SELECT flow_run_id, state FROM validation_chunks") == [(run_id, "committed")]


def test_fifty_videos_make_thirteen_task_runs(prefect, flow_box, monkeypatch):
    """A task run costs the server 10 to 40 ms and 16 KB, so there are five groups of ten videos and three other
    tasks."""
    monkeypatch.setenv("VFLEET_GROUP_VIDEOS", "10")
    flow_box.add_videos(*(f"v{n:02d}" for n in range(50)), segments=1)
    state = run_flow(size=50)
    assert state.message == "50 videos validated (50 segments), 0 failed, 0 returned."
    expected = {claim_chunk: 1, fetch_group: 5, score_group: 5, write_shard: 1, commit_chunk: 1}
    wait_until_recorded(prefect, state.state_details.flow_run_id, sum(expected.values()))


def wait_until_recorded(prefect, flow_run_id: UUID, count: int) -> None:
    """Wait until the server has recorded exactly ``count`` task runs."""
    assert poll_until(lambda: len(task_runs(prefect, flow_run_id)) >= count, within_s=30)
    assert len(task_runs(prefect, flow_run_id)) == count


def test_run_without_a_claim_completes_with_the_reason(prefect, flow_box):
    """An empty queue is no failure."""
    state = run_flow()
    assert state.is_completed()
    assert state.message.startswith("Nothing to claim")


def test_a_run_names_its_box_before_it_has_a_chunk(prefect, flow_box):
    """A run that ends before its claim keeps the name of its worker."""
    run_id = run_flow().state_details.flow_run_id
    assert prefect.read_flow_run(run_id).name == "ann · no chunk yet"


def test_parameters_are_bounded_in_the_schema():
    """The form of the deployment refuses what no worker would do."""
    shown = parameter_schema(validate_chunk).properties
    assert {"minimum": 1, "maximum": 1000, "type": "integer"} in shown["size"]["anyOf"]
    with pytest.raises(ParameterTypeError):
        validate_chunk.validate_parameters({"size": 0, "languages": None})


def test_run_on_a_draining_worker_says_that_it_drains(prefect, flow_box, monkeypatch, tmp_path):
    """The message must not say that the queue is empty."""
    flow_box.add_videos("a")
    drain_worker(flow_box.engine, "ann")
    (tmp_path / "drain").touch()
    monkeypatch.setenv(DRAIN_FILE_VARIABLE, str(tmp_path / "drain"))
    assert run_flow().message == "Nothing to claim: this worker takes no new chunk, it drains."
    assert statuses(flow_box.engine) == {"a": "pending"}


@pytest.fixture
def without_delays(monkeypatch):
    """Retries of the chunk's tasks come without delays."""
    for task in (claim_chunk, fetch_group, score_group, write_shard, commit_chunk):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


def test_transient_failure_is_retried(prefect, flow_box, without_delays):
    """A failure of the scorer costs a retry of one task and not the chunk."""
    flow_box.add_videos("a", "b")
    failures = iter([Transient("the inference server restarts")])

    def fail() -> None:
        for failure in failures:
            raise failure

    flow_box.scorer.before = fail
    assert run_flow().is_completed()
    assert set(statuses(flow_box.engine).values()) == {"validated"}


def test_commit_is_retried_while_the_lease_is_held(prefect, flow_box, without_delays, monkeypatch):
    """A commit that fails ten times succeeds in the end; other tasks give up after four retries."""
    flow_box.add_videos("a", "b")
    failures = iter(range(10))

    def fail(*arguments, **facts):
        for _ in failures:
            raise Unreachable("the ledger", "db", "check it", "connection refused")
        return real_commit(*arguments, **facts)

    real_commit = contexts.commit_chunk
    monkeypatch.setattr(contexts, "commit_chunk", fail)
    assert run_flow().is_completed()
    assert set(statuses(flow_box.engine).values()) == {"validated"}


def test_commit_retries_end_with_the_lease(prefect, flow_box, without_delays, monkeypatch):
    """Once the lease has ended, the commit is not retried, because another worker may hold the videos."""
    flow_box.add_videos("a")
    tries = []

    def raise_error(*_, **__):
        tries.append(1)
        if len(tries) == 8:
            held_lease[0]._held_until = 0.0
        raise Unreachable("the ledger", "db", "check it", "connection refused")

    held_lease = []
    entered = contexts.LeaseRenewer.__enter__
    monkeypatch.setattr(contexts.LeaseRenewer, "__enter__", lambda lease: held_lease.append(lease) or entered(lease))
    monkeypatch.setattr(contexts, "commit_chunk", raise_error)
    state = run_flow()
    assert (state.is_failed(), len(tries)) == (True, 8)
    assert "past its lease" in state.message


def test_failed_rename_of_the_run_costs_no_chunk(prefect, flow_box, monkeypatch):
    """If Prefect does not answer while the run is renamed, the chunk is processed under its first name."""
    flow_box.add_videos("a")

    def raise_error(**_):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.chunk.get_client", raise_error)
    assert run_flow().message == "1 videos validated (2 segments), 0 failed, 0 returned."


def test_lost_claim_is_not_retried(prefect, flow_box, without_delays):
    """The run ends at once; nothing is committed and nothing stays held."""
    flow_box.add_videos("a", "b")
    calls = []

    def lose_claim() -> None:
        calls.append(1)
        raise ClaimLost("c", "expired")

    flow_box.scorer.before = lose_claim
    assert run_flow().is_failed()
    assert len(calls) == 1
    assert set(statuses(flow_box.engine).values()) == {"pending"}


def test_video_that_stays_unreachable_fails_alone(prefect, flow_box, without_delays, monkeypatch):
    """After the retries the chunk continues without the video, which returns with a back-off."""
    flow_box.add_videos(*"abcdef")
    fetch_video = contexts.fetch_video

    def fail_for_b(store, key, video):
        if video.video_id == "b":
            raise Unreachable("the store", key, "check the network", "timed out")
        return fetch_video(store, key, video)

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", fail_for_b)
    state = run_flow(size=6)
    assert state.message == "5 videos validated (10 segments), 1 failed, 0 returned."
    assert statuses(flow_box.engine)["b"] == "pending"


def test_unreachable_store_claims_nothing(prefect, flow_box, monkeypatch):
    """The stores are checked before anything is claimed, and the message names the address."""
    flow_box.add_videos("a")
    monkeypatch.setenv("R2_ENDPOINT_URL", "http://127.0.0.1:9")
    state = run_flow()
    assert state.is_failed()
    assert "127.0.0.1:9" in state.message
    assert fetch(flow_box.engine, "SELECT * FROM validation_chunks") == []
