"""The counters of the inference server, as JSON and as Prometheus text."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from validation.inference.executor import BatchExecutor
from validation.inference.scheduler import RequestScheduler
from validation.models.suite import Suite


@dataclass(slots=True)
class InferenceStatus:
    """The counters of the suite, the scheduler and the executor."""

    suite: Suite
    scheduler: RequestScheduler
    executor: BatchExecutor
    clients: int = 0
    """Number of connections now."""
    started_s: float = field(default_factory=time.monotonic)
    """Time at which the models were loaded and tested, by the monotonic clock."""

    def describe(self) -> dict[str, Any]:
        """Return the counters since the server became ready, and the present state, in JSON types.

        ``out_of_memory`` also counts the batches of the warm-up.
        """
        suite, executor, padding = self.suite, self.executor.stats, self.suite.padding
        spent_s = executor.spent_s()
        models_s = sum(stats.wall_s for stats in suite.stats.values())
        return {
            "suite": suite.name,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - self.started_s,
            "clients": self.clients,
            "budget_s": suite.budget.seconds,
            "out_of_memory": suite.budget.overruns,
            "batches": executor.batches,
            "busy_s": spent_s["busy"],
            "wait_for_requests_s": spent_s["requests"],
            "wait_for_preparation_s": spent_s["preparation"],
            "wait_for_answers_s": spent_s["answers"],
            "current_batch_s": executor.current_batch_s,
            "audio_s": padding.real_s,
            "padded_s": padding.padded_s,
            "padded_per_real": padding.padded_s / padding.real_s if padding.real_s else None,
            "audio_s_per_busy_s": padding.real_s / spent_s["busy"] if spent_s["busy"] else None,
            "queue": asdict(self.scheduler.stats()),
            "models": {
                name: asdict(stats) | {"share": stats.wall_s / models_s if models_s else None}
                for name, stats in suite.stats.items()
            },
        }


@dataclass(frozen=True, slots=True)
class _MetricSpec:
    """One Prometheus metric; ``value`` reads it from the status of the server, or from the status of one model."""

    name: str
    help: str
    value: Callable[[Mapping[str, Any]], float]


_GAUGES = (
    _MetricSpec("up_seconds", "Seconds since the start of the server.", lambda s: s["uptime_s"]),
    _MetricSpec("clients", "Connected clients.", lambda s: s["clients"]),
    _MetricSpec("budget_seconds", "Batch budget in padded seconds of audio.", lambda s: s["budget_s"]),
    _MetricSpec(
        "current_batch_seconds", "Age of the running batch; 0 between batches.", lambda s: s["current_batch_s"]
    ),
    _MetricSpec("queue_segments", "Pending segments.", lambda s: s["queue"]["segments"]),
    _MetricSpec("queue_audio_seconds", "Audio of the pending segments.", lambda s: s["queue"]["audio_s"]),
    _MetricSpec("queue_age_seconds", "Age of the oldest pending segment.", lambda s: s["queue"]["oldest_s"]),
)
_COUNTERS = (
    _MetricSpec("out_of_memory", "Batches for which GPU memory did not suffice.", lambda s: s["out_of_memory"]),
    _MetricSpec("batches", "Batches scored.", lambda s: s["batches"]),
    _MetricSpec("busy_seconds", "Seconds in which the models computed.", lambda s: s["busy_s"]),
    _MetricSpec(
        "wait_for_requests_seconds",
        "Seconds without a batch: too few requests were pending.",
        lambda s: s["wait_for_requests_s"],
    ),
    _MetricSpec(
        "wait_for_preparation_seconds",
        "Seconds in which the models waited for a batch to be padded and copied.",
        lambda s: s["wait_for_preparation_s"],
    ),
    _MetricSpec(
        "wait_for_answers_seconds",
        "Seconds in which the device had no work while the answers of a batch were made.",
        lambda s: s["wait_for_answers_s"],
    ),
    _MetricSpec("audio_seconds", "Audio scored, without padding.", lambda s: s["audio_s"]),
    _MetricSpec("padded_seconds", "Audio scored, with padding.", lambda s: s["padded_s"]),
)
_MODEL_COUNTERS = (
    _MetricSpec("model_seconds", "Seconds in which the model computed.", lambda m: m["wall_s"]),
    _MetricSpec("model_segments", "Segments given to the model.", lambda m: m["segments"]),
    _MetricSpec("model_faults", "Segments on which the model failed.", lambda m: m["faults"]),
)


def render_metrics(status: Mapping[str, Any]) -> str:
    """Render a status in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status))
    return generate_latest(registry).decode()


class _StatusCollector(Collector):
    """A collector that makes Prometheus metrics from a status."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        for spec in _GAUGES:
            yield GaugeMetricFamily(f"vfleet_inference_{spec.name}", spec.help, value=spec.value(self._status))
        for spec in _COUNTERS:
            yield CounterMetricFamily(f"vfleet_inference_{spec.name}", spec.help, value=spec.value(self._status))
        for spec in _MODEL_COUNTERS:
            family = CounterMetricFamily(f"vfleet_inference_{spec.name}", spec.help, labels=["model"])
            for model, stats in self._status["models"].items():
                family.add_metric([model], spec.value(stats))
            yield family
