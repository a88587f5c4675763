"""What a client of a host is told: what the suite would have said in its own process."""

import json
import os
import stat
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tests.support.inference_process import REAL_HOST, said, spoken
from validation.cli.main import main
from validation.domain import Utterance
from validation.inference.address import INFERENCE_SOCKET_VARIABLE
from validation.local.sample_corpus import decode_clip, load_clips
from validation.models.suite import load_suite

NOISE = np.random.default_rng(5).normal(0, 0.1, 160_000).astype(np.float32)


def audible() -> list[Utterance]:
    """Real speech, noise of many lengths, and all that cannot be heard."""
    clips = [Utterance(decode_clip(name), clip.text, "en") for name, clip in load_clips().items()]
    noises = [Utterance(NOISE[:n], f"noise {n}", None) for n in (1600, 1601, 5000, 40_000, 160_000)]
    broken = [spoken(0, "nothing"), spoken(0.05, "short"), Utterance(np.full(16_000, np.nan, np.float32), "nan", "hi")]
    return [*clips, *broken, *noises, spoken(1, "half a pair \udcff", "\udcff")]


def test_a_host_is_its_suite_elsewhere(start_host):
    """It introduces itself as the suite does, and answers bit for bit what the suite answers in this process."""
    host, suite = start_host(command=REAL_HOST, VFLEET_SUITE="vad"), load_suite("vad")
    with host.scorer() as scorer:
        for fact in ("name", "roles", "rules", "revisions", "columns"):
            assert getattr(scorer, fact) == getattr(suite, fact), fact
        assert scorer.score(audible()) == suite.score(audible())
        assert scorer.score([]) == []


def test_a_flow_process_with_a_host_loads_no_model(shared_host):
    """What opens a chunk's scorer finds the host by its variable, and imports nothing that a model needs."""
    program = (
        "import sys; from validation.worker.chunk.open import open_scorer\n"
        "with open_scorer('local') as scorer: assert scorer.name == 'toy'\n"
        "assert not {'ctranslate2', 'onnxruntime', 'faster_whisper', 'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {**os.environ, INFERENCE_SOCKET_VARIABLE: str(shared_host.socket)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_one_bad_segment_costs_nobody_an_answer(shared_host):
    """A model's failure stays with its segment; answers come in the order of the questions."""
    with shared_host.scorer() as scorer:
        texts = ["a", "poison", "b", "c"]
        answers = scorer.score([spoken(1 + n, text) for n, text in enumerate(texts)])
    assert said(answers) == ["a", "model_failed", "b", "c"]


def test_more_audio_than_the_arena_holds_goes_in_waves(shared_host):
    """A client has one arena, of any size; only a segment that exceeds it by itself is told that it is too long."""
    with shared_host.scorer(arena_bytes=4 * 16_000 * 3) as scorer:  # three seconds
        answers = scorer.score([spoken(s, f"{s}") for s in (1, 2, 2, 0.5, 4, 3, 1)])
    assert said(answers) == ["1", "2", "2", "0.5", "too_long", "3", "1"]


def test_memory_that_does_not_suffice_halves_the_budget_for_good(start_host):
    """It shows in the trial, before any client; the batch is answered in halves; the next life starts with less."""
    memory = {"TOY_BUDGET_S": "40", "TOY_MEMORY_S": "25"}
    host = start_host(**memory)
    assert host.status()["overruns"] == 1
    halved_s = host.status()["budget_s"]
    assert halved_s == pytest.approx(3 * (10 + 100 / 161) / 2)
    with host.scorer() as scorer:
        assert said(scorer.score([spoken(6, f"{n}") for n in range(9)])) == [f"{n}" for n in range(9)]
    assert max(map(len, host.batches())) == 2
    host.end()
    host.start()
    assert (host.status()["budget_s"], host.status()["overruns"]) == (halved_s, 0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"VFLEET_SUITE": "tyo"}, "no suite is called 'tyo'"),
        ({"TOY_MEMORY_S": "1"}, "model silero fails on this machine before any work: out_of_memory"),
        ({"VFLEET_LEASE_S": "soon"}, "setting lease_s is 'soon'"),
    ],
)
def test_a_host_that_cannot_serve_says_why_and_ends(start_host, settings, sentence):
    """One sentence on standard output for its worker, an exit code, and no socket."""
    host = start_host(**settings)
    assert host.told["refused"].startswith(sentence)
    assert host.process.wait(60) == 2
    host.process.stdout.close()
    assert not host.socket.exists()


def test_only_its_user_reaches_a_host(shared_host):
    """Neither the folder nor the socket in it lets anybody else in."""
    assert stat.S_IMODE(shared_host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared_host.socket.parent.stat().st_mode) == 0o700


def test_an_operator_sees_what_a_host_does(host, capsys):
    """The command prints counters as JSON, and the same as lines that Prometheus reads."""
    with host.scorer() as scorer:
        scorer.score([spoken(4, "a"), spoken(3, "poison"), spoken(2, "b")])
    ask = partial(main, ["host", "--socket", str(host.socket), "status"])
    assert ask() == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["audio_s"], status["padded_s"], status["models"]["silero"]["faults"]) == (9.0, 10.0, 1)
    assert status["queue"] == {"segments": 0, "audio_s": 0.0, "oldest_s": 0.0}

    assert main(["inference", "metrics", "--socket", str(host.socket)]) == 0
    lines = capsys.readouterr().out.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(samples["vfleet_host_audio_seconds_total"]) == 9.0
    assert float(samples['vfleet_host_model_faults_total{model="silero"}']) == 1
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == {name.split("{")[0] for name in samples}

    host.end()
    assert ask() == 3
    assert f"the model host at {host.socket} is unreachable" in capsys.readouterr().err
