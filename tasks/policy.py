"""Which failures are tried again, and how patiently."""

from typing import Any, TypedDict

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from validation.errors import Transient


def is_retryable(_task: object, _run: object, state: Any) -> bool:
    """Only what is transient is tried again: a lost claim or a broken file stays what it is."""
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
"""The steps of a chunk. Each may be repeated: what an attempt achieved is kept by the chunk that it is handed."""

FINAL_STEPS = POLICY | Policy(retries=720, retry_delay_seconds=[2, 4, 5])
"""The steps that keep what was scored: tried for as long as the chunk is held, which each attempt asks first. A ledger
that is away ends that within a lease; a store that is away alone, after an hour."""
