"""Where segments are handed in, batches are taken, and answers are handed back. Safe for all threads of the host."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from validation.domain import Fault, Seconds, Unscored, Utterance
from validation.inference.batch_queue import FairBatchQueue, Request, may_ask
from validation.inference.crash_log import quarantine_fault
from validation.inference.protocol import Answers, BadFrame
from validation.models.suite import Suite

MAX_BATCH_WAIT_S: Seconds = 0.05
"""How long an idle host waits for company for a batch that is not full: a client's wave comes within less."""
MAX_INFLIGHT_BATCHES_PER_CLIENT = 32
"""How many full batches of one client's audio may wait: so many of like lengths that 3 % of a batch are padding. With 8
they are 7 %. Their audio lies in the client's own arena, which bounds it on a large card."""
RESPONSE_CACHE_SIZE = 4096
"""For clients that lost their connection and ask again."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits now."""

    segments: int
    audio_s: Seconds
    oldest_s: Seconds
    """How long the one that has waited longest has."""


class RequestScheduler:
    """The host's one meeting point of clients and models.

    ``on_answers`` is called, from any thread, when ``collect`` has something new.
    """

    def __init__(self, suite: Suite, crash_count: Callable[[str], int], on_answers: Callable[[], None]) -> None:
        self._suite, self._deaths_of, self._on_answers = suite, crash_count, on_answers
        self._pool = FairBatchQueue(min_padded_s=suite.min_padded_s)
        self._asked: dict[str, Request] = {}
        self._in_hand = 0
        self._unanswered_s: dict[Hashable, Seconds] = {}
        self._answered: list[tuple[Hashable, str, Answers]] = []
        self._remembered: OrderedDict[str, Answers] = OrderedDict()
        self._changed = threading.Condition()

    # --- for clients ------------------------------------------------------------------------------------------

    def join(self, client: Hashable) -> None:
        with self._changed:
            self._unanswered_s[client] = 0.0

    def may_ask(self, client: Hashable) -> bool:
        """Whether the host should hear more of this client now."""
        with self._changed:
            own_s, everybodys_s = self._unanswered_s[client], self._unanswered_s.values()
            credit_s = MAX_INFLIGHT_BATCHES_PER_CLIENT * self._suite.budget.seconds
            return may_ask(own_s, sum(everybodys_s), len(everybodys_s), credit_s=credit_s)

    def ask(self, client: Hashable, ask_id: str, utterance: Utterance) -> None:
        """Hand in a segment. One that was handed in by a connection that broke is not scored a second time.

        Raises:
            BadFrame: somebody waits for this very id already.
        """
        deaths = self._deaths_of(ask_id)
        with self._changed:
            if (known := self._remembered.get(ask_id)) is not None:
                self._hand_back(client, ask_id, known)
            elif (fatal := quarantine_fault(deaths)) is not None:
                self._hand_back(client, ask_id, self._without_answer(fatal))
            elif (asked := self._asked.get(ask_id)) is not None:
                if asked.client in self._unanswered_s:
                    raise BadFrame(f"{ask_id} is asked twice")
                asked.client = client  # the models have it in hand
                self._owe(client, utterance.duration_s)
            else:
                ask = self._asked[ask_id] = Request(ask_id, client, utterance, time.monotonic(), deaths)
                self._owe(client, utterance.duration_s)
                self._pool.add(ask)
                self._changed.notify_all()

    def withdraw(self, client: Hashable, ask_ids: Sequence[str]) -> None:
        """Forget what a client no longer wants, unless the models have it in hand."""
        with self._changed:
            own = [ask for ask_id in ask_ids if (ask := self._asked.get(ask_id)) and ask.client is client]
            for ask in self._pool.withdraw(own):
                del self._asked[ask.id]
                self._owe(client, -ask.utterance.duration_s)

    def leave(self, client: Hashable) -> None:
        """Forget a client. What is being scored for it is remembered for when it comes back."""
        with self._changed:
            for ask in self._pool.drop(client):
                del self._asked[ask.id]
            self._unanswered_s.pop(client, None)

    def collect(self) -> list[tuple[Hashable, str, Answers]]:
        """Take what was answered since: for whom, what, and the answers."""
        with self._changed:
            answered, self._answered = self._answered, []
            return answered

    # --- for models -------------------------------------------------------------------------------------------

    def take_batch(self) -> list[Request]:
        """Wait for the next batch.

        While the models work only full batches are given out: what is not full yet may still be, when they are idle.
        """
        with self._changed:
            while not self._is_ready():
                self._changed.wait(MAX_BATCH_WAIT_S if len(self._pool) and not self._in_hand else None)
            batch = self._pool.take(self._suite.budget.seconds)
            self._in_hand += len(batch)
            return batch

    def answer(self, asks: Sequence[Request], answers: Sequence[Answers]) -> None:
        """Hand the answers to a batch, or to a part of it, back."""
        with self._changed:
            self._in_hand -= len(asks)
            for ask, reply in zip(asks, answers, strict=True):
                del self._asked[ask.id]
                self._remember(ask.id, reply)
                if ask.client in self._unanswered_s:
                    self._owe(ask.client, -ask.utterance.duration_s)
                    self._hand_back(ask.client, ask.id, reply)
            self._changed.notify_all()

    def refuse(self, ask: Request, fault: Fault) -> None:
        """Hand a segment of a batch back that no model can be asked about."""
        self.answer([ask], [self._without_answer(fault)])

    def queue(self) -> Queue:
        with self._changed:
            oldest = self._pool.oldest_s()
            age_s = 0.0 if oldest is None else time.monotonic() - oldest
            return Queue(len(self._pool), self._pool.audio_s, age_s)

    # --- inside -----------------------------------------------------------------------------------------------

    def _is_ready(self) -> bool:
        oldest = self._pool.oldest_s()
        if oldest is None:
            return False
        is_gathered = not self._in_hand and time.monotonic() >= oldest + MAX_BATCH_WAIT_S
        return is_gathered or self._pool.fills(self._suite.budget.seconds)

    def _without_answer(self, fault: Fault) -> Answers:
        return dict.fromkeys(self._suite.columns, Unscored(fault))

    def _owe(self, client: Hashable, audio_s: Seconds) -> None:
        self._unanswered_s[client] += audio_s

    def _remember(self, ask_id: str, answers: Answers) -> None:
        self._remembered[ask_id] = answers
        while len(self._remembered) > RESPONSE_CACHE_SIZE:
            self._remembered.popitem(last=False)

    def _hand_back(self, client: Hashable, ask_id: str, answers: Answers) -> None:
        self._answered.append((client, ask_id, answers))
        self._on_answers()
