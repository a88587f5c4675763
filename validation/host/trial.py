"""What a host does before it says that it is ready."""

import logging
import time

import numpy as np

from validation.domain import SAMPLE_RATE, Fault, Seconds, Unscored, Utterance
from validation.errors import Permanent
from validation.models.base import Batch
from validation.models.batching import count_room, pad_batch
from validation.models.staging import pinned_memory
from validation.models.suite import Suite

log = logging.getLogger(__name__)

TRIAL_S: Seconds = 10.0
"""Length of each segment: that of an ordinary one, so that the batch is as large as they come."""


class TrialFailed(Permanent):
    """A model of this machine does not answer."""

    def __init__(self, model: str, fault: Fault) -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on this machine before any work: {fault.kind}: {fault.message}")


def try_suite(suite: Suite) -> None:
    """Score one batch of faint noise at the full budget. A memory too small for it shows now, and shrinks the budget.

    Raises:
        TrialFailed: a model failed, or memory does not suffice for a single segment.
    """
    began_s = time.monotonic()
    for model, replies in suite.score_batch(make_trial_batch(suite)).items():
        for reply in replies:
            if isinstance(reply, Unscored):
                raise TrialFailed(model, reply.fault)
    log.info("a batch of %.0f s took %.1f s", suite.fill.padded_s, time.monotonic() - began_s)
    suite.start_counting()


def make_trial_batch(suite: Suite) -> Batch:
    """Make a batch that every model must answer, also one that a cascade would spare."""
    count = count_room(TRIAL_S, suite.budget.seconds, least_s=suite.least_s)
    noise = np.random.default_rng(0).normal(0, 0.01, int(TRIAL_S * SAMPLE_RATE)).astype(np.float32)
    return pad_batch([Utterance(noise, "", None, tuple(suite.columns))] * count, allocate=pinned_memory)
