"""Real speech and small tars for the tests of the corpus."""

import io
import json
import tarfile
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

import validation.local
from validation.domain import SAMPLE_RATE, Waveform

CLIPS = Path(validation.local.__file__).parent / "clips"


@cache
def read_speech(name: str = "en_librivox_0880") -> Waveform:
    """Return one of the project's clips: (n,) float32 at ``SAMPLE_RATE``."""
    speech, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
    assert rate == SAMPLE_RATE
    return speech


def encode(speech: np.ndarray, kind: str = "FLAC", subtype: str | None = None, rate: int = SAMPLE_RATE) -> bytes:
    """Encode (n,) or (n, channels) samples with libsndfile."""
    encoded = io.BytesIO()
    soundfile.write(encoded, speech, rate, format=kind, subtype=subtype)
    return encoded.getvalue()


def encode_with_ffmpeg(
    speech: Waveform, container: str, codec: str, rate: int = SAMPLE_RATE, options: Mapping[str, str] | None = None
) -> bytes:
    """Encode mono samples with FFmpeg, at ``rate``; ``options`` are the container's."""
    samples = speech if rate == SAMPLE_RATE else soxr.resample(speech, SAMPLE_RATE, rate)
    encoded = io.BytesIO()
    with av.open(encoded, "w", format=container, options=dict(options or {})) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = "mono"
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return encoded.getvalue()


def make_tar(files: Mapping[str, bytes | object], mode: str = "w", style: int = tarfile.USTAR_FORMAT) -> bytes:
    """Pack files; content that is not bytes is written as JSON."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, format=style) as tar:
        for name, content in files.items():
            payload = content if isinstance(content, bytes) else json.dumps(content).encode()
            header = tarfile.TarInfo(name)
            header.size = len(payload)
            if "\0" in name:
                header.pax_headers = {"path": name}
            tar.addfile(header, io.BytesIO(payload))
    return packed.getvalue()
