"""Decode in a process of its own what may have killed one: a native decoder that dies then takes one file with it.

    python -m validation.corpus.decode_subprocess

is the process. It reads files from its input and writes waveforms, or why there is none, to its output, until its
input ends.
"""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import numpy as np

from validation.corpus.decode import Undecodable, decode_audio
from validation.domain import Seconds, Waveform

COMMAND = (sys.executable, "-m", "validation.corpus.decode_subprocess")
PATIENCE_S = 120
"""An hour of audio decodes in a few seconds; what takes this long never ends."""
_QUESTION = struct.Struct("<dQ")
"""How much audio the file may hold, in seconds; the file's bytes, which follow."""
_ANSWER = struct.Struct("<QQ")
"""Bytes of a fault as JSON, bytes of a float32 waveform; both follow."""


class SubprocessDecoder:
    """``decode_audio`` elsewhere. One process decodes file after file; one that dies is replaced for the next."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
        """Decode an audio file as ``decode_audio`` does.

        Raises:
            Undecodable: as ``decode_audio``; and ``decoder_crashed``: the process died of it, or did not end.
        """
        process = self._process = self._process or self._start()
        try:
            return _ask(process, payload, limit_s)
        except (BrokenPipeError, EOFError):
            self._process = None
            raise Undecodable("decoder_crashed", _describe_end(_close(process))) from None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            _close(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextmanager
def subprocess_decoder() -> Iterator[SubprocessDecoder]:
    """Have a decoder apart for as long as the context lasts."""
    decoder = SubprocessDecoder(COMMAND)
    try:
        yield decoder
    finally:
        decoder.close()


def _ask(process: subprocess.Popen[bytes], payload: bytes, limit_s: Seconds) -> Waveform:
    questions, answers = _pipes(process)
    questions.write(_QUESTION.pack(limit_s, len(payload)) + payload)
    questions.flush()
    fault_bytes, audio_bytes = _ANSWER.unpack(_read_exactly(answers, _ANSWER.size))
    fault, audio = _read_exactly(answers, fault_bytes), _read_exactly(answers, audio_bytes)
    if fault:
        raise Undecodable(*json.loads(fault))
    return np.frombuffer(bytearray(audio), np.float32)  # of a bytearray, so that it may be written to


def _close(process: subprocess.Popen[bytes]) -> int:
    """Let a process end, and return how it did."""
    questions, answers = _pipes(process)
    with suppress(BrokenPipeError):  # what was not written dies with it
        questions.close()
    answers.close()
    return process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its input and its output, which we asked for."""
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)


def _describe_end(status: int) -> str:
    if status == -signal.SIGALRM:
        return f"its decoder did not end within {PATIENCE_S} s"
    return f"its decoder died: {signal.Signals(-status).name if status < 0 else f'exit {status}'}"


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    payload = stream.read(size)
    if len(payload) < size:
        raise EOFError
    return payload


def serve_requests(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Decode what is asked until nothing is. The kernel ends a decoder that does not end by itself, native or not."""
    while head := questions.read(_QUESTION.size):
        limit_s, size = _QUESTION.unpack(head)
        payload = _read_exactly(questions, size)
        signal.alarm(PATIENCE_S)
        try:
            fault, audio = b"", decode_audio(payload, limit_s).tobytes()
        except Undecodable as error:
            fault, audio = json.dumps([error.fault.kind, error.fault.message]).encode(), b""
        signal.alarm(0)
        answers.write(_ANSWER.pack(len(fault), len(audio)) + fault + audio)
        answers.flush()


def main() -> None:
    """Answer on the output that we were given; what a native library prints goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(OSError):  # if one of us takes all the memory, it is to be this one that dies
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(BrokenPipeError):
        serve_requests(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
