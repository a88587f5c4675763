"""Which segment is next, of all that all clients wait for. Pure: no clock, no thread, no socket."""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from validation.domain import Seconds, Utterance
from validation.models.batching import max_batch_size, padded_cost_s

OLDEST_CLIENT_WEIGHT = 3
"""How much more the eldest client is given than any other. Even shares would let two chunks that began together end
together, and the models would stand still while both their successors start."""


@dataclass(slots=True, eq=False)
class Request:
    """One segment that a client wants every model's answer about."""

    id: str
    client: Hashable
    utterance: Utterance
    arrived_s: Seconds
    deaths: int = 0
    """How often the host died over it, as far as the host can know: from one on it travels alone."""


@dataclass(slots=True)
class _ClientQueue:
    """What one client waits for."""

    served_s: Seconds = 0.0
    """Cost of what was taken from it, by its weight, and of what it let others have while it had nothing to ask."""
    waiting: set[Request] = field(default_factory=set)
    turn: set[Request] = field(default_factory=set)
    """Those of them that go before all that come later, however long: nothing short waits for ever."""


class FairBatchQueue:
    """Segments of every client, given out in batches of like lengths, longest first.

    Clients take turns by what they were given so far, of which the eldest is given ``OLDEST_CLIENT_WEIGHT`` times as
    much: the
    least served one's longest segment leads the next batch, and its company are its client's next in length, then
    everybody's. So a client with a thousand segments fills the batches of one with ten, and keeps it waiting for no
    more than a batch beyond that share. One client alone gets the batches of ``plan_batches``.
    """

    def __init__(self, *, min_padded_s: Seconds) -> None:
        self._least_s = min_padded_s
        self._lines: dict[Hashable, _ClientQueue] = {}
        self._longest_first: list[Request] = []
        self.audio_s: Seconds = 0.0
        """Audio that waits."""
        self._cost_s: Seconds = 0.0

    def __len__(self) -> int:
        return len(self._longest_first)

    def oldest_s(self) -> Seconds | None:
        """When the one that waits longest came; None if none waits."""
        return min((ask.arrived_s for ask in self._longest_first), default=None)

    def add(self, ask: Request) -> None:
        line = self._lines.setdefault(ask.client, _ClientQueue())
        if not line.waiting:  # its absence is no merit
            line.served_s = max(line.served_s, min((other.served_s for other in self._waiting()), default=0.0))
        line.waiting.add(ask)
        insort(self._longest_first, ask, key=_rank)
        self._count(ask, 1)

    def drop(self, client: Hashable) -> list[Request]:
        """Forget a client; returns what it waits for."""
        dropped = list(self._lines.get(client, _ClientQueue()).waiting)
        self._remove(dropped)
        self._lines.pop(client, None)
        return dropped

    def withdraw(self, asks: Iterable[Request]) -> list[Request]:
        """Forget those of a client's asks that still wait; returns them."""
        waiting = [ask for ask in asks if ask.client in self._lines and ask in self._lines[ask.client].waiting]
        self._remove(waiting)
        return waiting

    def fills(self, budget_s: Seconds) -> bool:
        """Whether there is enough for a full batch."""
        return self._cost_s >= budget_s

    def take(self, budget_s: Seconds) -> list[Request]:
        """Take the next batch, longest first; empty if nothing waits. A batch fits the budget or is a single item."""
        if not self._longest_first:
            return []
        lead = self._choose_lead()
        batch = [lead] if lead.deaths else self._gather(lead, budget_s)
        eldest, share_s = next(iter(self._lines)), padded_cost_s(max(lead.utterance.duration_s, self._least_s))
        for ask in batch:
            self._lines[ask.client].served_s += share_s / (OLDEST_CLIENT_WEIGHT if ask.client == eldest else 1)
        self._remove(batch)
        return batch

    def _waiting(self) -> Iterator[_ClientQueue]:
        return (line for line in self._lines.values() if line.waiting)

    def _choose_lead(self) -> Request:
        line = min(self._waiting(), key=lambda line: line.served_s)
        if not line.turn:
            line.turn |= line.waiting
        return min(line.turn, key=lambda ask: (_rank(ask), ask.arrived_s))

    def _gather(self, lead: Request, budget_s: Seconds) -> list[Request]:
        start = bisect_left(self._longest_first, _rank(lead), key=_rank)
        room = max_batch_size(lead.utterance.duration_s, budget_s, min_padded_s=self._least_s)
        company = [ask for ask in self._longest_first[start:] if ask is not lead and not ask.deaths]
        own_first = sorted(company, key=lambda ask: ask.client != lead.client)
        return [lead, *sorted(own_first[: room - 1], key=_rank)]

    def _count(self, ask: Request, sign: int) -> None:
        self.audio_s += sign * ask.utterance.duration_s
        self._cost_s += sign * padded_cost_s(max(ask.utterance.duration_s, self._least_s))

    def _remove(self, asks: list[Request]) -> None:
        gone = set(asks)
        self._longest_first = [ask for ask in self._longest_first if ask not in gone]
        for ask in asks:
            self._count(ask, -1)
            line = self._lines[ask.client]
            line.waiting.discard(ask)
            line.turn.discard(ask)
        if not self._longest_first:
            self.audio_s = self._cost_s = 0.0  # sums of floats drift


def _rank(ask: Request) -> Seconds:
    """Longest first."""
    return -ask.utterance.duration_s


def may_ask(own_s: Seconds, total_s: Seconds, clients: int, *, credit_s: Seconds) -> bool:
    """Whether one more ask of a client is let in.

    A client may have ``credit_s`` of audio unanswered, all clients together twice that; but a client below its even
    share of the whole is always let in, so that others cannot shut it out.

    Args:
        own_s: its own audio that is unanswered.
        total_s: everybody's, its own included.
        clients: how many there are.
        credit_s: what one client may have. The ask that crosses it is let in.
    """
    whole_s = 2 * credit_s
    return own_s < credit_s and (total_s < whole_s or own_s < whole_s / clients)
