"""Pack videos as tars in the default layout, for the sample corpus, canaries and tests."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from validation.domain import SAMPLE_RATE, Seconds, Video, Waveform


@dataclass(frozen=True, slots=True)
class PackedSegment:
    """One segment to write into a tar."""

    audio: Waveform | bytes
    """A waveform to encode as FLAC, or the bytes of a FLAC file, which are written unchanged."""
    text: str
    language: str | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    speaker: str | None = None


def pack_video(video: Video, segments: Sequence[PackedSegment]) -> bytes:
    """Return the bytes of a tar: ``metadata.json``, then ``segments/000000.flac``, ``segments/000000.json`` and so on.

    The same input gives the same bytes at any time, on any machine with the same version of libsndfile.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in _list_files(video, segments):
            header = tarfile.TarInfo(name)  # owner, group and time stay 0, so that the bytes are reproducible
            header.size = len(payload)
            tar.addfile(header, io.BytesIO(payload))
    return packed.getvalue()


def _list_files(video: Video, segments: Sequence[PackedSegment]) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file of the tar."""
    facts = {"video_id": video.video_id, "language": video.language, "segment_count": len(segments)}
    yield "metadata.json", _encode_json(facts)
    for place, segment in enumerate(segments):
        yield f"segments/{place:06d}.flac", encode_audio(segment.audio)
        yield f"segments/{place:06d}.json", _encode_json(_make_record(segment))


def _make_record(segment: PackedSegment) -> dict[str, object]:
    """Return the JSON record of a segment, without the values that are None."""
    fields = {
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "language": segment.language,
        "speaker": segment.speaker,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _encode_json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def encode_audio(audio: Waveform | bytes) -> bytes:
    """Return a waveform at ``SAMPLE_RATE`` encoded as 16-bit FLAC. Return bytes unchanged."""
    if isinstance(audio, bytes):
        return audio
    encoded = io.BytesIO()
    soundfile.write(encoded, np.asarray(audio, np.float32), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return encoded.getvalue()
