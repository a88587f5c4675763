"""Decode audio in a subprocess, so that a native decoder that crashes costs one file and not the worker.

    python -m validation.corpus.decode_subprocess

is the subprocess. It reads files from its standard input and writes a waveform or a fault for each to its standard
output, until its input ends.
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

from validation.corpus.audio import Undecodable, decode_audio
from validation.domain import Seconds, Waveform

COMMAND = (sys.executable, "-m", "validation.corpus.decode_subprocess")
DECODE_TIMEOUT_S = 120
"""An hour of audio decodes in a few seconds; a file that takes this long never ends."""
_REQUEST = struct.Struct("<dQ")
"""How much audio the file may hold, in seconds; the file's size in bytes. The file follows."""
_RESPONSE = struct.Struct("<QQ")
"""Size in bytes of a fault as JSON, and of a float32 waveform. Both follow; one of them is empty."""


class SubprocessDecoder:
    """``decode_audio`` in a subprocess. It decodes file after file; one that dies is replaced for the next file."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
        """Decode an audio file as ``decode_audio`` does.

        Raises:
            Undecodable: as ``decode_audio``; and ``decoder_crashed``: the subprocess died, or did not end in
                ``DECODE_TIMEOUT_S``.
        """
        process = self._process = self._process or self._start()
        try:
            return _request(process, payload, limit_s)
        except (BrokenPipeError, EOFError):
            self._process = None
            raise Undecodable("decoder_crashed", _describe_exit(_close(process))) from None

    def close(self) -> None:
        """End the subprocess."""
        if self._process is not None:
            _close(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextmanager
def subprocess_decoder() -> Iterator[SubprocessDecoder]:
    """Yield a decoder whose subprocess ends with the context. It starts with the first file."""
    decoder = SubprocessDecoder(COMMAND)
    try:
        yield decoder
    finally:
        decoder.close()


def _request(process: subprocess.Popen[bytes], payload: bytes, limit_s: Seconds) -> Waveform:
    requests, responses = _pipes(process)
    requests.write(_REQUEST.pack(limit_s, len(payload)) + payload)
    requests.flush()
    fault_bytes, audio_bytes = _RESPONSE.unpack(_read_exactly(responses, _RESPONSE.size))
    fault, audio = _read_exactly(responses, fault_bytes), _read_exactly(responses, audio_bytes)
    if fault:
        raise Undecodable(*json.loads(fault))
    return np.frombuffer(bytearray(audio), np.float32)  # a bytearray, so that the waveform is writable


def _close(process: subprocess.Popen[bytes]) -> int:
    """Close the subprocess's pipes, wait for its end, and return its exit status."""
    requests, responses = _pipes(process)
    with suppress(BrokenPipeError):  # the unsent rest of a request
        requests.close()
    responses.close()
    return process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Return the subprocess's standard input and output, which are pipes."""
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)


def _describe_exit(status: int) -> str:
    if status == -signal.SIGALRM:
        return f"its decoder did not end within {DECODE_TIMEOUT_S} s"
    return f"its decoder died: {signal.Signals(-status).name if status < 0 else f'exit {status}'}"


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    payload = stream.read(size)
    if len(payload) < size:
        raise EOFError
    return payload


def serve(requests: IO[bytes], responses: IO[bytes]) -> None:
    """Answer requests until they end. SIGALRM ends the process where a decoder, native or not, does not return."""
    while head := requests.read(_REQUEST.size):
        limit_s, size = _REQUEST.unpack(head)
        payload = _read_exactly(requests, size)
        signal.alarm(DECODE_TIMEOUT_S)
        try:
            fault, audio = b"", decode_audio(payload, limit_s).tobytes()
        except Undecodable as error:
            fault, audio = json.dumps([error.fault.kind, error.fault.message]).encode(), b""
        signal.alarm(0)
        responses.write(_RESPONSE.pack(len(fault), len(audio)) + fault + audio)
        responses.flush()


def main() -> None:
    """Serve on the inherited standard output; what a native library prints goes to standard error instead."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(OSError):  # out of memory, the kernel is to kill this process and not the worker
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, responses)


if __name__ == "__main__":
    main()
