"""Which failures of a chunk's tasks are retried, how often and after which pause."""

from typing import Any, TypedDict

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from validation.errors import Transient


def is_retryable(_task: object, _run: object, state: Any) -> bool:
    """Retry transient errors only: another attempt cannot change a lost claim or a broken file."""
    return isinstance(state.data, Transient)


class Policy(TypedDict, total=False):
    """The options that tasks of a chunk share."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any
    cache_policy: Any


POLICY = Policy(
    retries=4,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),  # 2, 4, 8, 16 s: half a minute, a quarter of a lease
    retry_jitter_factor=0.5,  # a hundred boxes that lost the same service must not come back in step
    retry_condition_fn=is_retryable,
    cache_policy=NO_CACHE,  # every step is an effect: two equal calls must not share an answer
)
"""The options of a chunk's steps. Each step may be repeated: the chunk keeps what an attempt achieved."""

FINAL_STEPS = POLICY | Policy(retries=720, retry_delay_seconds=[2, 4, 5])
"""The options of the steps that save scored work: retried while the lease is held, which each attempt checks first. A
ledger outage ends the retries within one lease; an outage of the store alone, after an hour."""
