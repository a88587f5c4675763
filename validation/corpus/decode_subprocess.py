"""Decode audio in a subprocess, so that a crash of a native decoder loses one file and does not end the worker.

    python -m validation.corpus.decode_subprocess

This command is the subprocess. It reads audio files from its standard input until the input ends. For each file it
writes a waveform or a fault to its standard output.
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

from validation.corpus.audio import AudioDecodeError, decode_audio
from validation.domain import Seconds, Waveform

COMMAND = (sys.executable, "-m", "validation.corpus.decode_subprocess")
DECODE_TIMEOUT_S = 120
"""Maximum time to decode one file, in seconds. An hour of audio takes a few seconds."""
_REQUEST = struct.Struct("<dQ")
"""Header of a request: maximum length of the audio in seconds, and size of the file in bytes. The file follows."""
_RESPONSE = struct.Struct("<QQ")
"""Header of a response: size in bytes of the fault as JSON, and of the float32 waveform. The fault and the waveform
follow; one of them is empty."""


class SubprocessDecoder:
    """A decoder that runs ``decode_audio`` in a subprocess. After a crash the next file starts a new subprocess."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
        """Decode an audio file as ``decode_audio`` does.

        Raises:
            AudioDecodeError: the faults of ``decode_audio``; or ``decoder_crashed``, if the subprocess died or took
                longer than ``DECODE_TIMEOUT_S``.
        """
        process = self._process = self._process or self._start()
        try:
            return _request(process, payload, limit_s)
        except (BrokenPipeError, EOFError):
            self._process = None
            raise AudioDecodeError("decoder_crashed", _describe_exit(_close(process))) from None

    def close(self) -> None:
        """End the subprocess, if one was started."""
        if self._process is not None:
            _close(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextmanager
def subprocess_decoder() -> Iterator[SubprocessDecoder]:
    """Yield a decoder. Its subprocess starts with the first file and ends when the ``with`` block ends."""
    decoder = SubprocessDecoder(COMMAND)
    try:
        yield decoder
    finally:
        decoder.close()


def _request(process: subprocess.Popen[bytes], payload: bytes, limit_s: Seconds) -> Waveform:
    """Send a file to the subprocess; return the waveform of the response.

    Raises:
        AudioDecodeError: the fault of the response.
        BrokenPipeError, EOFError: the subprocess has ended.
    """
    requests, responses = _pipes(process)
    requests.write(_REQUEST.pack(limit_s, len(payload)) + payload)
    requests.flush()
    fault_bytes, audio_bytes = _RESPONSE.unpack(_read_exactly(responses, _RESPONSE.size))
    fault, audio = _read_exactly(responses, fault_bytes), _read_exactly(responses, audio_bytes)
    if fault:
        raise AudioDecodeError(*json.loads(fault))
    return np.frombuffer(bytearray(audio), np.float32)  # a bytearray, so that the waveform is writable


def _close(process: subprocess.Popen[bytes]) -> int:
    """Close the pipes of the subprocess, wait until it ends, and return its exit status."""
    requests, responses = _pipes(process)
    with suppress(BrokenPipeError):  # the close flushes the unsent rest of a request
        requests.close()
    responses.close()
    return process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Return the subprocess's standard input and output, which are pipes."""
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)


def _describe_exit(status: int) -> str:
    """Return the message for the exit status of a subprocess that ended before its response."""
    if status == -signal.SIGALRM:
        return f"its decoder did not end within {DECODE_TIMEOUT_S} s"
    return f"its decoder died: {signal.Signals(-status).name if status < 0 else f'exit {status}'}"


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Read ``size`` bytes; raise EOFError if the stream ends before."""
    payload = stream.read(size)
    if len(payload) < size:
        raise EOFError
    return payload


def serve(requests: IO[bytes], responses: IO[bytes]) -> None:
    """Read and answer requests until the input ends.

    SIGALRM ends the process if a decoder takes longer than ``DECODE_TIMEOUT_S``, even in native code.
    """
    while head := requests.read(_REQUEST.size):
        limit_s, size = _REQUEST.unpack(head)
        payload = _read_exactly(requests, size)
        signal.alarm(DECODE_TIMEOUT_S)
        try:
            fault, audio = b"", decode_audio(payload, limit_s).tobytes()
        except AudioDecodeError as error:
            fault, audio = json.dumps([error.fault.kind, error.fault.message]).encode(), b""
        signal.alarm(0)
        responses.write(_RESPONSE.pack(len(fault), len(audio)) + fault + audio)
        responses.flush()


def main() -> None:
    """Serve on the inherited standard input and output. Redirect prints of native libraries to standard error."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(OSError):  # if memory runs out, the kernel must kill this process and not the worker
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, responses)


if __name__ == "__main__":
    main()
