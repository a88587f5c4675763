"""What an audio file's own bytes say: which decoder reads it, and whether its end is missing.

WAV and Ogg files whose end is missing decode to less audio without an error, so their containers are read here.
"""

import struct

_RIFF_HEADER = struct.Struct("<4sI4s")
_RIFF_UNKNOWN_SIZES = frozenset({0, 0xFFFFFFFF})
"""Written in place of the size by encoders that cannot seek."""
_OGG_PAGE = b"OggS"
_OGG_HEADER_BYTES = 27
_OGG_END_OF_STREAM = 0x04
_OPUS_HEAD, _OGG_FIRST_PAGE_BYTES = b"OpusHead", 64
_MAX_MP3_HEADER_OFFSET = 64 << 10


def suits_libsndfile(payload: bytes) -> bool:
    """Return True for WAV, FLAC and Ogg Vorbis.

    libsndfile reads MP3 and Opus too. But it fills a truncated MP3 with silence and reports success, and for Opus
    at 48 kHz it takes nearly twice FFmpeg's time.
    """
    return (
        payload.startswith((b"RIFF", b"RF64", b"fLaC", _OGG_PAGE)) and _OPUS_HEAD not in payload[:_OGG_FIRST_PAGE_BYTES]
    )


def has_mp3_length(payload: bytes) -> bool:
    """Return True if an MP3 declares its length: a Xing or Info header in its first frame, after any tags."""
    start = payload[:_MAX_MP3_HEADER_OFFSET]
    return b"Xing" in start or b"Info" in start


def find_truncation(payload: bytes) -> str | None:
    """Return how the container shows that its end is missing; None if it does not."""
    if payload.startswith(b"RIFF"):
        return _find_riff_truncation(payload)
    if payload.startswith(_OGG_PAGE):
        return _find_ogg_truncation(payload)
    return None


def _find_riff_truncation(payload: bytes) -> str | None:
    """Compare the size in the header (Microsoft/IBM RIFF 1.0: bytes after the first eight) with the file's size."""
    if len(payload) < _RIFF_HEADER.size:
        return "the file ends inside its header"
    _, size, _ = _RIFF_HEADER.unpack_from(payload)
    if size in _RIFF_UNKNOWN_SIZES or size + 8 <= len(payload) + 1:  # the last chunk's padding byte is often left out
        return None
    return f"the file has {len(payload)} of {size + 8} bytes"


def _find_ogg_truncation(payload: bytes) -> str | None:
    """Check that the last page is whole and has the end-of-stream flag (RFC 3533, section 6)."""
    start = payload.rfind(_OGG_PAGE)
    header = payload[start : start + _OGG_HEADER_BYTES]
    if len(header) < _OGG_HEADER_BYTES or not header[5] & _OGG_END_OF_STREAM:
        return "the stream has no last page"
    body = start + _OGG_HEADER_BYTES
    lengths = payload[body : body + header[26]]
    if len(lengths) < header[26] or len(payload) < body + header[26] + sum(lengths):
        return "the last page is cut off"
    return None
