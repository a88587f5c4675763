"""Choose the segments of the next batch: fair shares between clients, similar lengths in a batch.

The queue does no I/O, reads no clock and is not thread-safe.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from validation.domain import Seconds, Utterance
from validation.models.batching import max_batch_size, padded_cost_s

OLDEST_CLIENT_WEIGHT = 3
"""The oldest client gets this many times the share of any other client. The oldest client is the connected client whose
first request came first. With equal shares, two chunks that begin together would end together, and the GPU would be
idle while their successors start."""


@dataclass(slots=True, eq=False)
class Request:
    """One segment that a client wants scored by every model."""

    id: str
    client: Hashable
    utterance: Utterance
    arrived_s: Seconds
    """Time of arrival, by the monotonic clock."""
    crash_count: int = 0
    """Crashes of the server while this segment was in its batch. After the first crash the segment is scored alone."""


@dataclass(slots=True)
class _ClientQueue:
    """The pending requests of one client."""

    virtual_time_s: Seconds = 0.0
    """The cost of this client's requests in the batches taken so far, in padded seconds, divided by the client's weight
    at that time. Each request costs as much as the longest one of its batch. When an idle client becomes active, its
    virtual time is raised to the minimum of the active clients, so that an idle client accumulates no credit."""
    pending: set[Request] = field(default_factory=set)
    current_round: set[Request] = field(default_factory=set)
    """The pending requests of which the longest starts the client's next batch. Later arrivals, even longer ones, start
    a batch only when none of these requests is pending. So a short segment is not postponed for ever."""


class FairBatchQueue:
    """The pending segments of all clients, taken in batches of similar lengths, longest first.

    Weighted fair queueing: the client with the least virtual time starts the next batch with the longest segment of its
    current round, that is, of the segments that were pending when the round began. Segments at most as long as this one
    fill the batch: first those of the same client, then those of the others. A segment that was in a crashed batch is
    taken alone. The oldest client
    has the weight ``OLDEST_CLIENT_WEIGHT``, every other client the weight 1. So a client with 1000 segments fills up
    the batches of a client with 10 segments, and delays the smaller client by at most one batch beyond its fair share.
    A single client that adds all its segments before the first batch gets exactly the batches of ``plan_batches``, if
    none was in a crash.
    """

    def __init__(self, *, min_padded_s: Seconds) -> None:
        self._min_padded_s = min_padded_s
        self._clients: dict[Hashable, _ClientQueue] = {}
        self._longest_first: list[Request] = []
        self.audio_s: Seconds = 0.0
        """Audio of the pending requests, in seconds."""
        self._cost_s: Seconds = 0.0
        """The sum of ``padded_cost_s`` over the pending requests."""

    def __len__(self) -> int:
        return len(self._longest_first)

    def oldest_arrival_s(self) -> Seconds | None:
        """Return the arrival time of the oldest pending request; None if no request is pending."""
        return min((request.arrived_s for request in self._longest_first), default=None)

    def add(self, request: Request) -> None:
        """Add a request to the pending requests of its client."""
        client = self._clients.setdefault(request.client, _ClientQueue())
        if not client.pending:
            least_s = min((other.virtual_time_s for other in self._active_clients()), default=0.0)
            client.virtual_time_s = max(client.virtual_time_s, least_s)
        client.pending.add(request)
        insort(self._longest_first, request, key=_sort_key)
        self._adjust_totals(request, 1)

    def remove_client(self, client: Hashable) -> list[Request]:
        """Remove a client; return its pending requests."""
        removed = list(self._clients.get(client, _ClientQueue()).pending)
        self._remove(removed)
        self._clients.pop(client, None)
        return removed

    def cancel(self, requests: Iterable[Request]) -> list[Request]:
        """Remove those of ``requests`` that are still pending; return the removed requests."""
        pending = [r for r in requests if r.client in self._clients and r in self._clients[r.client].pending]
        self._remove(pending)
        return pending

    def has_full_batch(self, budget_s: Seconds) -> bool:
        """Return whether the costs of all pending requests add up to at least ``budget_s`` padded seconds."""
        return self._cost_s >= budget_s

    def pop_batch(self, budget_s: Seconds) -> list[Request]:
        """Remove and return the next batch, longest segment first; empty if no request is pending.

        The batch fits the budget, unless it is a single segment that exceeds the budget. A segment with a crash is a
        batch of its own.
        """
        if not self._longest_first:
            return []
        head = self._pick_head()
        batch = [head] if head.crash_count else self._fill_batch(head, budget_s)
        oldest_client = next(iter(self._clients))
        share_s = padded_cost_s(max(head.utterance.duration_s, self._min_padded_s))
        for request in batch:
            weight = OLDEST_CLIENT_WEIGHT if request.client == oldest_client else 1
            self._clients[request.client].virtual_time_s += share_s / weight
        self._remove(batch)
        return batch

    def _active_clients(self) -> Iterator[_ClientQueue]:
        """Iterate over the clients with pending requests."""
        return (client for client in self._clients.values() if client.pending)

    def _pick_head(self) -> Request:
        """Choose the request that starts the next batch. If its client has no current round, begin one."""
        client = min(self._active_clients(), key=lambda client: client.virtual_time_s)
        if not client.current_round:
            client.current_round |= client.pending
        return min(client.current_round, key=lambda request: (_sort_key(request), request.arrived_s))

    def _fill_batch(self, head: Request, budget_s: Seconds) -> list[Request]:
        """Return the batch that ``head`` starts: requests that are not longer and have no crash, longest first.

        If not all fit, requests of the same client are preferred to those of other clients, and then longer requests.
        """
        start = bisect_left(self._longest_first, _sort_key(head), key=_sort_key)
        size = max_batch_size(head.utterance.duration_s, budget_s, min_padded_s=self._min_padded_s)
        others = [r for r in self._longest_first[start:] if r is not head and not r.crash_count]
        own_first = sorted(others, key=lambda request: request.client != head.client)
        return [head, *sorted(own_first[: size - 1], key=_sort_key)]

    def _adjust_totals(self, request: Request, sign: int) -> None:
        """Add a request to the totals if ``sign`` is 1; subtract it if ``sign`` is -1."""
        self.audio_s += sign * request.utterance.duration_s
        self._cost_s += sign * padded_cost_s(max(request.utterance.duration_s, self._min_padded_s))

    def _remove(self, requests: list[Request]) -> None:
        """Remove pending requests, which are all in the queue."""
        removed = set(requests)
        self._longest_first = [request for request in self._longest_first if request not in removed]
        for request in requests:
            self._adjust_totals(request, -1)
            client = self._clients[request.client]
            client.pending.discard(request)
            client.current_round.discard(request)
        if not self._longest_first:
            self.audio_s = self._cost_s = 0.0  # sums of floats drift


def _sort_key(request: Request) -> Seconds:
    """Return a key that sorts longer segments first."""
    return -request.utterance.duration_s


def may_admit(own_s: Seconds, total_s: Seconds, clients: int, *, max_inflight_s: Seconds) -> bool:
    """Return whether the server accepts one more request of a client (back-pressure).

    One client may have up to ``max_inflight_s`` of unanswered audio, all clients together twice as much. When all
    clients together have reached their limit, a client below its equal share of that limit is still admitted, so that
    the other clients cannot lock it out.

    Args:
        own_s: unanswered audio of this client.
        total_s: unanswered audio of all clients, this one included.
        clients: number of connected clients.
        max_inflight_s: limit per client. The request that crosses the limit is still admitted.
    """
    max_total_s = 2 * max_inflight_s
    return own_s < max_inflight_s and (total_s < max_total_s or own_s < max_total_s / clients)
