"""The server may die or hang at any moment: no request is lost, and a segment that crashes it is found."""

import signal
from contextlib import closing

import pytest

from tests.support.inference_process import exchange, make_utterance, outcomes
from validation.exit_codes import ExitCode
from validation.inference.client_io import ServerConnection, ServerRejectedClient, ServerUnavailable
from validation.inference.protocol import Arena, pack_frame

pytestmark = pytest.mark.stack
WORKLOAD = [make_utterance(3, "wait"), *(make_utterance(1 + n / 8, f"{n}") for n in range(30))]
TEXTS = [utterance.text for utterance in WORKLOAD]


def test_killed_server_loses_no_request(server, background):
    """The client waits for the next server, sends the unanswered requests again, and gets every answer."""
    with server.client() as client:
        answers = background.submit(client.score, WORKLOAD)
        server.wait_for("wait")
        server.kill()
        server.gate.touch()
        server.start()
        assert outcomes(answers.result(60)) == TEXTS
        assert outcomes(client.score(WORKLOAD)) == TEXTS


def test_segment_that_crashes_the_server_is_given_up_alone(server, background):
    """The segments of the batch that crashed are scored one by one, and after three crashes the guilty one gets a
    fault. All others get their answers."""
    workload = [make_utterance(1, "a"), make_utterance(1, "crash"), make_utterance(1, "b"), make_utterance(5, "c")]
    with server.client() as client:
        scoring = background.submit(client.score, workload)
        for _ in range(3):
            server.restart()
        answers = scoring.result(60)
    assert outcomes(answers) == ["a", "model_crashed", "b", "c"]
    assert "died 3 times" in answers[1]["silero"].fault.message
    assert sum("crash" in batch for batch in server.batches()) == 3
    assert server.batches().count(["crash"]) == 2


def test_lost_gpu_ends_the_server_and_costs_no_other_answer(server, background):
    """An error that says that the GPU is lost is no segment's failure: the server exits at the first one, the next
    server finds the segment that causes it, and only that segment is given up."""
    workload = [make_utterance(1, "a"), make_utterance(1, "card"), make_utterance(1, "b")]
    with server.client() as client:
        answers = background.submit(client.score, workload)
        for _ in range(3):
            server.restart(after=ExitCode.INTERNAL_ERROR)
        assert outcomes(answers.result(60)) == ["a", "model_crashed", "b"]
    assert sum("card" in batch for batch in server.batches()) == 3


def test_model_that_fails_on_everything_ends_the_server_before_it_answers(server, background):
    """When a model answers no segment of a batch, the server runs the self-test. If that fails too it exits without
    answering. No server starts while the machine stays broken, and on one that recovers everything is answered."""
    broken = server.folder / "broken"
    with server.client() as client:
        broken.touch()
        answers = background.submit(client.score, [make_utterance(1, "a"), make_utterance(1, "b")])
        server.restart(after=ExitCode.INTERNAL_ERROR)
        message = "model silero fails on this machine before any work: model_failed"
        assert server.ready_message["refused"].startswith(message)
        broken.unlink()
        assert server.process.wait(60) == ExitCode.BAD_INPUT
        server.process.stdout.close()
        server.start()
        assert outcomes(answers.result(60)) == ["a", "b"]


def test_batch_of_failing_segments_leaves_the_server_alive(server):
    """The self-test passes, so the failure is that of the segments."""
    with server.client() as client:
        assert outcomes(client.score([make_utterance(1, "poison")] * 3)) == ["model_failed"] * 3
    assert server.process.poll() is None


def test_stopped_server_counts_no_crash(server, background):
    """However often SIGTERM stops the server in the middle of a batch, the segments of the batch count no crash."""
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(1, "wait")])
        for _ in range(3):
            server.wait_for("wait")
            server.log.unlink()
            assert server.end() == 0
            server.start()
        server.gate.touch()
        assert outcomes(answers.result(60)) == ["wait"]


def test_server_killed_from_outside_costs_no_answer(server, background):
    """A segment that was being scored when the server was killed twice is scored alone, and answered."""
    with server.client() as client:
        answers = background.submit(client.score, [make_utterance(1, "wait")])
        for _ in range(2):
            server.wait_for("wait")
            server.log.unlink()
            server.kill()
            server.start()
        server.gate.touch()
        assert outcomes(answers.result(60)) == ["wait"]


def test_frozen_server_goes_on_when_it_is_thawed(server, background):
    """After a suspension no answer changes and no segment is scored twice."""
    with server.client() as client:
        answers = background.submit(client.score, WORKLOAD)
        server.wait_for("wait")
        server.process.send_signal(signal.SIGSTOP)
        server.gate.touch()
        assert not answers.done()
        server.process.send_signal(signal.SIGCONT)
        assert outcomes(answers.result(60)) == TEXTS
    assert sorted(text for batch in server.batches() for text in batch) == sorted(TEXTS)


def test_request_sent_again_is_not_scored_again(server):
    """A request whose connection broke while its batch ran, or after it was scored, gets the answer of that batch."""
    arena = Arena(1 << 20)
    arena.write(0, make_utterance(1, "wait").audio)
    request = pack_frame({"request": ["an-id", 0, 16_000, "wait", None, None]})
    answers = {}
    with closing(arena):
        for _ in range(2):
            with closing(ServerConnection(server.socket)) as connection:
                connection.handshake(arena)
                connection._socket.sendall(request)
                server.wait_for("wait")
        server.gate.touch()
        for _ in range(2):
            with closing(ServerConnection(server.socket)) as connection:
                connection.handshake(arena)
                exchange(connection, [request], answers)
    assert outcomes(answers.values()) == ["wait"]
    assert server.batches() == [["wait"]]


def test_absent_server_is_named_after_the_timeout(server):
    """The client's error names the socket; nothing is half done, so the same call may be made again."""
    with server.client(reconnect_timeout_s=0) as client:
        server.kill()
        with pytest.raises(ServerUnavailable, match=f"the inference server at {server.socket} is unreachable"):
            client.score([make_utterance(1, "a")])
        server.start()
        assert outcomes(client.score([make_utterance(1, "a")])) == ["a"]


def test_server_that_returns_with_other_weights_is_refused(server):
    """A shard names one revision of each model, so answers of two revisions are never mixed."""
    with server.client() as client:
        server.kill()
        server.environment["SCRIPTED_REVISION"] = "2"
        server.start()
        with pytest.raises(ServerRejectedClient, match="came back with other models"):
            client.score([make_utterance(1, "a")])
