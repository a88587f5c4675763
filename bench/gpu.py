"""Measure the throughput of the suite `indic` at full size on a GPU. A run takes less than eight minutes on an H200.

    python bench/gpu.py [--out FOLDER] [--segments 600] [--skip-server]
    python bench/gpu.py --tiny        (needs no GPU: small networks, every step runs, the numbers are meaningless)

Weights are random and made on the GPU, so texts and languages are meaningless, but times and memory are real. The steps
are, in order: the ceilings (matrix products and copies); the difference of batches from single segments, and the error
of half precision; the baseline (segments in their order, 32 per batch, one model after another, fp32); the ladder,
which adds one change at a time up to the production suite; batch budgets from 160 to 2560 s; a profile of production:
the top kernels, and the gaps on the time line of the GPU; the inference server with four clients, if its packages are
installed.

The script prints tables, and writes the result of each step to a JSON file at once. If a step fails, the error is
recorded and the next steps run.
"""

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this project is not installed on a rented GPU machine

import numpy as np
import torch
from gpu_models import PRODUCTION, TINY, Net, Plan, Sizes, gflop, make_nets, same_precision
from gpu_pipeline import run_apart, run_in_turn
from gpu_server import run_server
from gpu_timeline import describe_timeline, device_spans

from validation.domain import SAMPLE_RATE, Utterance
from validation.hardware.device import allowing_tf32
from validation.models.base import Batch
from validation.models.batching import pad_batch, plan_batches
from validation.models.compiled import compile_layers

BATCH = 32
START_BUDGET_S = 640.0
BUDGETS_S = (160.0, 320.0, 640.0, 1280.0, 2560.0)
TINY_S = 300.0
"""Divisor of the batch budgets for small networks without a GPU."""
ROUNDS = 3
LEFT_OUT = (
    "ONNX Runtime, which runs IndicConformer in production if VFLEET_CONFORMER_ENGINE is onnx",
    "speechbrain's own VoxLingua107 and ONNX Runtime's DNSMOS: here torch networks of the same shapes",
    "Silero VAD, decoding, downloads and shards",
)


def main() -> int:
    options = parse_options()
    device = "cuda" if torch.cuda.is_available() and not options.tiny else "cpu"
    sizes = TINY if options.tiny else Sizes()
    bench = Bench(device, sizes, make_utterances(options.segments, tiny=options.tiny), options.tiny)
    results = {"gpu": name_gpu(device), "torch": torch.__version__, "segments": options.segments, "tiny": options.tiny}
    results |= {"left out": LEFT_OUT, "failed": {}}
    options.out.mkdir(parents=True, exist_ok=True)
    for step in bench.steps(with_server=not options.skip_server):
        started_s = time.perf_counter()
        try:
            step(results.setdefault(step.__name__, {}))
        except Exception as error:  # noqa: BLE001 - one failing step must not waste an hour of a rented GPU
            traceback.print_exc()
            results["failed"][step.__name__] = f"{type(error).__name__}: {error}"
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1))
        print(f"[{step.__name__}: {time.perf_counter() - started_s:.0f} s]", flush=True)
    print_summary(results)
    return 1 if results["failed"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=600)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--skip-server", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    return parser.parse_args()


def name_gpu(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "no GPU: small networks on a CPU"


def make_utterances(count: int, *, tiny: bool) -> list[Utterance]:
    """Make utterances of noise, with log-normal lengths from 1 to 30 s and a mean of 10 s; if tiny, a tenth of that."""
    generator = np.random.default_rng(0)
    lengths_s = np.exp(generator.normal(np.log(7.8), 0.7, count)).clip(1.0, 30.0) / (10 if tiny else 1)
    noise = generator.normal(0, 0.1, int(30.0 * SAMPLE_RATE)).astype(np.float32)
    return [Utterance(noise[: int(s * SAMPLE_RATE)], "", "hi") for s in lengths_s]


def in_order(utterances: Sequence[Utterance]) -> Iterable[list[Utterance]]:
    return [list(utterances[start : start + BATCH]) for start in range(0, len(utterances), BATCH)]


def within_budget(utterances: Sequence[Utterance], budget_s: float) -> Iterable[list[Utterance]]:
    plan = plan_batches([u.duration_s for u in utterances], budget_s)
    return [[utterances[row] for row in rows] for rows in plan]


class Bench:
    """The steps of the benchmark on one device. The device holds networks of only one precision at a time."""

    def __init__(self, device: str, sizes: Sizes, utterances: list[Utterance], tiny: bool) -> None:
        self.device, self.sizes, self.utterances, self.tiny = device, sizes, utterances, tiny
        self.budget_s = 4.0 if tiny else START_BUDGET_S
        self.rounds = 1 if tiny else ROUNDS
        self.peak_flops = 1.0
        self._nets: tuple[Plan, bool, list[Net]] | None = None

    def steps(self, *, with_server: bool) -> Iterable[Callable[[dict], None]]:
        """Yield the steps in order. A step stores each result at once, so results before a failure are kept."""
        yield from (self.ceilings, self.parity, self.plain, self.ladder, self.budgets, self.profile)
        if with_server:
            yield self.server

    def ceilings(self, found: dict) -> None:
        """Measure the ceilings: products of 8192 x 8192 matrices per precision, in TFLOP/s, and a copy, in GB/s."""
        n = 256 if self.tiny else 8192
        for name, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("fp16", torch.float16, False),
            ("bf16", torch.bfloat16, False),
        ):
            with allowing_tf32(tf32):
                left, right = (torch.randn(n, n, device=self.device).to(dtype) for _ in range(2))
                found[name] = 2 * n**3 / self.time(lambda a=left, b=right: a @ b) / 1e12
        large = torch.empty(2**20 if self.tiny else 2**31, dtype=torch.uint8, device=self.device)
        found["copy_gb_per_s"] = 2 * large.numel() / self.time(large.clone) / 1e9
        self.peak_flops = found["fp16"] * 1e12
        print("ceilings: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))

    def parity(self, found: dict) -> None:
        """Measure the greatest differences of outputs: batch from single segments, and half precision from fp32.

        Production multiplies in TF32 where the other arms have float32.
        """
        utterances = self.utterances[: 8 if self.tiny else 64]
        batch, fine = pad_batch(utterances), {}
        for net in self.nets(same_precision(torch.float32)):
            fine[net.name] = net.outputs(batch)
            alone = [own for utterance in utterances for own in net.outputs(pad_batch([utterance]))]
            found[net.name] = {"batch against single": greatest_difference(fine[net.name], alone)}
        arms = {str(dtype): (same_precision(dtype), False) for dtype in (torch.float16, torch.bfloat16)}
        for name, (plan, tf32) in (arms | {"production": (PRODUCTION, True)}).items():
            for net in self.nets(plan, tf32=tf32):
                found[net.name][f"{name} against fp32"] = greatest_difference(net.outputs(batch), fine[net.name])
        for name, values in found.items():
            print(f"{name:10} " + "  ".join(f"{what} {value:.1e}" for what, value in values.items()))

    def plain(self, found: dict) -> None:
        """Measure the baseline in single precision without TF32."""
        batches = [pad_batch(utterances) for utterances in in_order(self.utterances)]
        found["plain fp32"] = self.measure("plain fp32", self.nets(same_precision(torch.float32)), batches, rounds=1)

    def ladder(self, found: dict) -> None:
        """Measure the steps from the baseline to the production suite, which add one change at a time.

        The first arms score one model after the other and wait for each. Then the batches are launched without waiting,
        with two in flight. Last, the layers are compiled; ``compile_s`` is the time of the compilation.
        """
        pooled = [pad_batch(utterances) for utterances in within_budget(self.utterances, self.budget_s)]
        single = same_precision(torch.float32)
        half_conformer = single | {"mms": torch.float16, "conformer": torch.float16}
        for name, plan, tf32 in (
            ("pooled fp32", single, False),
            ("+ MMS-LID fp16", single | {"mms": torch.float16}, False),
            ("+ Conformer fp16", half_conformer, False),
            ("+ others in TF32", PRODUCTION, True),
        ):
            found[name] = self.measure(name, self.nets(plan, tf32=tf32), pooled)
        nets = self.nets(PRODUCTION, tf32=True)
        found["+ nothing waits"] = self.measure("+ nothing waits", nets, pooled, apart=True)
        started_s = time.perf_counter()
        compile_layers(layers_of(nets), "inductor" if self.device == "cuda" else "eager")
        for batch in (pooled[0], pad_batch(self.utterances[:1])):
            run_in_turn(nets, [batch])
        compile_s = time.perf_counter() - started_s
        print(f"compiled in {compile_s:.0f} s", flush=True)
        found["+ compiled"] = self.measure("+ compiled", nets, pooled, apart=True) | {"compile_s": compile_s}

    def budgets(self, found: dict) -> None:
        """Measure production at several batch budgets."""
        scale = TINY_S if self.tiny else 1.0
        for budget_s in BUDGETS_S[:2] if self.tiny else BUDGETS_S:
            batches = [pad_batch(utterances) for utterances in within_budget(self.utterances, budget_s / scale)]
            nets = self.nets(PRODUCTION, tf32=True)
            found[budget_s] = self.measure(f"budget {budget_s:.0f} s", nets, batches, apart=True)

    def profile(self, found: dict) -> None:
        """Profile production on four batches: the top kernels, and how long the device had nothing to do."""
        plan = list(within_budget(self.utterances, self.budget_s))
        batches, nets = [pad_batch(utterances) for utterances in plan[:4]], self.nets(PRODUCTION, tf32=True)
        run_apart(nets, batches, self.device)
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CUDA if self.device == "cuda" else activity.CPU]) as profile:
            run_apart(nets, batches, self.device)
            self.wait()
        key = "cuda_time_total" if self.device == "cuda" else "cpu_time_total"
        found["table"] = profile.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=60)
        found["timeline"] = describe_timeline(device_spans(profile, self.device))
        print(found["table"], found["timeline"], sep="\n", flush=True)

    def server(self, found: dict) -> None:
        """Measure the inference server with four clients, each of which sends all segments."""
        self._nets = None  # frees the memory for the networks of the server
        if self.device == "cuda":
            torch.cuda.empty_cache()
        found |= run_server(self.utterances, self.device, tiny=self.tiny, budget_s=self.budget_s)
        if "server segments/s" in found:
            needed = statistics.mean(1e9 * sum(gflop(u.duration_s).values()) for u in self.utterances)
            found["of fp16 ceiling"] = found["server segments/s"] * needed / self.peak_flops

    def nets(self, plan: Plan, *, tf32: bool = False) -> list[Net]:
        if self._nets is None or self._nets[:2] != (plan, tf32):
            self._nets = None  # free the old networks before new ones are made: a small GPU cannot hold both
            if self.device == "cuda":
                torch.cuda.empty_cache()
            self._nets = plan, tf32, make_nets(self.sizes, self.device, plan, tf32=tf32)
        return self._nets[2]

    def measure(
        self, name: str, nets: list[Net], batches: Sequence[Batch], rounds: int | None = None, *, apart: bool = False
    ) -> dict:
        """Score all batches several times after a warm-up. Return rates by the median time, shares, and peak memory.

        The shares of the models are measured one model after the other, also if the batches run ``apart``.
        """
        shares = run_in_turn(nets, [batches[0], batches[-1]])
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(rounds or self.rounds):
            if apart:
                times.append(run_apart(nets, batches, self.device))
            else:
                shares = run_in_turn(nets, batches)
                times.append(sum(shares.values()))
        took_s = statistics.median(times)
        real_s = sum(float(batch.lengths.sum()) for batch in batches) / SAMPLE_RATE
        needed = sum(1e9 * sum(gflop(n / SAMPLE_RATE).values()) for batch in batches for n in batch.lengths.tolist())
        found = {
            "segments_per_s": sum(map(len, batches)) / took_s,
            "audio_s_per_s": real_s / took_s,
            "ms_per_batch": 1e3 * took_s / len(batches),
            "padded_per_real": sum(batch.waveforms.size for batch in batches) / SAMPLE_RATE / real_s,
            "share_of_ceiling": needed / took_s / self.peak_flops,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0.0,
            "shares": {net: s / sum(shares.values()) for net, s in shares.items()},
            "rounds": times,
        }
        told = "  ".join(f"{net} {share:.0%}" for net, share in found["shares"].items())
        print(
            f"{name:16} {found['segments_per_s']:8.1f} segments/s  {found['ms_per_batch']:7.1f} ms per batch  "
            f"{found['share_of_ceiling']:6.1%} of fp16 ceiling  {found['peak_gib']:5.1f} GiB  {told}",
            flush=True,
        )
        return found

    def time(self, work: Callable[[], object]) -> float:
        """Return the seconds of one call, as the median of ten calls after three warm-up calls."""
        times = []
        for _ in range(13):
            self.wait()
            started_s = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started_s)
        return statistics.median(times[3:])

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def greatest_difference(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True))


def layers_of(nets: Sequence[Net]) -> Iterable[torch.nn.Module]:
    """Yield the layers of MMS-LID and IndicConformer. All layers of a network share compiled code for every length."""
    for net in nets:
        if net.name in {"mms", "conformer"}:
            yield from net.layers


def print_summary(results: dict) -> None:
    arms = results.get("plain", {}) | results.get("ladder", {})
    base = arms.get("plain fp32", {}).get("segments_per_s", float("nan"))
    print(
        f"\n{results['gpu']}, torch {results['torch']}, random weights; IndicConformer, MMS-LID, VoxLingua107, DNSMOS"
    )
    print(f"{'arm':16} {'segments/s':>11} {'ratio':>7} {'padded/real':>12} {'of ceiling':>11} {'GiB':>6}")
    for name, arm in arms.items():
        rate, padding = arm["segments_per_s"], arm["padded_per_real"]
        used = f"{arm['share_of_ceiling']:11.1%} {arm['peak_gib']:6.1f}"
        print(f"{name:16} {rate:11.1f} {rate / base:7.2f} {padding:12.2f} {used}")
    print("\n".join(f"{key}: {value}" for key, value in results.get("server", {}).items()))
    print("\n".join(f"left out: {what}" for what in results["left out"]))
    print("\n".join(f"FAILED {step}: {why}" for step, why in results["failed"].items()))
    if results["tiny"]:
        print("Small networks without a GPU: no number above means anything.")


if __name__ == "__main__":
    sys.exit(main())
