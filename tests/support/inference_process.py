"""A real model host, as a worker starts one, and segments that are cheap to make."""

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
from validation.inference.address import INFERENCE_SOCKET_VARIABLE
from validation.inference.client import InferenceClient
from validation.inference.protocol import decode_answers
from validation.inference.transport import ServerConnection, read_status
from validation.inference.warmup import TRIAL_TEXT
from validation.local.process import poll_until

TOY_HOST = [sys.executable, str(Path(__file__).with_name("scripted_inference_server.py"))]
REAL_HOST = [sys.executable, "-m", "validation.inference"]


def spoken(duration_s: float, text: str, language: str | None = "hi") -> Utterance:
    """A segment of constant samples that depend on its text and its length alone."""
    level = (sum(text.encode(errors="surrogatepass")) % 89 + 1) / 100
    return Utterance(np.full(int(duration_s * SAMPLE_RATE), level, dtype=np.float32), text, language)


def said(answers: Sequence[dict]) -> list[str]:
    """What the toy said of each segment: its transcript, or the kind of fault."""
    return [
        answer["silero"].values["said"] if isinstance(answer["silero"], Scored) else answer["silero"].fault.kind
        for answer in answers
    ]


def exchange(link: ServerConnection, asks: Sequence[bytes], answers: dict) -> None:
    """Send asks, and gather as many answers at the same time."""
    unsent, lacking = bytearray().join(asks), len(asks)
    while lacking:
        readable, writable, _ = select.select([link], [link] if unsent else [], [])
        if writable:
            del unsent[: link.send(unsent)]
        if readable:
            link.receive()
        while (frame := link.pop()) is not None:
            ask_id, spelled = frame["answer"]
            answers[ask_id] = decode_answers(spelled)
            lacking -= 1


class RunningHost:
    """A host in a folder of its own, which may die and be started again."""

    def __init__(self, folder: Path, command: Sequence[str], settings: dict[str, str]) -> None:
        self.folder, self.socket = folder, folder / "run" / "socket"
        self.log, self.gate = folder / "batches", folder / "gate"
        self._command = command
        self._environment = {
            **os.environ,
            INFERENCE_SOCKET_VARIABLE: str(self.socket),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TOY_LOG": str(self.log),
            "TOY_GATE": str(self.gate),
            **settings,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.PIPE, text=True)
        self.told = json.loads(self.process.stdout.readline() or "null")
        self.open_at_start = self.open_files() if "ready" in self.told else []

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def restart(self, *, after: int = -signal.SIGKILL) -> None:
        """Start again once it has died by itself, which it must, with this exit code."""
        assert self.process.wait(60) == after
        self.process.stdout.close()
        self.start()

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def scorer(self, **options) -> InferenceClient:
        return InferenceClient(self.socket, **options)

    def batches(self) -> list[list[str]]:
        """The transcripts of each batch so far, the trial's left out."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [texts for _, texts in map(json.loads, lines) if TRIAL_TEXT not in texts]

    def status(self) -> dict:
        return read_status(self.socket)

    def wait_for(self, text: str) -> None:
        """Return once a segment with this transcript is being scored."""
        assert poll_until(lambda: any(text in batch for batch in self.batches()), within_s=60), self.batches()

    def open_files(self) -> list[str]:
        """What it has open, by name."""
        names = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # just closed
                names.append(str(entry.readlink()))
        return sorted(names)
