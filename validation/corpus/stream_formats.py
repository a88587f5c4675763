"""Streams of frames or pages: FLAC, Ogg and MPEG audio. Their length is checked frame by frame or page by page."""

import struct
import zlib

from validation.corpus.audio_file import AudioFile, WrongLength

_OGG_HEADER = struct.Struct("<4sBBqIIIB")
OGG_PAGE = b"OggS"
_OGG_CONTINUED, _OGG_FIRST, _OGG_LAST = 1, 2, 4
_OPUS_HEAD, _OGG_FIRST_PAGE_BYTES = b"OpusHead", 64
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_ID3_HEADER_BYTES, _ID3_FOOTER = 10, 0x10


def read_ogg(payload: bytes) -> AudioFile:
    """Check each page (RFC 3533, section 6), because decoders skip a damaged page without an error.

    A stream without its end-of-stream flag, as Android's recorder writes it, is accepted if its last page is whole.
    """
    pages: dict[int, tuple[int, int]] = {}
    start, flags, is_chained = 0, 0, False
    while start < len(payload):
        if not payload.startswith(OGG_PAGE, start):
            if flags & _OGG_LAST:
                break  # something was appended to a stream that has ended
            raise WrongLength(f"the stream is damaged at byte {start}")
        page = _cut_ogg_page(payload, start)
        _, _, flags, granule, serial, number, checksum, _ = _OGG_HEADER.unpack_from(page)
        if _ogg_checksum(page[:22] + bytes(4) + page[26:]) != checksum:
            raise WrongLength(f"the page at byte {start} is damaged")
        last, last_granule = pages.get(serial, (number - 1, 0))
        if number != last + 1 and (last_granule > 0 or flags & _OGG_CONTINUED):  # headers may be followed by any page
            raise WrongLength(f"page {last + 1} is missing before byte {start}")
        is_chained |= bool(flags & _OGG_FIRST) and any(granule > 0 for _, granule in pages.values())
        pages[serial] = (number, granule)
        start += len(page)
    is_opus = _OPUS_HEAD in payload[:_OGG_FIRST_PAGE_BYTES]
    return AudioFile(payload, "ffmpeg" if is_opus or is_chained else "libsndfile", declares_length=not is_chained)


def _cut_ogg_page(payload: bytes, start: int) -> bytes:
    body = start + _OGG_HEADER.size
    segments = payload[body : body + payload[body - 1]] if body <= len(payload) else b""
    stop = body + len(segments) + sum(segments)
    if body > len(payload) or len(segments) < payload[body - 1] or stop > len(payload):
        raise WrongLength("the last page is cut off")
    return payload[start:stop]


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with Ogg's bit order: zlib's of reversed bits, reversed, without zlib's inversions."""
    reversed_bits = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_bits:032b}"[::-1], 2)


def skip_id3(payload: bytes, start: int = 0) -> int:
    """Return where the ID3v2 tags at ``start`` end (id3.org, ID3v2.4 structure, sections 3.1 and 3.4)."""
    while payload.startswith(b"ID3", start) and len(payload) >= start + _ID3_HEADER_BYTES:
        size = sum(byte << 7 * place for place, byte in enumerate(payload[start + 9 : start + 5 : -1]))
        footer = _ID3_HEADER_BYTES if payload[start + 5] & _ID3_FOOTER else 0
        start += _ID3_HEADER_BYTES + size + footer
    return start
