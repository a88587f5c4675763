"""Two batches in flight, as on a GPU: one thread launches, another answers."""

import json

import pytest

from tests.support.inference_process import make_utterance, outcomes
from validation.exit_codes import ExitCode
from validation.inference.executor import ExecutorStats
from validation.inference.scheduler import CrashLog
from validation.local.process import poll_until


def in_flight(server) -> int:
    return len(json.loads(server.socket.with_name("in-flight.json").read_text())["running"])


def test_a_second_batch_is_launched_while_the_first_is_answered(start_server, background):
    """While the answers of the first batch wait, the second one is launched and the third one is not."""
    server = start_server(SCRIPTED_OVERLAP="1")
    texts = ["wait", "a", "b"]
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(8, text) for text in texts])
        server.wait_for("wait")
        assert poll_until(lambda: in_flight(server) == 2, within_s=30)
        before = server.status()
        server.gate.touch()
        assert outcomes(answers.result(60)) == texts
    assert in_flight(server) == 0
    assert server.status()["wait_for_answers_s"] > before["wait_for_answers_s"]
    assert [len(batch) for batch in server.batches()] == [1, 1, 1]


def test_a_crash_counts_for_both_batches_in_flight(start_server, background):
    """The server dies with two batches in flight: both are scored again, and each has one crash."""
    server = start_server(SCRIPTED_OVERLAP="1")
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(8, text) for text in ("wait", "a", "b")])
        server.wait_for("wait")
        assert poll_until(lambda: in_flight(server) == 2, within_s=30)
        server.kill()
        crashes = json.loads(server.socket.with_name("in-flight.json").read_text())
        assert len(crashes["running"]) == 2
        server.gate.touch()
        server.start()
        assert outcomes(answers.result(60)) == ["wait", "a", "b"]


def test_poison_fails_alone_with_two_batches_in_flight(start_server):
    """A segment on which the model fails leaves all others their answers."""
    server = start_server(SCRIPTED_OVERLAP="1", SCRIPTED_BUDGET_S="4")
    texts = ["a", "poison", "b", "c", "d", "e", "f", "g"]
    with server.client() as client:
        found = outcomes(client.score([make_utterance(1, text) for text in texts]))
    assert found == [text if text != "poison" else "model_failed" for text in texts]


def test_a_lost_gpu_ends_the_server_from_the_answering_thread(start_server, background):
    """An error of the GPU that shows with the answers ends the process, so that no client waits for ever."""
    server = start_server(SCRIPTED_OVERLAP="1")
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(1, "card")])
        for _ in range(3):
            server.restart(after=ExitCode.INTERNAL_ERROR)
        assert outcomes(answers.result(60)) == ["model_crashed"]


def test_the_crash_log_holds_all_batches_in_flight(tmp_path):
    """A batch that ends leaves the other one in the log; a restart counts a crash for the other one alone."""
    path = tmp_path / "in-flight.json"
    log = CrashLog(path)
    log.mark_started(["a", "b"])
    log.mark_started(["c"])
    log.mark_finished(["a", "b"])
    after = CrashLog(path)
    assert [after.crash_count(name) for name in "abc"] == [0, 0, 1]


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ((), "requests"),
        (("taken",), "preparation"),
        (("taken", "discarded"), "requests"),
        (("taken", "launched"), "busy"),
        (("taken", "launched", "computed"), "answers"),
        (("taken", "launched", "taken", "launched", "computed"), "busy"),
        (("taken", "launched", "computed", "taken"), "answers"),
        (("taken", "launched", "computed", "answered"), "requests"),
    ],
)
def test_the_executor_is_in_one_state_at_a_time(steps, state, monkeypatch):
    """The time after some steps counts for one state, and the states together are the whole time."""
    now = iter(range(100))
    monkeypatch.setattr("validation.inference.executor.time.monotonic", lambda: float(next(now)))
    stats = ExecutorStats()
    for step in steps:
        getattr(stats, step)()
    before, after = stats.spent_s(), stats.spent_s()
    assert {name for name, spent_s in after.items() if spent_s > before[name]} == {state}
