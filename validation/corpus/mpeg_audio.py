"""Check MPEG audio (MP3, MP2) frame by frame, because its header may declare no length or a wrong length."""

from functools import lru_cache
from typing import NamedTuple

from validation.corpus.audio_file import MAX_STRAY_S, AudioFile, DamagedAudio
from validation.corpus.stream_formats import skip_id3
from validation.domain import Seconds

_MAX_GAP_BYTES = 4096
"""Maximum number of unknown bytes between the tags and the first frame."""
_BIT_RATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates in kbit/s by version and layer. The first bit rate of each row has the code 1 in the header. The version 3
is MPEG-1; 2 is MPEG-2, and MPEG-2.5 has the same bit rates. The layers 3, 2 and 1 are Layer I, II and III (ISO/IEC
11172-3 and 13818-3, section 2.4.2.3)."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sample rates in Hz by version. The version 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5."""
_LAYER_I, _LAYER_III, _MPEG_1 = 3, 1, 3
_LENGTH_TAGS = (b"Xing", b"Info")
_ID3V1, _ID3V1_BYTES = b"TAG", 128
_OTHER_TAGS = (b"APETAGEX", b"LYRICS", b"3DI")


class _Frame(NamedTuple):
    """The header of a frame."""

    stream: int
    """The header bits that are equal in all frames of a stream: version, layer and sample rate."""
    size: int
    """Size of the frame in bytes, header included."""
    samples: int
    """Samples per channel."""
    rate: int
    """Sample rate in Hz."""


class _FrameTotals(NamedTuple):
    """The number of frames of a file and their duration."""

    frames: int
    duration_s: Seconds


def read_mpeg_audio(payload: bytes) -> AudioFile:
    """Check that each frame starts where the previous frame ends, and that the last frame is complete.

    Decoders skip missing or damaged frames without an error. The function does not check a file without MPEG frames, or
    with frames of an unstated bit rate: the decoder reports the errors of such a file.

    Raises:
        DamagedAudio: unknown bytes follow a frame, and the rest of the file from there is longer than ``MAX_STRAY_S``;
            or the last frame is cut off; or the file has fewer frames than its header counts.
    """
    start = _find_first_frame(payload, skip_id3(payload))
    if start is None:
        return AudioFile(payload, "ffmpeg", declares_length=False)
    header_frames = _read_header_count(payload, start)
    totals = _count_frames(payload, start)
    if header_frames is None:
        return AudioFile(payload, "ffmpeg", declares_length=False, declared_s=totals.duration_s)
    if totals.frames < header_frames:
        raise DamagedAudio(f"the file has {totals.frames} of {header_frames} frames")
    if totals.frames > header_frames + 2:  # a wrong count, or an appended file: use the frames and drop the header
        first = _parse_frame(payload, start)
        payload = payload[start + (first.size if first else 0) :]
        return AudioFile(payload, "ffmpeg", declares_length=False, declared_s=totals.duration_s)
    return AudioFile(payload, "ffmpeg", declares_length=True, declared_s=None)


def _find_first_frame(payload: bytes, start: int) -> int | None:
    """Return the byte position of the first frame; None if there is none within ``_MAX_GAP_BYTES``.

    A frame after ``start`` counts only if a frame of the same stream, or the end of the file, follows it.
    """
    if _parse_frame(payload, start):
        return start
    for place in range(start, min(start + _MAX_GAP_BYTES, len(payload) - 4)):
        if payload[place] == 0xFF and (frame := _parse_frame(payload, place)):  # noqa: PLR2004
            after = place + frame.size
            following = _parse_frame(payload, after)
            if after == len(payload) or (following and following.stream == frame.stream):
                return place
    return None


def _count_frames(payload: bytes, start: int) -> _FrameTotals:
    """Count the frames from ``start`` to the end of the file, and add up their duration. Tags are skipped.

    Raises:
        DamagedAudio: there is no frame at ``start``; or unknown bytes follow a frame, and the rest of the file from
            there is longer than ``MAX_STRAY_S``; or the last frame is cut off.
    """
    first, place, frames, samples = _parse_frame(payload, start), start, 0, 0
    if first is None:
        raise DamagedAudio(f"the file is damaged at byte {start}")
    while place < len(payload):
        frame = _parse_frame(payload, place)
        if frame and frame.stream == first.stream:
            place, frames, samples = place + frame.size, frames + 1, samples + frame.samples
        elif payload.startswith(b"ID3", place) and (behind := skip_id3(payload, place)) > place:
            place = behind
        elif payload.startswith(_ID3V1, place):
            place += _ID3V1_BYTES
        else:
            _check_end(payload, place, max_bytes=MAX_STRAY_S * place / max(samples / first.rate, 1e-9))
            break
    else:
        if place - len(payload) > 0 and not payload.startswith(_ID3V1, len(payload) - _ID3V1_BYTES):
            raise DamagedAudio(f"the last frame is cut off: {place - len(payload)} bytes are missing")
    return _FrameTotals(frames, samples / first.rate)


def _check_end(payload: bytes, place: int, max_bytes: float) -> None:
    """Raise ``DamagedAudio`` if more than ``max_bytes`` follow the last frame and are no tag and not all zero."""
    rest = payload[place:]
    if len(rest) > max_bytes and not rest.startswith(_OTHER_TAGS) and rest.strip(b"\0"):
        raise DamagedAudio(f"the file is damaged at byte {place}")


def _read_header_count(payload: bytes, start: int) -> int | None:
    """Return the number of frames that a Xing, Info or VBRI header in the first frame states; None if there is none."""
    is_mpeg1, is_mono = payload[start + 1] >> 3 & 3 == _MPEG_1, payload[start + 3] >> 6 == 3  # noqa: PLR2004
    tag = start + 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    if payload.startswith(_LENGTH_TAGS, tag) and payload[tag + 7 : tag + 8] and payload[tag + 7] & 1:
        return int.from_bytes(payload[tag + 8 : tag + 12], "big") or None
    if payload.startswith(b"VBRI", start + 36):
        return int.from_bytes(payload[start + 50 : start + 54], "big") or None
    return None


def _parse_frame(payload: bytes, start: int) -> _Frame | None:
    """Parse the frame header at ``start``; return None if there is none."""
    return _parse_header(payload[start : start + 4])


@lru_cache(maxsize=4096)
def _parse_header(header: bytes) -> _Frame | None:
    """Parse the four bytes of a frame header; return None if they are no header, or state no bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:  # noqa: PLR2004
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate_code, rate_code, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or bit_rate_code in {0, 15} or rate_code == 3:  # noqa: PLR2004
        return None
    bits_per_s = 1000 * _BIT_RATES[version or 2, layer][bit_rate_code - 1]
    rate = _RATES[version][rate_code]
    if layer == _LAYER_I:
        size, samples = (12 * bits_per_s // rate + padding) * 4, 384
    else:
        samples = 576 if layer == _LAYER_III and version != _MPEG_1 else 1152
        size = samples // 8 * bits_per_s // rate + padding
    return _Frame(header[1] & 0xFE | (header[2] & 0x0C) << 8, size, samples, rate)
