"""A suite that lives in the model host, as flow runs use it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from validation.domain import Answer, Column, Fault, Seconds, Unscored, Utterance
from validation.inference.client_io import PendingRequest, RequestSender
from validation.inference.protocol import SuiteInfo
from validation.inference.shared_memory import ARENA_BYTES, Arena
from validation.inference.transport import ServerConnection, ServerRejectedClient, ServerUnavailable, connect_to_server
from validation.scoring.rules_file import load_rules
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

PATIENCE_S: Seconds = 300.0
"""How long a host may be away before its client gives up: a large suite loads for a minute or two."""
RETRY_S: Seconds = 0.2


class InferenceClient:
    """Asks the model host. To its caller a ``Suite``, but for where the models are, and that it need not be waited for.

    A host that dies is waited for, and what it had not answered is asked again: its audio still lies in the arena.
    Safe to share between threads.

    Raises:
        ServerUnavailable: no host could be reached for ``patience_s``. Raised here, and by whoever waits for answers;
        it may be
            asked again.
        ServerRejectedClient: it speaks another protocol, or serves another suite than before.
    """

    def __init__(self, path: Path, *, patience_s: Seconds = PATIENCE_S, arena_bytes: int = ARENA_BYTES) -> None:
        self._path, self._patience_s = path, patience_s
        self._arena, self._closed = Arena(arena_bytes), False
        link, profile = self._reach()
        self.name = profile.name
        self.roles: SuiteRoles = profile.roles
        self.rules: Rules = load_rules(profile.rules)
        self.revisions: Mapping[str, str] = profile.revisions
        self.columns: Mapping[str, Sequence[Column]] = profile.columns
        self._courier = RequestSender(self._arena, self._reach_again, link)

    def begin(self, utterances: Sequence[Utterance]) -> "InferenceJob":
        """Ask every model about every utterance, without waiting."""
        key = uuid4().hex
        asks = [PendingRequest(f"{key}-{number}", utterance) for number, utterance in enumerate(utterances)]
        for ask in asks:
            if ask.samples > self._arena.capacity:
                ask.answer, ask.is_over = self._refuse_length(ask.utterance), True
        self._courier.carry([ask for ask in asks if not ask.is_over])
        return InferenceJob(self._courier, asks)

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Ask every model about every utterance; answers in the same order, by model name."""
        scoring = self.begin(utterances)
        scoring.wait()
        return [dict(answer) for answer in scoring.answers() if answer is not None]

    def close(self) -> None:
        self._closed = True
        self._courier.close()
        self._arena.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_length(self, utterance: Utterance) -> dict[str, Answer]:
        fault = Fault("too_long", f"{utterance.duration_s:.0f} s of audio are more than the model host takes")
        return dict.fromkeys(self.columns, Unscored(fault))

    def _reach_again(self) -> ServerConnection:
        link, profile = self._reach()
        if (profile.name, profile.revisions) != (self.name, self.revisions):
            link.close()
            raise ServerRejectedClient(
                f"the model host came back with other models: {profile.name} {dict(profile.revisions)}"
            )
        return link

    def _reach(self) -> tuple[ServerConnection, SuiteInfo]:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return connect_to_server(self._path, self._arena)
            except OSError as error:
                if time.monotonic() >= deadline or self._closed:
                    raise ServerUnavailable(self._path, error) from error
            time.sleep(RETRY_S)


class InferenceJob:
    """Utterances that the model host was asked about."""

    def __init__(self, courier: RequestSender, asks: Sequence[PendingRequest]) -> None:
        self._courier, self._asks = courier, asks

    def wait(self, timeout_s: Seconds | None = None) -> bool:
        """Wait until nothing more will be answered, or until time is over; whether nothing more will.

        Raises:
            ServerUnavailable, ServerRejectedClient: of the host, since these utterances were asked about.
        """
        is_over = self._courier.wait_for(self._asks, timeout_s)
        for ask in self._asks:
            if ask.error is not None:
                raise ask.error
        return is_over

    def answers(self) -> list[Mapping[str, Answer] | None]:
        return [ask.answer for ask in self._asks]

    def cancel(self) -> None:
        """Do without what has not been answered."""
        self._courier.withdraw(self._asks)
