"""Print the tables and write the JSON file of the throughput benchmark."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from workload import Workload, draw_durations_s

from validation.domain import Seconds
from validation.models.batching import PaddingStats, measure_padding, plan_batches
from validation.models.suites import SUITES

OUT = Path(__file__).parent / "out"


@dataclass
class Cost:
    """The time and the padding of one variant for all videos. ``model_cpu_s`` is the CPU time per model."""

    wall_s: Seconds = 0.0
    cpu_s: Seconds = 0.0
    padding_stats: PaddingStats = field(default_factory=PaddingStats)
    model_cpu_s: dict[str, Seconds] = field(default_factory=dict)

    @property
    def padding(self) -> float:
        return self.padding_stats.padded_s / self.padding_stats.real_s


def report(
    work: Workload,
    *,
    arms: Sequence[str],
    parity: Mapping[str, Mapping[str, float]],
    rounds: Sequence[Mapping[str, Cost]],
    ladder: Mapping[str, Cost],
    served: Mapping[str, Sequence[Cost]],
) -> None:
    pairs = [{k: getattr(r["plain"], k) / getattr(r["ours"], k) for k in ("cpu_s", "wall_s")} for r in rounds]
    ratio = {k: statistics.median(pair[k] for pair in pairs) for k in ("cpu_s", "wall_s")}
    segments, audio_s = sum(v.segment_count for v in work.videos), rounds[0]["ours"].padding_stats.real_s
    print(
        f"{len(work.videos)} videos, {segments} segments, {audio_s:.0f} s of audio; random small weights, one thread\n"
    )
    print_parity(parity)
    compared = {name: median_cost(rounds, name) for name in rounds[0]}
    print_ladder({name: compared.get(name) or ladder[name] for name in arms}, segments)
    print_shares(median_cost(rounds, "plain"), median_cost(rounds, "ours"))
    for pair, costs in zip(pairs, rounds, strict=True):
        described = ", ".join(f"{arm} {cost.cpu_s:.2f} CPU s {cost.wall_s:.2f} s wall" for arm, cost in costs.items())
        print(f"pair: {described}; ratios {pair['cpu_s']:.2f} and {pair['wall_s']:.2f}")
    overheads = sorted(
        server.cpu_s / own.cpu_s - 1 for own, server in zip(served["suite"], served["server"], strict=True)
    )
    overhead = statistics.median(overheads)
    print(
        f"\ninference server: {overhead:+.1%} CPU against the same suite in this process on {segments} segments; "
        f"pairs from {overheads[0]:+.1%} to {overheads[-1]:+.1%}, so the resolution is half of that span"
    )
    chunk = chunk_padding()
    print(f"padded/real of a chunk of 50 videos with production lengths and 320 s per batch: {chunk:.3f}")
    print(f"\nCPU seconds: {ratio['cpu_s']:.2f} times less. Wall: {ratio['wall_s']:.2f} times less.")
    print("Random small weights on one CPU core: the speed-up by batching, not the speed of production.")
    write_json(parity, rounds, ladder, served, {"ratio": ratio, "server": overheads, "chunk_padding": chunk})


def median_cost(rounds: Sequence[Mapping[str, Cost]], arm: str) -> Cost:
    return sorted((round_[arm] for round_ in rounds), key=lambda cost: cost.cpu_s)[len(rounds) // 2]


def print_parity(parity: Mapping[str, Mapping[str, float]]) -> None:
    print("Greatest change of an answer by batching (inf: another text or language)")
    for arm, models in parity.items():
        print(f"  {arm:6}" + "".join(f"  {model} {difference:.1e}" for model, difference in models.items()))


def print_ladder(costs: Mapping[str, Cost], segments: int) -> None:
    columns = f"{'CPU s':>7} {'wall s':>7} {'segments/s':>11} {'padded/real':>12} {'CPU ratio':>10} {'wall ratio':>11}"
    print(f"\n{'arm':22} {columns}")
    plain = costs["plain"]
    for name, cost in costs.items():
        print(
            f"{name:22} {cost.cpu_s:7.2f} {cost.wall_s:7.2f} {segments / cost.wall_s:11.1f} {cost.padding:12.3f} "
            f"{plain.cpu_s / cost.cpu_s:10.2f} {plain.wall_s / cost.wall_s:11.2f}"
        )


def print_shares(plain: Cost, ours: Cost) -> None:
    print(f"\n{'model':12} {'share plain':>12} {'share ours':>11} {'CPU ratio':>10}")
    for model, cpu_s in plain.model_cpu_s.items():
        own_s = ours.model_cpu_s[model]
        shares = cpu_s / sum(plain.model_cpu_s.values()), own_s / sum(ours.model_cpu_s.values())
        print(f"{model:12} {shares[0]:12.0%} {shares[1]:11.0%} {cpu_s / own_s:10.2f}")
    print()


def chunk_padding() -> float:
    """Compute the padding of 50 videos with 100 segments each, with four times the lengths of the workload."""
    durations_s = [4 * s for s in draw_durations_s(np.random.default_rng(1), 5_000)]
    plan = plan_batches(durations_s, 320.0, min_padded_s=SUITES["indic"].min_padded_s)
    padding = sum((measure_padding([durations_s[row] for row in rows]) for rows in plan), PaddingStats())
    return padding.padded_s / padding.real_s


def write_json(parity, rounds, ladder, served, summary) -> None:
    def encode(value: object) -> object:
        return vars(value) if isinstance(value, Cost) else {"real_s": value.real_s, "padded_s": value.padded_s}

    OUT.mkdir(exist_ok=True)
    results = {"parity": parity, "rounds": rounds, "ladder": ladder, "served": served, **summary}
    (OUT / "throughput.json").write_text(json.dumps(results, indent=1, default=encode))
