"""Measure the speed-up by batching, compared with a baseline that does the same work.

    make bench        (or: python bench/throughput.py [--videos 4] [--rounds 3])

Both variants read the same tars and run the same weights of IndicConformer, MMS-LID and VoxLingua107 on one thread. The
variant `plain` (bench/baseline.py) processes one video after another, in batches of 32 segments in their order. The
variant `ours` is the suite of this project. It pools the segments of all videos, sorts them by length, fills a budget
of padded seconds, and prefetches downloads. The suite runs in this process and also in the inference server. Before
that, a parity check ensures that batching does not change the answer of a segment.

THE WEIGHTS ARE RANDOM AND SMALL: the networks have the real architectures and file layouts, but a thousandth of the
size. The segments have a quarter of the real lengths. The ratio is the speed-up by batching on one CPU core. It is not
the speed in production, and excludes half precision and GPUs, which bench/gpu.py measures.

DNSMOS is left out, because the two variants would compute different results: the baseline moves its window by 1 s, the
suite by 9 s. Its network exists in one size only, and would take most of the time of both variants.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # read when torch is imported

import psutil
import torch
from baseline import BATCH, STOCK
from throughput_report import Cost, report
from workload import Workload, make_workload

from validation.domain import Scored, Utterance
from validation.hardware.device import DeviceConfig
from validation.models.batching import measure_padding, pad_batch, plan_batches
from validation.models.conformer.model import IndicConformer
from validation.models.mms_lid import MmsLid
from validation.models.suite import Suite
from validation.models.suites import SUITES
from validation.models.voxlingua import VoxLingua107
from validation.scoring.rules_io import load_rules
from validation.scoring.signals import SuiteRoles

BUDGET_S = SUITES["indic"].budget_s
DOWNLOAD_S, WRITE_S = 0.25, 0.05
"""Simulated latency of the object store in seconds: per download of a video, and per written row group of a shard."""
FETCHERS = 4
TOLERANCE, PARITY_SEGMENTS = 1e-5, 16

Score = Callable[[Sequence[Utterance]], object]
Order = Callable[[Sequence[Sequence[Utterance]]], Iterator[list[Utterance]]]


@dataclass(frozen=True)
class Arm:
    """One variant of the work: the functions that score per model, and the order of the segments."""

    name: str
    score: Mapping[str, Score]
    order: Order
    pooled: bool = False
    """Whether the segments of all videos are batched together."""
    ahead: bool = False
    """Whether videos are fetched and rows are written while other videos are scored."""


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        work = make_workload(Path(folder), options.videos)
        stock = {name: make(work.weights) for name, make in STOCK.items()}
        models = load_models(work.weights)
        ours = {model.name: lambda utterances, model=model: model.score(pad_batch(utterances)) for model in models}
        parity = check_parity(work, stock, ours)
        arms = make_arms(stock, ours)
        rounds = [{name: run_arm(arms[name], work) for name in ("plain", "ours")} for _ in range(options.rounds)]
        ladder = {name: run_arm(arm, work) for name, arm in arms.items() if name not in rounds[0]}
        served = run_served(work, options.rounds)
        report(work, arms=list(arms), parity=parity, rounds=rounds, ladder=ladder, served=served)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def load_models(weights: Path) -> list:
    placed = {"threads": 1, "root": weights, "device_config": DeviceConfig()}
    return [IndicConformer(**placed), MmsLid(**placed), VoxLingua107(**placed)]


# --- parity -------------------------------------------------------------------------------------------------------


def check_parity(work: Workload, stock: Mapping[str, Score], ours: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """Score the segments of one video with both variants, as a batch and one by one. Check the answers of `ours`.

    Returns:
        By variant and model, the greatest difference of a number between the batch and the single segment. It is
        infinite if a text or a language differs.
    """
    utterances = work.fetch(work.videos[0])[:PARITY_SEGMENTS]
    differences: dict[str, dict[str, float]] = {}
    for arm, nets in {"plain": stock, "ours": ours}.items():
        differences[arm] = {}
        for model, score in nets.items():
            batched, single = score(utterances), [score([utterance])[0] for utterance in utterances]
            differences[arm][model] = max(differ(one, other) for one, other in zip(batched, single, strict=True))
    for model, difference in differences["ours"].items():
        assert difference <= TOLERANCE, f"{model}: batching changes an answer by {difference}"
    return differences


def differ(one: object, other: object) -> float:
    before, after = (values.values if isinstance(values, Scored) else values for values in (one, other))
    numbers = [abs(value - after[k]) for k, value in before.items() if isinstance(value, float)]
    same = all(value == after[k] for k, value in before.items() if not isinstance(value, float))
    return max(numbers, default=0.0) if same else float("inf")


# --- arms ---------------------------------------------------------------------------------------------------------


def make_arms(stock: Mapping[str, Score], ours: Mapping[str, Score]) -> dict[str, Arm]:
    """Make the variants: `plain`, the steps to `ours` with one change each, `ours`, and `ours` with a cascade."""
    plain = Arm("plain", stock, in_order)
    ladder = [
        plain,
        replace(plain, name="+ fetch ahead", ahead=True),
        replace(plain, name="+ sort each video", order=sorted_in_video),
        replace(plain, name="+ pool and budget", order=pooled_by_budget, pooled=True),
        replace(plain, name="+ our networks", score=ours),
        Arm("ours", ours, pooled_by_budget, pooled=True, ahead=True),
        Arm("ours, MMS for 1 in 10", skip_nine_of_ten(ours), pooled_by_budget, pooled=True, ahead=True),
    ]
    return {arm.name: arm for arm in ladder}


def skip_nine_of_ten(ours: Mapping[str, Score]) -> dict[str, Score]:
    """Imitate a cascade that skips MMS-LID for nine of ten segments. The other segments are not batched anew."""
    return {**ours, "mms": lambda utterances: ours["mms"](utterances[::10])}


def in_order(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    for segments in videos:
        for start in range(0, len(segments), BATCH):
            yield list(segments[start : start + BATCH])


def sorted_in_video(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    return in_order([sorted(segments, key=lambda u: -u.duration_s) for segments in videos])


def pooled_by_budget(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    pool = [utterance for segments in videos for utterance in segments]
    for rows in plan_batches([u.duration_s for u in pool], BUDGET_S, min_padded_s=SUITES["indic"].min_padded_s):
        yield [pool[row] for row in rows]


def run_arm(arm: Arm, work: Workload) -> Cost:
    """Download, score and write all videos with one variant, and return its cost."""
    cost = Cost(model_cpu_s=dict.fromkeys(arm.score, 0.0))
    with metered(cost), ThreadPoolExecutor(FETCHERS) as threads:
        fetched = threads.map(lambda video: download(work, video), work.videos) if arm.ahead else None
        videos = fetched or (download(work, video) for video in work.videos)
        written = []
        for wave in [list(videos)] if arm.pooled else ([segments] for segments in videos):
            for batch in arm.order(wave):
                score_all(arm, batch, cost)
            for _ in wave:
                write = threads.submit(time.sleep, WRITE_S)
                written.append(write if arm.ahead else write.result())
    return cost


def download(work: Workload, video: object) -> list[Utterance]:
    time.sleep(DOWNLOAD_S)
    return work.fetch(video)


def score_all(arm: Arm, batch: list[Utterance], cost: Cost) -> None:
    cost.padding_stats += measure_padding([utterance.duration_s for utterance in batch])
    for model, score in arm.score.items():
        before_s = time.thread_time()
        score(batch)
        cost.model_cpu_s[model] += time.thread_time() - before_s


@contextmanager
def metered(cost: Cost) -> Iterator[None]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s


# --- the inference server -----------------------------------------------------------------------------------------


def run_served(work: Workload, rounds: int) -> dict[str, list[Cost]]:
    """Score alternately in this process and through the inference server. CPU time is that of both processes."""
    from validation.inference.client import InferenceClient

    suite, costs = make_suite(work.weights), {"suite": [], "server": []}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        path = Path(folder) / "socket"
        server = get_context("spawn").Process(target=serve_suite, args=(work.weights, path), daemon=True)
        server.start()
        try:
            with InferenceClient(path) as client, ThreadPoolExecutor(FETCHERS) as threads:
                utterances = [u for segments in threads.map(work.fetch, work.videos) for u in segments]
                check_served(client.score(utterances), suite.score(utterances))
                for _ in range(rounds):
                    for name, scorer in (("suite", suite), ("server", client)):
                        costs[name].append(measure_scorer(scorer, utterances, psutil.Process(server.pid)))
        finally:
            server.terminate()
            server.join()
    return costs


def check_served(served: Sequence[Mapping[str, object]], expected: Sequence[Mapping[str, object]]) -> None:
    """Compare the answers of the server with those of the suite, within ``TOLERANCE``, because batches may differ."""
    for own, other in zip(served, expected, strict=True):
        assert own.keys() == other.keys(), "the server has other models"
        for model, answer in own.items():
            difference = differ(answer, other[model])
            assert difference <= TOLERANCE, f"{model}: the server changes an answer by {difference}"


def measure_scorer(scorer: "Suite", utterances: Sequence[Utterance], server: psutil.Process) -> Cost:
    cost, before_s = Cost(), sum(server.cpu_times()[:2])
    with metered(cost):
        scorer.score(utterances)
    cost.cpu_s += sum(server.cpu_times()[:2]) - before_s
    return cost


def make_suite(weights: Path) -> Suite:
    """Make the suite `indic` without DNSMOS."""
    models = load_models(weights)
    roles = SuiteRoles(tuple(model.name for model in models), "conformer", ("conformer", "mms", "voxlingua"))
    min_padded_s = SUITES["indic"].min_padded_s
    return Suite(
        "bench", models, roles=roles, rules=load_rules("indic-1"), budget_s=BUDGET_S, min_padded_s=min_padded_s
    )


def serve_suite(weights: Path, path: Path) -> None:
    from validation.inference.__main__ import exit_at_once, serve

    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as discarded:
        serve(make_suite(weights), path, discarded)
    exit_at_once(0)


if __name__ == "__main__":
    main()
