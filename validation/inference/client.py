"""The client of the inference server, as flow runs use it: a ``Scorer`` whose models run in another process."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_fixed,
)

from validation.domain import Answer, Column, Fault, Seconds, Unscored, Utterance
from validation.inference.client_io import (
    PendingRequest,
    RequestSender,
    ServerConnection,
    ServerRejectedClient,
    ServerUnavailable,
    connect,
)
from validation.inference.protocol import ARENA_BYTES, Arena, SuiteInfo
from validation.scoring.rules_io import load_rules
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

RECONNECT_TIMEOUT_S: Seconds = 300.0
"""A client gives up when it cannot reach a server for this time. The time covers the start of a server, because a large
suite loads in one or two minutes."""
RETRY_S: Seconds = 0.2


class InferenceClient:
    """A ``Scorer`` whose models run in the inference server. Thread-safe.

    The interface is that of ``Suite``, but ``begin`` returns at once. When the server dies, the client waits for a new
    server and repeats the unanswered requests, whose audio is still in the arena.

    Raises:
        ServerUnavailable: no server could be reached for ``reconnect_timeout_s``. The constructor and
            ``InferenceJob.wait`` raise this error; the caller may score the same utterances again.
        ServerRejectedClient: a server rejected this client, for example because it uses another protocol version; or a
            later server serves another suite, or other model revisions, than the first server. The constructor and
            ``InferenceJob.wait`` raise this error too.
    """

    def __init__(
        self, path: Path, *, reconnect_timeout_s: Seconds = RECONNECT_TIMEOUT_S, arena_bytes: int = ARENA_BYTES
    ) -> None:
        self._path, self._reconnect_timeout_s = path, reconnect_timeout_s
        self._arena, self._closed = Arena(arena_bytes), threading.Event()
        connection, suite = self._connect()
        self.name = suite.name
        self.roles: SuiteRoles = suite.roles
        self.rules: Rules = load_rules(suite.rules)
        self.revisions: Mapping[str, str] = suite.revisions
        self.columns: Mapping[str, Sequence[Column]] = suite.columns
        self._sender = RequestSender(self._arena, self._reconnect, connection)

    def begin(self, utterances: Sequence[Utterance]) -> "InferenceJob":
        """Start to score utterances, each with the models that it requests, and return at once.

        An utterance that is longer than the arena is ``Unscored`` (``too_long``) and is not sent.
        """
        prefix = uuid4().hex
        requests = [PendingRequest(f"{prefix}-{number}", utterance) for number, utterance in enumerate(utterances)]
        for request in requests:
            if request.samples > self._arena.capacity:
                request.answers, request.is_done = self._too_long_answers(request.utterance), True
        self._sender.submit([request for request in requests if not request.is_done])
        return InferenceJob(self._sender, requests)

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Score utterances; return one mapping from model name to answer per utterance, in order.

        The mapping has one answer per requested model.
        """
        job = self.begin(utterances)
        job.wait()
        return [dict(answer) for answer in job.answers() if answer is not None]

    def close(self) -> None:
        """Close the connection and free the arena. Do not wait for an unfinished job afterwards: it never ends."""
        self._closed.set()
        self._sender.close()
        self._arena.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _too_long_answers(self, utterance: Utterance) -> dict[str, Answer]:
        """Make the answers to an utterance that does not fit the arena: ``Unscored`` for every model."""
        fault = Fault("too_long", f"{utterance.duration_s:.0f} s of audio are more than the inference server accepts")
        return dict.fromkeys(self.columns, Unscored(fault))

    def _reconnect(self) -> ServerConnection:
        """Connect to the next server; raise ``ServerRejectedClient`` if it has another suite or other revisions."""
        connection, suite = self._connect()
        if (suite.name, suite.revisions) != (self.name, self.revisions):
            connection.close()
            raise ServerRejectedClient(
                f"the inference server came back with other models: {suite.name} {dict(suite.revisions)}"
            )
        return connection

    def _connect(self) -> tuple[ServerConnection, SuiteInfo]:
        """Connect to a server; while none can be reached, try again for ``reconnect_timeout_s`` or until ``close``.

        Raises:
            ServerUnavailable: no server was reached.
            ServerRejectedClient: the server rejected this client.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_any(stop_after_delay(self._reconnect_timeout_s), stop_when_event_set(self._closed)),
            wait=wait_fixed(RETRY_S),
            sleep=sleep_using_event(self._closed),
            reraise=True,
        )
        try:
            return retrying(connect, self._path, self._arena)
        except OSError as error:
            raise ServerUnavailable(self._path, error) from error


class InferenceJob:
    """Utterances that were sent to the inference server: a ``ScoringJob``."""

    def __init__(self, sender: RequestSender, requests: Sequence[PendingRequest]) -> None:
        self._sender, self._requests = sender, requests

    def wait(self, timeout_s: Seconds | None = None) -> bool:
        """Wait until the job has ended, at most ``timeout_s``; return whether it has ended.

        Raises:
            ServerUnavailable, ServerRejectedClient: as ``InferenceClient``, before all requests were answered.
        """
        has_ended = self._sender.wait(self._requests, timeout_s)
        for request in self._requests:
            if request.error is not None:
                raise request.error
        return has_ended

    def answers(self) -> list[Mapping[str, Answer] | None]:
        """Return, for each utterance in order, its answers by model name; None without answers yet."""
        return [request.answers for request in self._requests]

    def cancel(self) -> None:
        """Cancel the requests that have no answer yet."""
        self._sender.cancel(self._requests)
