"""Renew the lease of a chunk while it is processed, and detect its loss."""

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
"""Share of the period by which a renewal may come early or late. The jitter keeps a hundred boxes from renewing at the
same time."""
RETRY_S: Seconds = 2.0
"""Pause after a renewal that failed. Short, because little of the lease may be left when the ledger is back."""
JOIN_TIMEOUT_S: Seconds = 5.0
"""Time for which the end of a chunk waits for a renewal in progress. The wait is limited, because a ledger may accept a
call and never answer it."""


class LeaseRenewer:
    """A thread that renews the lease of a chunk and reports its progress, until the chunk ends or is lost.

    A ledger outage has no effect if the ledger is back before the lease ends. After that the lease counts as lost, even
    if no other worker has taken the videos, because only the ledger knows which worker holds them.
    """

    def __init__(
        self,
        engine: Engine,
        claim: ChunkClaim,
        progress: Callable[[], Progress],
        *,
        period_s: Seconds,
        requested_at: Seconds | None = None,
    ) -> None:
        """Prepare the renewal of a claim's lease; the block of the context manager runs the thread.

        Args:
            engine: the ledger.
            claim: the chunk.
            progress: returns the progress to report with each renewal.
            period_s: time between renewals.
            requested_at: time of the first request of the claim (monotonic clock); None means the current time. The
                lease may have started at this time, because a repeated claim returns the lease of the first one.
        """
        self._engine, self._claim, self._progress, self._period_s = engine, claim, progress, period_s
        self._lost: ClaimLost | None = None
        self._last_renewal_failed = False
        self._done = threading.Event()
        self._held_until = (time.monotonic() if requested_at is None else requested_at) + claim.lease_s
        self._thread = threading.Thread(target=self._run, name=f"lease-{claim.chunk_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def ensure_held(self) -> None:
        """Check that the lease is held.

        Raises:
            ClaimLost: the lease ended or the chunk was taken; the caller must write nothing.
        """
        if self._lost is None and time.monotonic() > self._held_until:
            self._lost = ClaimLost(self._claim.chunk_id, "past its lease")
        if self._lost is not None:
            raise self._lost

    def renew(self) -> None:
        """Renew the lease once. After an error of the ledger, the next renewal comes after about ``RETRY_S``."""
        sent_at = time.monotonic()
        try:
            renew_chunk(self._engine, self._claim, self._progress())
        except ClaimLost as lost:
            self._lost = lost
        except FleetError:
            self._last_renewal_failed = True
        else:
            self._last_renewal_failed = False
            self._held_until = sent_at + self._claim.lease_s

    def _run(self) -> None:
        while self._lost is None and not self._done.wait(self._next_pause_s()):
            self.renew()

    def _next_pause_s(self) -> float:
        """Return the time until the next renewal, in seconds, with jitter."""
        period_s = min(RETRY_S, self._period_s) if self._last_renewal_failed else self._period_s
        return period_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret
