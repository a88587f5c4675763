"""Answers of the inference server equal the answers of its suite in the client's own process."""

import json
import os
import stat
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tests.support.inference_process import REAL_SERVER, make_utterance, outcomes
from validation.cli.main import main
from validation.domain import Utterance
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.local.sample_corpus import decode_clip, load_clips
from validation.models.suite import load_suite

NOISE = np.random.default_rng(5).normal(0, 0.1, 160_000).astype(np.float32)


def make_workload() -> list[Utterance]:
    """Make real speech, noise of many lengths, and audio that no model can be given."""
    clips = [Utterance(decode_clip(name), clip.text, "en") for name, clip in load_clips().items()]
    noises = [Utterance(NOISE[:n], f"noise {n}", None) for n in (1600, 1601, 5000, 40_000, 160_000)]
    not_finite = Utterance(np.full(16_000, np.nan, np.float32), "nan", "hi")
    broken = [make_utterance(0, "nothing"), make_utterance(0.05, "short"), not_finite]
    return [*clips, *broken, *noises, make_utterance(1, "half a pair \udcff", "\udcff")]


def test_inference_server_answers_as_its_suite(start_server):
    """The client describes the suite as the suite does, and gets bit for bit what the suite answers in this process."""
    server, suite = start_server(command=REAL_SERVER, VFLEET_SUITE="vad"), load_suite("vad")
    with server.client() as client:
        for attribute in ("name", "roles", "rules", "revisions", "columns"):
            assert getattr(client, attribute) == getattr(suite, attribute), attribute
        assert client.score(make_workload()) == suite.score(make_workload())
        assert client.score([]) == []


def test_flow_process_with_an_inference_server_loads_no_model(shared_server):
    """The scorer of a chunk finds the server by its environment variable, and imports no model library.

    Without work it needs neither pyarrow nor FFmpeg, which take a fifth of the start of a flow process.
    """
    program = (
        "import sys; from validation.worker.chunk.open import open_scorer\n"
        "with open_scorer('local') as scorer: assert scorer.name == 'scripted'\n"
        "models = {'ctranslate2', 'onnxruntime', 'faster_whisper', 'torch', 'transformers'}\n"
        "assert not (models | {'av', 'pyarrow', 'polars', 'alembic'}) & set(sys.modules)"
    )
    environment = {**os.environ, INFERENCE_SOCKET_VARIABLE: str(shared_server.socket)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_failing_segment_costs_no_other_segment_its_answer(shared_server):
    """The failure of a model stays with its segment; answers have the order of the utterances."""
    with shared_server.client() as client:
        texts = ["a", "poison", "b", "c"]
        answers = client.score([make_utterance(1 + n, text) for n, text in enumerate(texts)])
    assert outcomes(answers) == ["a", "model_failed", "b", "c"]


def test_more_audio_than_the_arena_holds_is_sent_in_waves(shared_server):
    """Only a segment that is longer than the whole arena is `too_long`."""
    with shared_server.client(arena_bytes=4 * 16_000 * 3) as client:  # three seconds
        answers = client.score([make_utterance(s, f"{s}") for s in (1, 2, 2, 0.5, 4, 3, 1)])
    assert outcomes(answers) == ["1", "2", "2", "0.5", "too_long", "3", "1"]


def test_out_of_memory_halves_the_budget_persistently(start_server):
    """The warm-up finds it before any client comes; the batch is answered in halves; the next process starts with the
    smaller budget."""
    memory = {"SCRIPTED_BUDGET_S": "40", "SCRIPTED_MEMORY_S": "25"}
    server = start_server(**memory)
    assert server.status()["out_of_memory"] == 1
    halved_s = server.status()["budget_s"]
    assert halved_s == pytest.approx(3 * (10 + 100 / 161) / 2)
    with server.client() as client:
        assert outcomes(client.score([make_utterance(6, f"{n}") for n in range(9)])) == [f"{n}" for n in range(9)]
    assert max(map(len, server.batches())) == 2
    server.end()
    server.start()
    assert (server.status()["budget_s"], server.status()["out_of_memory"]) == (halved_s, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"VFLEET_SUITE": "tyo"}, "no suite is called 'tyo'"),
        ({"SCRIPTED_MEMORY_S": "1"}, "model silero fails on this machine before any work: out_of_memory"),
        ({"VFLEET_LEASE_S": "soon"}, "setting lease_s is 'soon'"),
    ],
)
def test_server_that_cannot_serve_says_why_and_exits(start_server, settings, message):
    """It prints one line on standard output for its worker, exits with a code, and leaves no socket."""
    server = start_server(**settings)
    assert server.ready_message["refused"].startswith(message)
    assert server.process.wait(60) == 2
    server.process.stdout.close()
    assert not server.socket.exists()


def test_only_its_own_user_can_connect(shared_server):
    """The modes of the folder and of the socket exclude other users."""
    assert stat.S_IMODE(shared_server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared_server.socket.parent.stat().st_mode) == 0o700


def test_commands_print_the_status_and_the_metrics(server, capsys):
    """`status` prints the counters as JSON, `metrics` the same counters in the Prometheus text format."""
    with server.client() as client:
        client.score([make_utterance(4, "a"), make_utterance(3, "poison"), make_utterance(2, "b")])
    print_status = partial(main, ["inference", "status", "--socket", str(server.socket)])
    assert print_status() == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["audio_s"], status["padded_s"], status["models"]["silero"]["faults"]) == (9.0, 10.0, 1)
    assert status["queue"] == {"segments": 0, "audio_s": 0.0, "oldest_s": 0.0}

    assert main(["inference", "metrics", "--socket", str(server.socket)]) == 0
    lines = capsys.readouterr().out.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(samples["vfleet_inference_audio_seconds_total"]) == 9.0
    assert float(samples['vfleet_inference_model_faults_total{model="silero"}']) == 1
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == {name.split("{")[0] for name in samples}

    server.end()
    assert print_status() == 3
    assert f"the inference server at {server.socket} is unreachable" in capsys.readouterr().err
