"""What batching well is worth, against the plain way of doing the same work.

    make bench        (or: python bench/throughput.py [--videos 4] [--rounds 3])

Both arms read the same tars and run the same weights of IndicConformer, MMS-LID and VoxLingua107 on one thread. The
plain arm (bench/naive.py) takes one video after the other and 32 segments as they come; ours is the suite: pooled over
videos, longest first, a budget of padded seconds, downloads ahead; once in this process and once in the model host.
Before time counts, ours must say of every segment in company what it says of it alone.

THE WEIGHTS ARE RANDOM AND SMALL: the networks have the real architectures and file layouts at a thousandth of the
size, and segments a quarter of the real lengths. The ratio is what the batching is worth on one CPU core. It is not
the speed of production, and says nothing of half precision or of a card (bench/gpu.py does).

DNSMOS is left out: both arms would compute different things (the plain way moves its window by a second, ours by nine),
and its network, which there is in one size only, would take most of the time of both.
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
from naive import BATCH, STOCK
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
"""What an object store makes a video wait, and a shard's row group."""
FETCHERS = 4
TOLERANCE, PARITY_SEGMENTS = 1e-5, 16

Ask = Callable[[Sequence[Utterance]], object]
Order = Callable[[Sequence[Sequence[Utterance]]], Iterator[list[Utterance]]]


@dataclass(frozen=True)
class Arm:
    """A way to do the work, by what it does differently."""

    name: str
    ask: Mapping[str, Ask]
    order: Order
    pooled: bool = False
    """Whether segments of all videos wait for each other."""
    ahead: bool = False
    """Whether videos are fetched while others are scored, and rows written meanwhile."""


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        work = make_workload(Path(folder), options.videos)
        stock = {name: make(work.weights) for name, make in STOCK.items()}
        models = load_models(work.weights)
        ours = {model.name: lambda asked, model=model: model.score(pad_batch(asked)) for model in models}
        parity = check_parity(work, stock, ours)
        arms = make_arms(stock, ours)
        rounds = [{name: run_arm(arms[name], work) for name in ("plain", "ours")} for _ in range(options.rounds)]
        ladder = {name: run_arm(arm, work) for name, arm in arms.items() if name not in rounds[0]}
        hosted = run_hosted(work, options.rounds)
        report(work, arms=list(arms), parity=parity, rounds=rounds, ladder=ladder, hosted=hosted)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def load_models(weights: Path) -> list:
    placed = {"threads": 1, "root": weights, "device_config": DeviceConfig()}
    return [IndicConformer(**placed), MmsLid(**placed), VoxLingua107(**placed)]


# --- parity: before time counts -----------------------------------------------------------------------------------


def check_parity(work: Workload, stock: Mapping[str, Ask], ours: Mapping[str, Ask]) -> dict[str, dict[str, float]]:
    """Ask both arms about one video's segments, together and one by one; ours may not differ.

    Returns:
        By arm and model, the greatest difference of any number between company and solitude; infinite where a text or
        a language is another one.
    """
    asked = work.fetch(work.videos[0])[:PARITY_SEGMENTS]
    found: dict[str, dict[str, float]] = {}
    for arm, nets in {"plain": stock, "ours": ours}.items():
        found[arm] = {}
        for model, ask in nets.items():
            together, alone = ask(asked), [ask([utterance])[0] for utterance in asked]
            found[arm][model] = max(differ(one, other) for one, other in zip(together, alone, strict=True))
    for model, difference in found["ours"].items():
        assert difference <= TOLERANCE, f"{model}: company moves an answer by {difference}"
    return found


def differ(one: object, other: object) -> float:
    before, after = (values.values if isinstance(values, Scored) else values for values in (one, other))
    numbers = [abs(value - after[k]) for k, value in before.items() if isinstance(value, float)]
    same = all(value == after[k] for k, value in before.items() if not isinstance(value, float))
    return max(numbers, default=0.0) if same else float("inf")


# --- arms ---------------------------------------------------------------------------------------------------------


def make_arms(stock: Mapping[str, Ask], ours: Mapping[str, Ask]) -> dict[str, Arm]:
    """The two that are compared, and a ladder: the plain way with one thing done as we do it; a cascade."""
    plain = Arm("plain", stock, as_they_come)
    ladder = [
        plain,
        replace(plain, name="+ fetch ahead", ahead=True),
        replace(plain, name="+ sort each video", order=sorted_in_video),
        replace(plain, name="+ pool and budget", order=pooled_by_budget, pooled=True),
        replace(plain, name="+ our networks", ask=ours),
        Arm("ours", ours, pooled_by_budget, pooled=True, ahead=True),
        Arm("ours, MMS for 1 in 10", spare_nine(ours), pooled_by_budget, pooled=True, ahead=True),
    ]
    return {arm.name: arm for arm in ladder}


def spare_nine(ours: Mapping[str, Ask]) -> dict[str, Ask]:
    """What a cascade costs that settles nine segments of ten without MMS-LID; the rest travel in what were batches."""
    return {**ours, "mms": lambda asked: ours["mms"](asked[::10])}


def as_they_come(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    for segments in videos:
        for start in range(0, len(segments), BATCH):
            yield list(segments[start : start + BATCH])


def sorted_in_video(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    return as_they_come([sorted(segments, key=lambda u: -u.duration_s) for segments in videos])


def pooled_by_budget(videos: Sequence[Sequence[Utterance]]) -> Iterator[list[Utterance]]:
    pool = [utterance for segments in videos for utterance in segments]
    for rows in plan_batches([u.duration_s for u in pool], BUDGET_S, min_padded_s=SUITES["indic"].min_padded_s):
        yield [pool[row] for row in rows]


def run_arm(arm: Arm, work: Workload) -> Cost:
    """Download, infer and write all videos as an arm does."""
    cost = Cost(model_cpu_s=dict.fromkeys(arm.ask, 0.0))
    with metered(cost), ThreadPoolExecutor(FETCHERS) as threads:
        fetched = threads.map(lambda video: download(work, video), work.videos) if arm.ahead else None
        videos = fetched or (download(work, video) for video in work.videos)
        written = []
        for wave in [list(videos)] if arm.pooled else ([segments] for segments in videos):
            for batch in arm.order(wave):
                ask_all(arm, batch, cost)
            for _ in wave:
                write = threads.submit(time.sleep, WRITE_S)
                written.append(write if arm.ahead else write.result())
    return cost


def download(work: Workload, video: object) -> list[Utterance]:
    time.sleep(DOWNLOAD_S)
    return work.fetch(video)


def ask_all(arm: Arm, batch: list[Utterance], cost: Cost) -> None:
    cost.fill += measure_padding([utterance.duration_s for utterance in batch])
    for model, ask in arm.ask.items():
        before_s = time.thread_time()
        ask(batch)
        cost.model_cpu_s[model] += time.thread_time() - before_s


@contextmanager
def metered(cost: Cost) -> Iterator[None]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s


# --- the model host -----------------------------------------------------------------------------------------------


def run_hosted(work: Workload, rounds: int) -> dict[str, list[Cost]]:
    """Our arm through the model host: its process's CPU and this one's. Host and suite in turn, on the same pool."""
    from validation.inference.client import InferenceClient

    suite, costs = make_suite(work.weights), {"suite": [], "host": []}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        path = Path(folder) / "socket"
        host = get_context("spawn").Process(target=serve_suite, args=(work.weights, path), daemon=True)
        host.start()
        try:
            with InferenceClient(path) as client, ThreadPoolExecutor(FETCHERS) as threads:
                asked = [u for segments in threads.map(work.fetch, work.videos) for u in segments]
                check_hosted(client.score(asked), suite.score(asked))
                for _ in range(rounds):
                    for name, scorer in (("suite", suite), ("host", client)):
                        costs[name].append(measure_scorer(scorer, asked, psutil.Process(host.pid)))
        finally:
            host.terminate()
            host.join()
    return costs


def check_hosted(told: Sequence[Mapping[str, object]], expected: Sequence[Mapping[str, object]]) -> None:
    """Hold every answer of the host against the suite's own, by the measure of parity: batches may differ."""
    for own, other in zip(told, expected, strict=True):
        assert own.keys() == other.keys(), "the host asks other models"
        for model, answer in own.items():
            difference = differ(answer, other[model])
            assert difference <= TOLERANCE, f"{model}: the host moves an answer by {difference}"


def measure_scorer(scorer: "Suite", asked: Sequence[Utterance], host: psutil.Process) -> Cost:
    cost, before_s = Cost(), sum(host.cpu_times()[:2])
    with metered(cost):
        scorer.score(asked)
    cost.cpu_s += sum(host.cpu_times()[:2]) - before_s
    return cost


def make_suite(weights: Path) -> Suite:
    """`indic` without DNSMOS."""
    models = load_models(weights)
    roles = SuiteRoles(tuple(model.name for model in models), "conformer", ("conformer", "mms", "voxlingua"))
    min_padded_s = SUITES["indic"].min_padded_s
    return Suite(
        "bench", models, roles=roles, rules=load_rules("indic-1"), budget_s=BUDGET_S, min_padded_s=min_padded_s
    )


def serve_suite(weights: Path, path: Path) -> None:
    from validation.inference.__main__ import end, serve

    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nobody:
        serve(make_suite(weights), path, nobody)
    end(0)


if __name__ == "__main__":
    main()
