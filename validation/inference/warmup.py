"""What a host does before it says that it is ready, and again when a model fails on everything that it is asked."""

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np

from validation.domain import SAMPLE_RATE, Answer, Fault, Seconds, Unscored, Utterance
from validation.errors import BadInput
from validation.hardware.pinned_memory import pinned_memory
from validation.models.base import Batch
from validation.models.batching import cost_s, max_batch_size, pad_batch
from validation.models.suite import Suite

log = logging.getLogger(__name__)

TRIAL_S: Seconds = 10.0
"""Length of an ordinary segment, of which a batch has as many as they come."""
LONG_PROBE_S: Seconds = 30.0
"""Length of a long one: what attention and alignment hold grows faster than its seconds."""
TRIAL_LANGUAGE, TRIAL_TEXT = "hi", "नमस्ते दुनिया"
"""A language that every transcriber knows, and a transcript that it can spell, so that it is aligned as well."""


class WarmupFailed(BadInput):
    """A model of this machine does not answer."""

    def __init__(self, model: str, fault: Fault) -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on this machine before any work: {fault.kind}: {fault.message}")


class ModelUnresponsive(BadInput):
    """A model that answered at the start does so no more."""

    def __init__(self, model: str, fault: Fault) -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on everything by now: {fault.kind}: {fault.message}")


def warm_up(suite: Suite) -> None:
    """Score faint noise at the full budget: segments of ordinary length and, where the budget holds one, long ones.

    A memory too small for it shows now, and shrinks the budget.

    Raises:
        WarmupFailed: a model failed, or memory does not suffice for a single segment.
        GpuLost: the card is at fault.
    """
    _warm_up_length(suite, TRIAL_S)
    if cost_s(LONG_PROBE_S) <= suite.budget.seconds:
        _warm_up_length(suite, LONG_PROBE_S)
    suite.reset_stats()


def _warm_up_length(suite: Suite, duration_s: Seconds) -> None:
    began_s = time.monotonic()
    count = max_batch_size(duration_s, suite.budget.seconds, min_padded_s=suite.min_padded_s)
    for model, fault in _find_faults(suite.score_batch(make_probe_batch(suite.columns, count, duration_s))):
        raise WarmupFailed(model, fault)
    log.info("a batch of %d times %.0f s took %.1f s", count, duration_s, time.monotonic() - began_s)


def models_failing_all(replies: Sequence[Mapping[str, Answer]]) -> list[str]:
    """Name the models that failed on everything that a batch asked them."""
    asked = {model for own in replies for model in own}
    return [model for model in asked if all(_has_failed(own[model]) for own in replies if model in own)]


def require_all_respond(suite: Suite, models: Sequence[str]) -> None:
    """Put a segment that every model can bear to some of them.

    Raises:
        ModelUnresponsive: one of them does not answer: this machine is at fault, and no segment.
        GpuLost: the card is.
    """
    for model, fault in _find_faults(suite.score_batch(make_probe_batch(models, 1, TRIAL_S))):
        raise ModelUnresponsive(model, fault)


def make_probe_batch(models: Sequence[str] | Mapping[str, object], count: int, duration_s: Seconds) -> Batch:
    """Make a batch that each of these models must answer, also one that a cascade would spare."""
    noise = np.random.default_rng(0).normal(0, 0.01, int(duration_s * SAMPLE_RATE)).astype(np.float32)
    segment = Utterance(noise, TRIAL_TEXT, TRIAL_LANGUAGE, tuple(models))
    return pad_batch([segment] * count, allocate=pinned_memory)


def _find_faults(replies: Sequence[Mapping[str, Answer]]) -> list[tuple[str, Fault]]:
    told = ((model, answer) for own in replies for model, answer in own.items())
    return [(model, answer.fault) for model, answer in told if isinstance(answer, Unscored)]


def _has_failed(answer: Answer) -> bool:
    return isinstance(answer, Unscored) and answer.fault.kind == "model_failed"
