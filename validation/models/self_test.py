"""Self-test of a suite on this machine: every model answers faint noise and silence.

Used by the inference server (when a model fails on a whole batch), by the start of a box
(`validation.worker.self_test`) and by `vfleet doctor` (`validation.doctor.machine`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from validation.domain import SAMPLE_RATE, Answer, Fault, Seconds, Unscored, Utterance, Waveform
from validation.errors import BadInput
from validation.models.base import Batch
from validation.models.batching import Allocate, pad_batch
from validation.models.suite import Suite

PROBE_S: Seconds = 1.0
PROBE_LANGUAGE, PROBE_TEXT = "hi", "नमस्ते दुनिया"
"""A language that every ASR model supports, and a transcript that it can tokenize, so that alignment is tested too."""


class SelfTestFailed(BadInput):
    """A model gives no answer on this machine: its GPU, driver or weights must be changed."""

    def __init__(self, model: str, fault: Fault, occasion: str = "in the self-test") -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on this machine {occasion}: {fault}")


def run_self_test(suite: Suite, models: Sequence[str] | None = None) -> None:
    """Score ``PROBE_S`` of noise and of silence with some models, or with all.

    Raises:
        SelfTestFailed: a model does not answer one of them, so the machine or the weights are at fault.
        GpuLost: this process can compute nothing more.
    """
    noise = make_noise(PROBE_S)
    probes = [_make_probe(audio, suite.columns if models is None else models) for audio in (noise, 0 * noise)]
    for model, fault in find_faults(suite.score_batch(pad_batch(probes))):
        raise SelfTestFailed(model, fault)


def make_noise(duration_s: Seconds) -> Waveform:
    """Make faint white noise, the same at each call."""
    return np.random.default_rng(0).normal(0, 0.01, int(duration_s * SAMPLE_RATE)).astype(np.float32)


def make_probe_batch(models: Iterable[str], count: int, duration_s: Seconds, *, allocate: Allocate = np.empty) -> Batch:
    """Make a batch of ``count`` equal segments of noise that each of these models must answer."""
    return pad_batch([_make_probe(make_noise(duration_s), models)] * count, allocate=allocate)


def _make_probe(audio: Waveform, models: Iterable[str]) -> Utterance:
    """Make a segment that requests these models by name, so that no cascade skips one."""
    return Utterance(audio, PROBE_TEXT, PROBE_LANGUAGE, tuple(models))


def find_faults(answers: Sequence[Mapping[str, Answer]]) -> Iterator[tuple[str, Fault]]:
    """List the answers that are faults, by model."""
    for own in answers:
        for model, answer in own.items():
            if isinstance(answer, Unscored):
                yield model, answer.fault
