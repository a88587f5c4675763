"""A host may die or hang in the middle of anything: nothing is lost, and what kills it is found."""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.support.inference_process import exchange, said, spoken
from validation.exit_codes import ExitCode
from validation.inference.protocol import pack_frame
from validation.inference.shared_memory import Arena
from validation.inference.transport import ServerConnection, ServerRejectedClient, ServerUnavailable

CROWD = [spoken(3, "wait"), *(spoken(1 + n / 8, f"{n}") for n in range(30))]
TEXTS = [utterance.text for utterance in CROWD]


@pytest.fixture
def aside():
    """A thread for the client, which waits while the test breaks things."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_host_killed_in_the_middle_of_a_request_loses_nothing(host, aside):
    """Its client waits for the next host, asks again what was not answered, and gets every answer, each its own."""
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, CROWD)
        host.wait_for("wait")
        host.kill()
        host.gate.touch()
        host.start()
        assert said(answers.result(60)) == TEXTS
        assert said(scorer.score(CROWD)) == TEXTS


def test_a_segment_that_kills_its_host_is_given_up_and_nothing_else(host, aside):
    """A model that takes the process along: what was in its hands is tried alone, and after three deaths the guilty
    one has no answer, and a reason. All others have theirs."""
    crowd = [spoken(1, "a"), spoken(1, "crash"), spoken(1, "b"), spoken(5, "c")]
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, crowd)
        for _ in range(3):
            host.restart()
        answers = answers.result(60)
    assert said(answers) == ["a", "model_crashed", "b", "c"]
    assert "died 3 times" in answers[1]["silero"].fault.message
    assert sum("crash" in batch for batch in host.batches()) == 3
    assert host.batches().count(["crash"]) == 2


def test_a_card_that_fails_ends_its_host_and_costs_nobody_an_answer(host, aside):
    """What a library says of the card is no segment's failure: the host ends at the first call, the next one finds
    out whose company does it, and only that segment is given up."""
    crowd = [spoken(1, "a"), spoken(1, "card"), spoken(1, "b")]
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, crowd)
        for _ in range(3):
            host.restart(after=ExitCode.INTERNAL_ERROR)
        answers = answers.result(60)
    assert said(answers) == ["a", "model_crashed", "b"]
    assert sum("card" in batch for batch in host.batches()) == 3


def test_a_model_that_fails_on_everything_ends_its_host_before_anything_is_answered(host, aside):
    """Whatever its words: a batch of which it answers nothing is held against a segment that it bore at the start. On
    a machine that stays broken no host serves, and on one that recovers all is answered."""
    broken = host.folder / "broken"
    with host.scorer() as scorer:
        broken.touch()
        answers = aside.submit(scorer.score, [spoken(1, "a"), spoken(1, "b")])
        host.restart(after=ExitCode.INTERNAL_ERROR)
        assert host.told["refused"].startswith("model silero fails on this machine before any work: model_failed")
        broken.unlink()
        assert host.process.wait(60) == 2
        host.process.stdout.close()
        host.start()
        assert said(answers.result(60)) == ["a", "b"]


def test_a_batch_of_poison_alone_leaves_its_host_alive(host):
    """Its model bears the segment that it is known to bear, so the fault is theirs."""
    with host.scorer() as scorer:
        assert said(scorer.score([spoken(1, "poison")] * 3)) == ["model_failed"] * 3
    assert host.process.poll() is None


def test_a_host_that_is_ended_in_the_middle_of_a_batch_convicts_nobody(host, aside):
    """Who is told to end has not died: however often a machine is stopped, no segment counts a death."""
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, [spoken(1, "wait")])
        for _ in range(3):
            host.wait_for("wait")
            host.log.unlink()
            assert host.end() == 0
            host.start()
        host.gate.touch()
        assert said(answers.result(60)) == ["wait"]


def test_a_death_that_somebody_else_caused_convicts_nobody(host, aside):
    """A segment that was in hand when the host was killed from outside is scored alone, and answered."""
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, [spoken(1, "wait")])
        for _ in range(2):
            host.wait_for("wait")
            host.log.unlink()
            host.kill()
            host.start()
        host.gate.touch()
        assert said(answers.result(60)) == ["wait"]


def test_a_host_that_is_frozen_for_a_while_goes_on(host, aside):
    """As a machine that is suspended: no answer changes, nothing is asked twice."""
    with host.scorer() as scorer:
        answers = aside.submit(scorer.score, CROWD)
        host.wait_for("wait")
        host.process.send_signal(signal.SIGSTOP)
        host.gate.touch()
        assert not answers.done()
        host.process.send_signal(signal.SIGCONT)
        assert said(answers.result(60)) == TEXTS
    assert sorted(text for batch in host.batches() for text in batch) == sorted(TEXTS)


def test_what_is_asked_again_is_not_scored_again(host):
    """An ask whose connection broke while the models had it in hand, or after they were done with it, is answered from
    what they said."""
    arena = Arena(1 << 20)
    arena.write(0, spoken(1, "wait").audio)
    ask = pack_frame({"ask": ["an-id", 0, 16_000, "wait", None, None]})
    answers = {}
    with closing(arena):
        for _ in range(2):
            with closing(ServerConnection(host.socket)) as link:
                link.greet(arena)
                link._socket.sendall(ask)
                host.wait_for("wait")
        host.gate.touch()
        for _ in range(2):
            with closing(ServerConnection(host.socket)) as link:
                link.greet(arena)
                exchange(link, [ask], answers)
    assert said(answers.values()) == ["wait"]
    assert host.batches() == [["wait"]]


def test_a_host_that_stays_away_is_named(host):
    """After its patience a client says who does not answer; nothing is half done, so it may be called again."""
    with host.scorer(patience_s=0) as scorer:
        host.kill()
        with pytest.raises(ServerUnavailable, match=f"the model host at {host.socket} is unreachable"):
            scorer.score([spoken(1, "a")])
        host.start()
        assert said(scorer.score([spoken(1, "a")])) == ["a"]


def test_a_host_that_comes_back_with_other_weights_is_not_believed(host):
    """One shard names one revision of each model: answers of two are never mixed."""
    with host.scorer() as scorer:
        host.kill()
        host._environment["TOY_REVISION"] = "2"
        host.start()
        with pytest.raises(ServerRejectedClient, match="came back with other models"):
            scorer.score([spoken(1, "a")])
