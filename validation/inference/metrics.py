"""A host's status as Prometheus text. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of Prometheus text a model, or one alone."""

    name: str
    kind: str
    about: str
    value: Callable[[Mapping[str, Any]], Any]
    """Of a model's own part of the status where ``by_model``, else of the whole."""
    by_model: bool = False


METRICS = (
    Metric("up_seconds", "gauge", "Since the host's start.", lambda s: s["uptime_s"]),
    Metric("clients", "gauge", "Connections now.", lambda s: s["clients"]),
    Metric("budget_seconds", "gauge", "Padded audio that a batch may hold.", lambda s: s["budget_s"]),
    Metric("overruns_total", "counter", "Batches too large for the memory.", lambda s: s["overruns"]),
    Metric("batches_total", "counter", "Batches scored.", lambda s: s["batches"]),
    Metric("busy_seconds_total", "counter", "Time in which models computed.", lambda s: s["busy_s"]),
    Metric("present_batch_seconds", "gauge", "Age of the batch in hand; 0: none.", lambda s: s["present_batch_s"]),
    Metric("audio_seconds_total", "counter", "Audio scored, without padding.", lambda s: s["audio_s"]),
    Metric("padded_seconds_total", "counter", "Audio scored, padding included.", lambda s: s["padded_s"]),
    Metric("queue_segments", "gauge", "Segments that wait.", lambda s: s["queue"]["segments"]),
    Metric("queue_audio_seconds", "gauge", "Audio that waits.", lambda s: s["queue"]["audio_s"]),
    Metric("queue_age_seconds", "gauge", "Longest wait of those that wait.", lambda s: s["queue"]["oldest_s"]),
    Metric("model_seconds_total", "counter", "Time in a model.", lambda m: m["wall_s"], by_model=True),
    Metric("model_segments_total", "counter", "Segments put to a model.", lambda m: m["segments"], by_model=True),
    Metric("model_faults_total", "counter", "Segments that it failed on.", lambda m: m["faults"], by_model=True),
)


def render_metrics(status: Mapping[str, Any]) -> str:
    """Spell a status in Prometheus' text format."""
    return "".join(f"{line}\n" for metric in METRICS for line in _render(metric, status))


def _render(metric: Metric, status: Mapping[str, Any]) -> Iterator[str]:
    name = f"vfleet_host_{metric.name}"
    yield f"# HELP {name} {metric.about}"
    yield f"# TYPE {name} {metric.kind}"
    if not metric.by_model:
        yield f"{name} {float(metric.value(status))!r}"
        return
    for model, own in status["models"].items():
        yield f'{name}{{model="{model}"}} {float(metric.value(own))!r}'
