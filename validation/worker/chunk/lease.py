"""Keep a chunk's lease while it is worked on, and know when it is lost."""

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from validation.domain import ChunkClaim, Progress, Seconds
from validation.errors import ClaimLost, FleetError
from validation.ledger.chunks import renew_chunk

JITTER = 0.25
"""Share of the period by which a beat comes early or late, so that a hundred boxes do not beat in step."""
RETRY_S: Seconds = 2.0
"""How soon a beat that failed is tried again: a ledger that comes back late in a lease must be met before its end."""
JOIN_WITHIN_S: Seconds = 5.0
"""How long the end of a chunk waits for a beat under way: a ledger may have taken its question and never answer."""


class LeaseRenewer:
    """Renews a chunk's lease from a thread and mirrors its progress, until the chunk is done or lost.

    A ledger that is away costs nothing as long as it comes back before the lease ends. After that the lease counts as
    lost here, whether or not anybody took the videos: only the ledger may say who holds them.
    """

    def __init__(
        self,
        engine: Engine,
        claim: ChunkClaim,
        progress: Callable[[], Progress],
        *,
        period_s: Seconds,
        asked_at: Seconds | None = None,
    ) -> None:
        """Begin with the lease of the claim.

        Args:
            engine: the ledger.
            claim: what is held.
            progress: where the work stands, for each beat.
            period_s: between beats.
            asked_at: when the claim was first asked for, by the monotonic clock; None for now. Its lease may run since
                then: whoever had to ask again is answered with the lease of the first time.
        """
        self._engine, self._claim, self._progress, self._period_s = engine, claim, progress, period_s
        self._lost: ClaimLost | None = None
        self._silent = False
        self._done = threading.Event()
        self._held_until = (time.monotonic() if asked_at is None else asked_at) + claim.lease_s
        self._thread = threading.Thread(target=self._run, name=f"lease-{claim.chunk_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(JOIN_WITHIN_S)

    def require(self) -> None:
        """Go on only while the lease is held.

        Raises:
            ClaimLost: it is not; write nothing.
        """
        if self._lost is None and time.monotonic() > self._held_until:
            self._lost = ClaimLost(self._claim.chunk_id, "past its lease")
        if self._lost is not None:
            raise self._lost

    def beat(self) -> None:
        """Renew once. A ledger that does not answer is asked again soon."""
        asked_at = time.monotonic()
        try:
            renew_chunk(self._engine, self._claim, self._progress())
        except ClaimLost as lost:
            self._lost = lost
        except FleetError:
            self._silent = True
        else:
            self._silent = False
            self._held_until = asked_at + self._claim.lease_s

    def _run(self) -> None:
        while self._lost is None and not self._done.wait(self._next_beat_s()):
            self.beat()

    def _next_beat_s(self) -> float:
        period_s = min(RETRY_S, self._period_s) if self._silent else self._period_s
        return period_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret
