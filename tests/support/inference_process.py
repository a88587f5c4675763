"""A real inference server process, as a worker starts one, and segments that are cheap to make."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from validation.domain import SAMPLE_RATE, Scored, Utterance
from validation.inference.client import InferenceClient
from validation.inference.client_io import ServerConnection, read_status
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE, decode_answers
from validation.local.process import poll_until
from validation.models.self_test import PROBE_TEXT

SCRIPTED_SERVER = [sys.executable, str(Path(__file__).with_name("scripted_inference_server.py"))]
REAL_SERVER = [sys.executable, "-m", "validation.inference"]


def make_utterance(duration_s: float, text: str, language: str | None = "hi") -> Utterance:
    """Make a segment of constant samples, whose level depends on its text alone."""
    level = (sum(text.encode(errors="surrogatepass")) % 89 + 1) / 100
    return Utterance(np.full(int(duration_s * SAMPLE_RATE), level, dtype=np.float32), text, language)


def outcomes(answers: Sequence[dict]) -> list[str]:
    """Return the outcome of each segment at the scripted server: its transcript, or the kind of its fault."""
    return [
        answer["silero"].values["said"] if isinstance(answer["silero"], Scored) else answer["silero"].fault.kind
        for answer in answers
    ]


def exchange(connection: ServerConnection, requests: Sequence[bytes], answers: dict) -> None:
    """Send encoded requests and, at the same time, receive as many answers."""
    unsent, missing = bytearray().join(requests), len(requests)
    while missing:
        readable, writable, _ = select.select([connection], [connection] if unsent else [], [])
        if writable:
            del unsent[: connection.send(unsent)]
        if readable:
            connection.receive()
        while (frame := connection.pop()) is not None:
            request_id, encoded = frame["answer"]
            answers[request_id] = decode_answers(encoded)
            missing -= 1


class RunningServer:
    """An inference server in a folder of its own, which can be killed and started again."""

    def __init__(self, folder: Path, command: Sequence[str], settings: dict[str, str]) -> None:
        self.folder, self.socket = folder, folder / "run" / "socket"
        self.log, self.gate = folder / "batches", folder / "gate"
        self._command = command
        self.environment = {
            **os.environ,
            INFERENCE_SOCKET_VARIABLE: str(self.socket),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "SCRIPTED_LOG": str(self.log),
            "SCRIPTED_GATE": str(self.gate),
            **settings,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, env=self.environment, stdout=subprocess.PIPE, text=True)
        self.ready_message = json.loads(self.process.stdout.readline() or "null")
        self.open_at_start = self.open_files() if "ready" in (self.ready_message or {}) else []

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def restart(self, *, after: int = -signal.SIGKILL) -> None:
        """Wait until the server has died by itself, with this exit code, and start it again."""
        assert self.process.wait(60) == after
        self.process.stdout.close()
        self.start()

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def client(self, **options) -> InferenceClient:
        return InferenceClient(self.socket, **options)

    def batches(self) -> list[list[str]]:
        """Return the transcripts of each batch so far, without the warm-up."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [texts for _, texts in map(json.loads, lines) if PROBE_TEXT not in texts]

    def status(self) -> dict:
        return read_status(self.socket)

    def wait_for(self, text: str) -> None:
        """Return once a segment with this transcript is being scored."""
        assert poll_until(lambda: any(text in batch for batch in self.batches()), within_s=60), self.batches()

    def open_files(self) -> list[str]:
        """Return the names of its open files."""
        names = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # just closed
                names.append(str(entry.readlink()))
        return sorted(names)
