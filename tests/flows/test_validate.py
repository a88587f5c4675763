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
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    return prefect.read_task_runs(flow_run_filter=chosen)


def run_flow(**parameters):
    return validate_chunk(return_state=True, **parameters)


def test_a_chunk_goes_from_claim_to_commit(prefect, flow_box):
    """One run claims, fetches, scores, writes and commits, and says in its state and name what it did."""
    flow_box.add_videos(*"abcdefg")
    state = run_flow(size=7)
    assert state.is_completed()
    assert state.message == "7 videos validated (14 segments), 0 failed, 0 returned."
    assert set(statuses(flow_box.engine).values()) == {"validated"}

    run_id = state.state_details.flow_run_id
    assert prefect.read_flow_run(run_id).name == "ann · shard 0001 · 7 videos"
    assert fetch(flow_box.engine, "SELECT flow_run_id, state FROM validation_chunks") == [(run_id, "committed")]


def test_fifty_videos_make_thirteen_task_runs(prefect, flow_box, monkeypatch):
    """A task run costs the server 10 to 40 ms and 16 KB, so they are counted: five groups of ten videos, and three."""
    monkeypatch.setenv("VFLEET_GROUP_VIDEOS", "10")
    flow_box.add_videos(*(f"v{n:02d}" for n in range(50)), segments=1)
    state = run_flow(size=50)
    assert state.message == "50 videos validated (50 segments), 0 failed, 0 returned."
    expected = {claim_chunk: 1, fetch_group: 5, score_group: 5, write_shard: 1, commit_chunk: 1}
    wait_until_recorded(prefect, state.state_details.flow_run_id, sum(expected.values()))


def wait_until_recorded(prefect, flow_run_id: UUID, count: int) -> None:
    """The server records task runs a moment after they ended."""
    assert poll_until(lambda: len(task_runs(prefect, flow_run_id)) >= count, within_s=30)
    assert len(task_runs(prefect, flow_run_id)) == count


def test_nothing_to_claim_completes_saying_so(prefect, flow_box):
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


def test_a_run_on_a_draining_worker_says_so(prefect, flow_box, monkeypatch, tmp_path):
    """The run's message must not say that the queue is empty."""
    flow_box.add_videos("a")
    drain_worker(flow_box.engine, "ann")
    (tmp_path / "drain").touch()
    monkeypatch.setenv(DRAIN_FILE_VARIABLE, str(tmp_path / "drain"))
    assert run_flow().message == "Nothing to claim: this worker takes no new chunk, it drains."
    assert statuses(flow_box.engine) == {"a": "pending"}


@pytest.fixture
def no_patience(monkeypatch):
    """Retries without their delays."""
    for task in (claim_chunk, fetch_group, score_group, write_shard, commit_chunk):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


def test_a_transient_failure_is_tried_again(prefect, flow_box, no_patience):
    """A scorer that comes back costs a retry of one task, not the chunk."""
    flow_box.add_videos("a", "b")
    failures = iter([Transient("the model host restarts")])

    def stumble() -> None:
        for failure in failures:
            raise failure

    flow_box.scorer.before = stumble
    assert run_flow().is_completed()
    assert set(statuses(flow_box.engine).values()) == {"validated"}


def test_a_commit_is_tried_for_as_long_as_the_chunk_is_held(prefect, flow_box, no_patience, monkeypatch):
    """The work of minutes is not lost to a ledger that is away for less than a lease: ten failures are four too many
    for any other step."""
    flow_box.add_videos("a", "b")
    failures = iter(range(10))

    def stumble(*arguments, **facts):
        for _ in failures:
            raise Unreachable("the ledger", "db", "check it", "connection refused")
        return ledgers_own(*arguments, **facts)

    ledgers_own = contexts.commit_chunk
    monkeypatch.setattr(contexts, "commit_chunk", stumble)
    assert run_flow().is_completed()
    assert set(statuses(flow_box.engine).values()) == {"validated"}


def test_a_commit_ends_with_the_lease(prefect, flow_box, no_patience, monkeypatch):
    """Not before, and not after: what is past its lease may be another's."""
    flow_box.add_videos("a")
    tries = []

    def away(*_, **__):
        tries.append(1)
        if len(tries) == 8:
            held_lease[0]._held_until = 0.0
        raise Unreachable("the ledger", "db", "check it", "connection refused")

    held_lease = []
    entered = contexts.LeaseRenewer.__enter__
    monkeypatch.setattr(contexts.LeaseRenewer, "__enter__", lambda lease: held_lease.append(lease) or entered(lease))
    monkeypatch.setattr(contexts, "commit_chunk", away)
    state = run_flow()
    assert (state.is_failed(), len(tries)) == (True, 8)
    assert "past its lease" in state.message


def test_a_name_that_cannot_be_given_is_done_without(prefect, flow_box, monkeypatch):
    """A Prefect server that is away while a run is renamed costs no chunk."""
    flow_box.add_videos("a")

    def away(**_):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.naming.get_client", away)
    assert run_flow().message == "1 videos validated (2 segments), 0 failed, 0 returned."


def test_what_cannot_heal_is_not_tried_again(prefect, flow_box, no_patience):
    """A lost claim ends the run at once: nothing is committed and nothing stays held."""
    flow_box.add_videos("a", "b")
    asked = []

    def lose() -> None:
        asked.append(1)
        raise ClaimLost("c", "expired")

    flow_box.scorer.before = lose
    assert run_flow().is_failed()
    assert len(asked) == 1
    assert set(statuses(flow_box.engine).values()) == {"pending"}


def test_a_group_that_stays_away_is_given_up_alone(prefect, flow_box, no_patience, monkeypatch):
    """When retries do not bring a video, the chunk goes on without it and it returns with a back-off."""
    flow_box.add_videos(*"abcdef")
    fetch_video = contexts.fetch_video

    def one_away(store, key, video):
        if video.video_id == "b":
            raise Unreachable("the store", key, "check the network", "timed out")
        return fetch_video(store, key, video)

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", one_away)
    state = run_flow(size=6)
    assert state.message == "5 videos validated (10 segments), 1 failed, 0 returned."
    assert statuses(flow_box.engine)["b"] == "pending"


def test_an_unreachable_store_claims_nothing(prefect, flow_box, monkeypatch):
    """A wrong address is known before anything is claimed."""
    flow_box.add_videos("a")
    monkeypatch.setenv("R2_ENDPOINT_URL", "http://127.0.0.1:9")
    state = run_flow()
    assert state.is_failed()
    assert "127.0.0.1:9" in state.message
    assert fetch(flow_box.engine, "SELECT * FROM validation_chunks") == []
