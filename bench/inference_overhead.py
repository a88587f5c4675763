"""Measure the overhead of the inference server compared with the same suite in the process of the caller.

    python bench/inference_overhead.py [--suite local] [--segments 60] [--rounds 3]

The segments are clips of the sample corpus, cut and repeated to the lengths of the demo. They are scored by
`Suite.score` in this process, and by `InferenceClient` through a server. The two run alternately, never at the same
time, with the same models and threads, and in waves as a chunk sends them. First the answers are compared; they must be
equal. CPU time is that of both processes. The overhead is the ratio of the total times minus 1. The script prints a
table and writes bench/out/inference_overhead.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from validation.domain import SAMPLE_RATE, Utterance
from validation.inference.client import InferenceClient
from validation.inference.client_io import read_status
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.local.sample_corpus import decode_clip, load_clips
from validation.models.suite import load_suite

OUT = Path(__file__).parent / "out"
WAVE = 20
"""Segments per call: about as many as a chunk of the demo sends at a time."""


@dataclass(frozen=True)
class Cost:
    """The wall time and CPU time of one pass over all segments."""

    wall_s: float
    cpu_s: float


def main() -> None:
    options = parse_options()
    utterances = make_segments(options.segments)
    audio_s = sum(utterance.duration_s for utterance in utterances)
    suite = load_suite(options.suite)
    with running_server(options.suite) as (socket, process), InferenceClient(socket) as client:
        arms = {"in process": suite.score, "inference server": client.score}
        answers = [score_all(score, utterances) for score in arms.values()]
        assert answers[0] == answers[1], "the arms disagree"
        costs: dict[str, list[Cost]] = {arm: [] for arm in arms}
        for turn in range(options.rounds):
            for arm in list(arms) if turn % 2 == 0 else reversed(arms):
                costs[arm].append(measure(arms[arm], utterances, [psutil.Process(), process]))
        status = read_status(socket)
    report(costs, suite.name, audio_s, status)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="local")
    parser.add_argument("--segments", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def make_segments(count: int) -> list[Utterance]:
    """Make segments of real speech with the lengths of the demo: log-normal with median 4 s, from 0.5 to 15 s."""
    rng = np.random.default_rng(4)
    clips = list(load_clips().items())
    lengths = np.clip(rng.lognormal(np.log(4), 0.6, count), 0.5, 15)
    utterances = []
    for n, length_s in enumerate(lengths):
        name, clip = clips[n % len(clips)]
        audio = decode_clip(name)
        repeats = -(-int(length_s * SAMPLE_RATE) // len(audio))
        utterances.append(Utterance(np.tile(audio, repeats)[: int(length_s * SAMPLE_RATE)], clip.text, name[:2]))
    return utterances


@contextmanager
def running_server(suite: str) -> Iterator[tuple[Path, psutil.Process]]:
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        socket = Path(folder) / "run" / "socket"
        environment = {**os.environ, INFERENCE_SOCKET_VARIABLE: str(socket), "VFLEET_SUITE": suite}
        command = [sys.executable, "-m", "validation.inference"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert "ready" in json.loads(process.stdout.readline())
            yield socket, psutil.Process(process.pid)
            process.terminate()


def score_all(score: Callable, utterances: list[Utterance]) -> list:
    waves = [utterances[start : start + WAVE] for start in range(0, len(utterances), WAVE)]
    return [answers for wave in waves for answers in score(wave)]


def measure(score: Callable, utterances: list[Utterance], processes: list[psutil.Process]) -> Cost:
    def cpu_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    wall, cpu = time.perf_counter(), cpu_s()
    score_all(score, utterances)
    return Cost(time.perf_counter() - wall, cpu_s() - cpu)


def report(costs: dict[str, list[Cost]], suite: str, audio_s: float, status: dict) -> None:
    sums = {arm: asdict(Cost(sum(c.wall_s for c in own), sum(c.cpu_s for c in own))) for arm, own in costs.items()}
    in_process, server = sums.values()
    print(f"suite {suite}, {audio_s:.0f} s of audio per pass, {len(next(iter(costs.values())))} passes per arm")
    print(f"{'arm':18} {'wall s':>8} {'CPU s':>8}   (per pass)")
    for arm, own in costs.items():
        wall_s, cpu_s = (statistics.mean(getattr(c, unit) for c in own) for unit in ("wall_s", "cpu_s"))
        print(f"{arm:18} {wall_s:8.3f} {cpu_s:8.3f}")
    overhead = {unit: server[unit] / in_process[unit] - 1 for unit in server}
    print(f"overhead of the inference server: {overhead['cpu_s']:+.2%} of CPU, {overhead['wall_s']:+.2%} of wall time")
    OUT.mkdir(exist_ok=True)
    raw = {arm: [asdict(cost) for cost in own] for arm, own in costs.items()}
    written = {"suite": suite, "audio_s": audio_s, "overhead": overhead, "raw": raw, "server": status}
    (OUT / "inference_overhead.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
