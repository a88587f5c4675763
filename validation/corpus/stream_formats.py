"""Check Ogg and FLAC files, and skip ID3 tags.

Each page of an Ogg file is checked. The last frame of a FLAC file must end at the sample at which STREAMINFO declares
the end of the stream (RFC 9639).
"""

import struct
import zlib
from typing import NamedTuple

from validation.corpus.audio_file import AudioFile, DamagedAudio

_OGG_HEADER = struct.Struct("<4sBBqIIIB")
OGG_PAGE = b"OggS"
_OGG_CONTINUED, _OGG_FIRST, _OGG_LAST = 1, 2, 4
_OPUS_HEAD, _OGG_FIRST_PAGE_BYTES = b"OpusHead", 64
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_ID3_HEADER_BYTES, _ID3_FOOTER = 10, 0x10


def read_ogg(payload: bytes) -> AudioFile:
    """Check each page of an Ogg file (RFC 3533, section 6), because decoders skip a damaged page without an error.

    A stream without an end-of-stream flag is accepted if its last page is complete. Android's recorder writes such
    streams.

    Raises:
        DamagedAudio: a page is damaged, missing or cut off.
    """
    pages: dict[int, tuple[int, int]] = {}
    start, flags, is_chained = 0, 0, False
    while start < len(payload):
        if not payload.startswith(OGG_PAGE, start):
            if flags & _OGG_LAST:
                break  # the stream has ended, and other bytes were appended to the file
            raise DamagedAudio(f"the stream is damaged at byte {start}")
        page = _cut_ogg_page(payload, start)
        _, _, flags, granule, serial, number, checksum, _ = _OGG_HEADER.unpack_from(page)
        if _ogg_checksum(page[:22] + bytes(4) + page[26:]) != checksum:
            raise DamagedAudio(f"the page at byte {start} is damaged")
        last, last_granule = pages.get(serial, (number - 1, 0))
        if number != last + 1 and (last_granule > 0 or flags & _OGG_CONTINUED):  # numbers may jump after the headers
            raise DamagedAudio(f"page {last + 1} is missing before byte {start}")
        is_chained |= bool(flags & _OGG_FIRST) and any(granule > 0 for _, granule in pages.values())
        pages[serial] = (number, granule)
        start += len(page)
    is_opus = _OPUS_HEAD in payload[:_OGG_FIRST_PAGE_BYTES]
    return AudioFile(payload, "ffmpeg" if is_opus or is_chained else "libsndfile", declares_length=not is_chained)


def _cut_ogg_page(payload: bytes, start: int) -> bytes:
    """Return the page at ``start``; raise ``DamagedAudio`` if the page is cut off."""
    body = start + _OGG_HEADER.size
    segments = payload[body : body + payload[body - 1]] if body <= len(payload) else b""
    stop = body + len(segments) + sum(segments)
    if body > len(payload) or len(segments) < payload[body - 1] or stop > len(payload):
        raise DamagedAudio("the last page is cut off")
    return payload[start:stop]


def _ogg_checksum(page: bytes) -> int:
    """Return Ogg's CRC-32 of a page.

    Ogg processes the bits in the opposite order of zlib, and without inverting the start value and the result. So zlib
    computes the CRC of the reversed bits, the inversions are undone, and the result is reversed.
    """
    reversed_bits = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_bits:032b}"[::-1], 2)


def skip_id3(payload: bytes, start: int = 0) -> int:
    """Return the byte position after all ID3v2 tags at ``start`` (id3.org, ID3v2.4 structure, sections 3.1 and 3.4)."""
    while payload.startswith(b"ID3", start) and len(payload) >= start + _ID3_HEADER_BYTES:
        size = sum(byte << 7 * place for place, byte in enumerate(payload[start + 9 : start + 5 : -1]))
        footer = _ID3_HEADER_BYTES if payload[start + 5] & _ID3_FOOTER else 0
        start += _ID3_HEADER_BYTES + size + footer
    return start


_STREAMINFO, _FIRST_METADATA_BYTE = slice(8, 42), 4
_LAST_BLOCK = 0x80
_MAX_FRAME_HEADER_BYTES = 16
_SYNC_FIXED, _SYNC_VARIABLE = b"\xff\xf8", b"\xff\xf9"
_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
"""Sample rates in Hz, by the code in a frame's header. 0 means the sample rate of STREAMINFO. For higher codes, the
sample rate follows at the end of the header."""
_BLOCK_8_BITS, _BLOCK_16_BITS = 6, 7
_MAX_LAST_FRAME_BYTES = 1 << 20
_MAX_CANDIDATES = 3
_CRC8_POLYNOMIAL = 0x07


def _shift_crc8(crc: int) -> int:
    for _ in range(8):
        crc = crc << 1 ^ (_CRC8_POLYNOMIAL if crc & 0x80 else 0)
    return crc & 0xFF


_CRC8_OF_BYTE = bytes(map(_shift_crc8, range(256)))


class _Frame(NamedTuple):
    """The header of a frame (RFC 9639, section 9.1)."""

    number: int
    """The number of the frame if all blocks have the same size, else the number of the frame's first sample."""
    block: int
    """Samples per channel."""
    rate: int
    """Sample rate in Hz; 0 if the header refers to STREAMINFO."""


def read_flac(payload: bytes) -> AudioFile:
    """Compare the number of samples and the sample rate in STREAMINFO with the frames of a FLAC file.

    libsndfile stops at the declared number of samples and ignores further frames. A number of 0 means unknown
    (RFC 9639, section 8.2). libsndfile rejects such a file, so FFmpeg decodes it.

    Raises:
        DamagedAudio: the last frame does not end at the declared sample, or STREAMINFO has another sample rate.
    """
    info = int.from_bytes(payload[_STREAMINFO][10:18], "big")
    rate, total = info >> 44, info & ((1 << 36) - 1)
    start = _find_frames(payload)
    first = _parse_frame(payload, start)
    if first is None:  # the decoder reports the error
        return AudioFile(payload, "libsndfile" if total else "ffmpeg", declares_length=total > 0)
    if first.rate not in {0, rate}:
        raise DamagedAudio(f"its header contradicts its frames: {rate} Hz and {first.rate} Hz")
    if not total:
        return AudioFile(payload, "ffmpeg", declares_length=False)
    ends = _list_last_ends(payload, start, first)
    if ends and total not in ends:
        raise DamagedAudio(f"its header declares {total} samples, and its last frame ends at {ends[0]}")
    return AudioFile(payload, "libsndfile", declares_length=True)


def _find_frames(payload: bytes) -> int:
    """Return the byte position after the metadata blocks, at which the first frame starts."""
    start = _FIRST_METADATA_BYTE
    while start + 4 <= len(payload):
        kind, size = payload[start], int.from_bytes(payload[start + 1 : start + 4], "big")
        start += 4 + size
        if kind & _LAST_BLOCK:
            break
    return start


def _list_last_ends(payload: bytes, start: int, first: _Frame) -> list[int]:
    """Return the possible ends of the stream, in samples per channel: one per candidate for the last frame's header.

    The two bytes that start a frame also occur inside frames, so several positions may look like a header. Candidates
    near the end of the file come first.
    """
    ends: list[int] = []
    sync, sample_bits, place = payload[start : start + 2], payload[start + 3] & 0x0E, len(payload)
    unit = first.block if sync == _SYNC_FIXED else 1
    lowest = max(start, len(payload) - _MAX_LAST_FRAME_BYTES)
    while len(ends) < _MAX_CANDIDATES and (place := payload.rfind(sync, lowest, place)) >= 0:
        frame = _parse_frame(payload, place)
        if frame and frame.rate == first.rate and payload[place + 3] & 0x0E == sample_bits:
            ends.append((frame.number - first.number) * unit + frame.block)
    return ends


def _parse_frame(payload: bytes, start: int) -> _Frame | None:
    """Parse the frame header at ``start``; return None if there is no header, or a checksum or code is wrong."""
    header = payload[start : start + _MAX_FRAME_HEADER_BYTES]
    if len(header) < 6 or header[:2] not in {_SYNC_FIXED, _SYNC_VARIABLE} or header[3] & 1:  # noqa: PLR2004
        return None
    block_code, rate_code = header[2] >> 4, header[2] & 0x0F
    width = max(1, 8 - (header[4] ^ 0xFF).bit_length())
    if block_code == 0 or rate_code > 14 or width > 7:  # noqa: PLR2004
        return None
    number = header[4] & (0x7F >> (width if width > 1 else 0))
    for byte in header[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    at = 4 + width
    block_bytes = {_BLOCK_8_BITS: 1, _BLOCK_16_BITS: 2}.get(block_code, 0)
    block = _block_of_code(block_code) or int.from_bytes(header[at : at + block_bytes], "big") + 1
    at += block_bytes
    rate, rate_bytes = _rate_of_code(rate_code, header[at:])
    at += rate_bytes
    if at >= len(header) or _crc8(header[:at]) != header[at]:
        return None
    return _Frame(number, block, rate)


def _block_of_code(code: int) -> int:
    """Return the samples per channel in a block; 0 if the number follows at the end of the header."""
    if code == 1:
        return 192
    if code in {_BLOCK_8_BITS, _BLOCK_16_BITS}:
        return 0
    return 144 << code if code < _BLOCK_8_BITS else 1 << code


def _rate_of_code(code: int, behind: bytes) -> tuple[int, int]:
    """Return the sample rate in Hz, and how many bytes of ``behind`` state the sample rate.

    Args:
        code: the code of the sample rate in the header.
        behind: the bytes of the header after the block size.
    """
    if code < len(_RATES):
        return _RATES[code], 0
    unit, size = {12: (1000, 1), 13: (1, 2), 14: (10, 2)}[code]
    return unit * int.from_bytes(behind[:size], "big"), size


def _crc8(header: bytes) -> int:
    """Return the CRC-8 of a frame header (RFC 9639, section 9.1.8)."""
    crc = 0
    for byte in header:
        crc = _CRC8_OF_BYTE[crc ^ byte]
    return crc
