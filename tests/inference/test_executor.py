"""The counters of the executor: the time that models compute, and the time that they wait for requests or
preparation."""

import time

from tests.support.inference_process import RunningServer, make_utterance, outcomes
from validation.local.process import poll_until

WAITS = ("wait_for_requests_s", "wait_for_preparation_s")


def growth(before: dict, after: dict, counter: str) -> float:
    return after[counter] - before[counter]


def status_once_idle(server: RunningServer) -> dict:
    """Return the status after the last batch was counted."""
    assert poll_until(lambda: server.status()["current_batch_s"] == 0, within_s=30)
    return server.status()


def test_idle_server_waits_for_requests(server):
    """Without requests only the wait for requests grows, also before the wait has ended."""
    before = server.status()
    time.sleep(0.5)
    after = server.status()
    assert 0.5 <= growth(before, after, "wait_for_requests_s") <= growth(before, after, "uptime_s") + 0.01
    assert growth(before, after, "wait_for_preparation_s") == growth(before, after, "busy_s") == 0


def test_busy_server_waits_for_nothing(server, background):
    """While the models compute no wait is counted, although the queue is empty; then the time counts as busy."""
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(5, "wait")])
        server.wait_for("wait")
        before = server.status()
        time.sleep(0.5)
        after = server.status()
        server.gate.touch()
        assert outcomes(answers.result(60)) == ["wait"]
    assert [growth(before, after, counter) for counter in WAITS] == [0, 0]
    assert growth(before, status_once_idle(server), "busy_s") >= 0.5


def test_slow_preparation_is_counted_as_such(start_server):
    """The models are fast and enough segments are pending, but each batch takes 0.3 s to prepare: the models wait for
    the preparation. Busy time and both waits together do not exceed the elapsed time."""
    server = start_server(SCRIPTED_PREPARATION_S="0.3")
    with server.client() as client:
        before = server.status()
        texts = [f"{n}" for n in range(6)]
        assert outcomes(client.score([make_utterance(8, text) for text in texts])) == texts
        after = status_once_idle(server)
    assert len(server.batches()) == 6
    assert growth(before, after, "wait_for_preparation_s") >= 6 * 0.3 - 0.1
    assert growth(before, after, "wait_for_requests_s") < growth(before, after, "wait_for_preparation_s")
    counted = sum(growth(before, after, counter) for counter in ("busy_s", *WAITS))
    assert counted <= growth(before, after, "uptime_s") + 0.01
