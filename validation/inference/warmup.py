"""Warm-up of the inference server before it says that it is ready, and the check of a model that fails on a batch."""

import logging
import time
from collections.abc import Mapping, Sequence

from validation.domain import Answer, Seconds, Unscored
from validation.hardware.gpu import pinned_memory
from validation.models.batching import max_batch_size, padded_cost_s
from validation.models.self_test import SelfTestFailed, find_faults, make_probe_batch
from validation.models.suite import Suite

log = logging.getLogger(__name__)

WARMUP_S: Seconds = 10.0
"""Length of an ordinary segment."""
LONG_WARMUP_S: Seconds = 30.0
"""Length of a long segment: the memory of attention and alignment grows faster than the length."""


def warm_up(suite: Suite) -> None:
    """Score faint noise at the full budget: ordinary segments and, where the budget holds one, long segments.

    Where the GPU memory does not suffice, the budget shrinks now, before any work.

    Raises:
        SelfTestFailed: a model failed, or memory does not suffice for a single segment.
        GpuLost: this process can compute nothing more.
    """
    _warm_up_length(suite, WARMUP_S)
    if padded_cost_s(LONG_WARMUP_S) <= suite.budget.seconds:
        _warm_up_length(suite, LONG_WARMUP_S)
    suite.reset_stats()


def _warm_up_length(suite: Suite, duration_s: Seconds) -> None:
    started_s = time.monotonic()
    count = max_batch_size(duration_s, suite.budget.seconds, min_padded_s=suite.min_padded_s)
    batch = make_probe_batch(suite.columns, count, duration_s, allocate=pinned_memory)
    for model, fault in find_faults(suite.score_batch(batch)):
        raise SelfTestFailed(model, fault, "before any work")
    log.info("a batch of %d segments of %.0f s took %.1f s", count, duration_s, time.monotonic() - started_s)


def models_failing_all(answers: Sequence[Mapping[str, Answer]]) -> list[str]:
    """Return the models that failed on every segment of a batch that requested them."""
    requested = {model for own in answers for model in own}
    return [model for model in requested if all(_has_failed(own[model]) for own in answers if model in own)]


def _has_failed(answer: Answer) -> bool:
    return isinstance(answer, Unscored) and answer.fault.kind == "model_failed"
