"""What an audio file's own bytes say of its length, and which decoder reads it.

A length is known (the container declares it), unknown (a writer that could not seek left a placeholder, or the format
declares none) or wrong (bytes are missing or damaged). Decoders do not tell these apart: WAV and Ogg files whose end is
missing decode to less audio without an error, and a placeholder looks to them like a missing end or an empty file.
"""

import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from validation.domain import Seconds

_PLACEHOLDER_BYTES = 0x7F000000
"""A declared size from here on that the file does not have is a placeholder (SoX writes 0x7FFFF000, FFmpeg 0xFFFFFFFF,
others 0x80000000): no member of a tar may be this large."""
_MAX_STRAY_S: Seconds = 0.25
"""Bytes behind the samples that are no chunk, as the time that they would play: some writers append a tag."""
_CHUNK_HEADER_BYTES = 8
_CHUNK_ID = re.compile(rb"[ -~]{4}")
_WAV_FORMAT = struct.Struct("<HHIIHH")
_UNCOMPRESSED = frozenset({1, 3, 0xFFFE})
"""PCM, float, and the extensible format, which is one of both."""
_AIFF_FORMAT = struct.Struct(">HIH")

_OGG_HEADER = struct.Struct("<4sBBqIIIB")
_OGG_PAGE, _OGG_CONTINUED, _OGG_FIRST, _OGG_LAST = b"OggS", 1, 2, 4
_OPUS_HEAD, _OGG_FIRST_PAGE_BYTES = b"OpusHead", 64
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_ID3_HEADER_BYTES, _ID3_FOOTER = 10, 0x10
_FLAC_TOTAL = slice(18, 26)
_MAX_MP3_GAP_BYTES = 4096
"""Between the tags and the first frame."""
_EBML, _MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx"})


class WrongLength(ValueError):
    """Bytes of the file are missing or damaged, and what shows it."""


class AudioFile(NamedTuple):
    """A file ready to be decoded."""

    payload: bytes
    """The file's bytes; a placeholder in place of a length is replaced by the length of what is there."""
    decoder: Literal["libsndfile", "ffmpeg"]
    """libsndfile for WAV, AIFF, FLAC and Ogg Vorbis. It reads MP3 and Opus too. But it fills a truncated MP3 with
    silence and reports success, and for Opus at 48 kHz it takes nearly twice FFmpeg's time."""
    declares_length: bool
    """The length that the decoder reports is the file's own, not a guess from the bit rate."""


def read_audio_file(payload: bytes) -> AudioFile:
    """Find a file's format, and check its length as far as its container tells.

    Raises:
        WrongLength: bytes are missing or damaged.
    """
    start = _skip_id3(payload)
    if payload.startswith(b"fLaC", start):
        return _read_flac(payload[start:])  # FLAC behind a tag is common, against its specification
    for magic, read in _READERS.items():
        if payload.startswith(magic):
            return read(payload)
    if payload[4:8] in _MP4_FIRST_BOXES:
        return _read_mp4(payload)
    return AudioFile(payload, "ffmpeg", declares_length=_has_mp3_length(payload, start))


# --- WAV and AIFF ----------------------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    start: int
    """Of its content."""
    size: int


def _read_wav(payload: bytes) -> AudioFile:
    """Read RIFF, RF64 and BW64 (Microsoft/IBM RIFF 1.0; EBU Tech 3306; ITU-R BS.2088)."""
    chunks = _find_chunks(payload, b"data", "little")
    data, ds64 = chunks[b"data"], chunks.get(b"ds64")
    riff_bytes = int.from_bytes(payload[4:8], "little")
    if ds64 and not payload.startswith(b"RIFF"):  # 64-bit sizes of the file and of the samples
        riff_bytes = int.from_bytes(payload[ds64.start : ds64.start + 8], "little")
        data = data._replace(size=int.from_bytes(payload[ds64.start + 8 : ds64.start + 16], "little"))
    frame_bytes, bytes_per_s = _read_wav_format(payload, chunks.get(b"fmt "))
    if not _is_placeholder(payload, data, "little"):
        _check_size(payload, riff_bytes)
        _check_samples(payload, data, bytes_per_s)
        return AudioFile(payload, "libsndfile", declares_length=True)
    patched = bytearray(payload)
    size = (len(payload) - data.start) // frame_bytes * frame_bytes
    patched[:8] = b"RIFF" + (data.start + size - 8).to_bytes(4, "little")
    patched[data.start - 4 : data.start] = size.to_bytes(4, "little")
    return AudioFile(bytes(patched), "libsndfile", declares_length=False)


def _read_wav_format(payload: bytes, chunk: _Chunk | None) -> tuple[int, int]:
    """Return bytes per frame and per second; (1, 0) where the format does not say.

    Raises:
        WrongLength: the numbers contradict each other, so at least one is damaged, maybe the sample rate.
    """
    if chunk is None or chunk.size < _WAV_FORMAT.size or len(payload) < chunk.start + _WAV_FORMAT.size:
        return 1, 0
    kind, channels, rate, bytes_per_s, frame_bytes, bits = _WAV_FORMAT.unpack_from(payload, chunk.start)
    if kind in _UNCOMPRESSED and (frame_bytes != channels * ((bits + 7) // 8) or bytes_per_s != rate * frame_bytes):
        raise WrongLength(f"its header contradicts itself: {rate} Hz, {channels} channels, {bytes_per_s} bytes/s")
    return frame_bytes or 1, bytes_per_s


def _read_aiff(payload: bytes) -> AudioFile:
    """Read AIFF and AIFF-C (Apple, Audio Interchange File Format 1.3)."""
    chunks = _find_chunks(payload, b"SSND", "big")
    data, form = chunks[b"SSND"], chunks.get(b"COMM")
    if not _is_placeholder(payload, data, "big"):
        _check_size(payload, int.from_bytes(payload[4:8], "big"))
        _check_samples(payload, data, 0)
        return AudioFile(payload, "libsndfile", declares_length=True)
    patched = bytearray(payload)
    patched[4:8] = (len(payload) - 8).to_bytes(4, "big")
    patched[data.start - 4 : data.start] = (len(payload) - data.start).to_bytes(4, "big")
    if form and form.size >= _AIFF_FORMAT.size:
        channels, _, bits = _AIFF_FORMAT.unpack_from(payload, form.start)
        frames = (len(payload) - data.start - 8) // max(1, channels * ((bits + 7) // 8))
        patched[form.start + 2 : form.start + 6] = max(frames, 0).to_bytes(4, "big")
    return AudioFile(bytes(patched), "libsndfile", declares_length=False)


def _find_chunks(payload: bytes, samples: bytes, order: Literal["little", "big"]) -> dict[bytes, _Chunk]:
    """Return the chunks of a RIFF or AIFF file by name, up to the one that holds the samples."""
    chunks: dict[bytes, _Chunk] = {}
    start = 12 + _CHUNK_HEADER_BYTES
    while start <= len(payload):
        name, size = payload[start - 8 : start - 4], int.from_bytes(payload[start - 4 : start], order)
        chunks[name] = _Chunk(start, size)
        if name == samples:
            return chunks
        start += size + size % 2 + _CHUNK_HEADER_BYTES
    raise WrongLength("the file ends inside its header")


def _is_placeholder(payload: bytes, data: _Chunk, order: Literal["little", "big"]) -> bool:
    """Return whether the size of the samples was never written: too large to be true, or 0 before samples."""
    behind = len(payload) - data.start
    if data.size == 0:
        return behind > 0 and not _are_chunks(payload, data.start, order)
    return data.size > behind and data.size >= _PLACEHOLDER_BYTES


def _check_size(payload: bytes, riff_bytes: int) -> None:
    """Compare the size in the header, which counts the bytes after the first eight, with the file's."""
    whole = riff_bytes + 8
    if riff_bytes < _PLACEHOLDER_BYTES and whole > len(payload) + 1:  # the last padding byte is often left out
        raise WrongLength(f"the file has {len(payload)} of {whole} bytes")


def _check_samples(payload: bytes, data: _Chunk, bytes_per_s: int) -> None:
    stop = data.start + data.size
    if stop > len(payload):
        raise WrongLength(f"its samples have {len(payload) - data.start} of {data.size} bytes")
    stray = len(payload) - stop
    if bytes_per_s and stray > _MAX_STRAY_S * bytes_per_s and not _are_chunks(payload, stop + stop % 2, "little"):
        raise WrongLength(f"{stray} bytes follow its {data.size} bytes of samples and are no chunk")


def _are_chunks(payload: bytes, start: int, order: Literal["little", "big"]) -> bool:
    """Return whether chunks, and at most a few bytes of padding, fill the file from ``start`` to its end."""
    while start + _CHUNK_HEADER_BYTES <= len(payload):
        if not _CHUNK_ID.match(payload, start):
            return not payload[start:].strip(b"\0")
        size = int.from_bytes(payload[start + 4 : start + 8], order)
        start += _CHUNK_HEADER_BYTES + size + size % 2
    return start <= len(payload) + 1 or not payload[start:].strip(b"\0")


# --- FLAC, Ogg, MP3, Matroska, MP4 -----------------------------------------------------------------------------------


def _read_flac(payload: bytes) -> AudioFile:
    """A total of 0 samples in STREAMINFO is unknown (RFC 9639, section 8.2); libsndfile refuses such a file."""
    total = int.from_bytes(payload[_FLAC_TOTAL], "big") & ((1 << 36) - 1)
    return AudioFile(payload, "libsndfile" if total else "ffmpeg", declares_length=total > 0)


def _read_ogg(payload: bytes) -> AudioFile:
    """Check each page (RFC 3533, section 6), because decoders skip a damaged page without an error.

    A stream without its end-of-stream flag, as Android's recorder writes it, is accepted if its last page is whole.
    """
    pages: dict[int, tuple[int, int]] = {}
    start, flags, is_chained = 0, 0, False
    while start < len(payload):
        if not payload.startswith(_OGG_PAGE, start):
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


def _skip_id3(payload: bytes) -> int:
    """Return where the ID3v2 tags at the start end (id3.org, ID3v2.4 structure, sections 3.1 and 3.4)."""
    start = 0
    while payload.startswith(b"ID3", start) and len(payload) >= start + _ID3_HEADER_BYTES:
        size = sum(byte << 7 * place for place, byte in enumerate(payload[start + 9 : start + 5 : -1]))
        footer = _ID3_HEADER_BYTES if payload[start + 5] & _ID3_FOOTER else 0
        start += _ID3_HEADER_BYTES + size + footer
    return start


def _has_mp3_length(payload: bytes, start: int) -> bool:
    """Return True if the first frame of an MP3, behind tags of any size, is a Xing, Info or VBRI header."""
    for frame in range(start, min(start + _MAX_MP3_GAP_BYTES, len(payload) - 4)):
        if not _is_mp3_frame(payload[frame : frame + 4]):
            continue
        is_mpeg1, is_mono = payload[frame + 1] & 0b11000 == 0b11000, payload[frame + 3] >> 6 == 0b11  # noqa: PLR2004
        side_bytes = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
        tag = frame + 4 + side_bytes
        has_frames = payload.startswith((b"Xing", b"Info"), tag) and bool(payload[tag + 7 : tag + 8].strip(b"\0"))
        return (has_frames and bool(payload[tag + 7] & 1)) or payload.startswith(b"VBRI", frame + 4 + 32)
    return False


def _is_mp3_frame(header: bytes) -> bool:
    """Return whether four bytes are the header of a frame: sync, a version, a layer, a bit rate and a sample rate."""
    return (
        header[0] == 0xFF  # noqa: PLR2004
        and header[1] & 0xE0 == 0xE0  # noqa: PLR2004
        and header[1] & 0x18 != 0x08  # noqa: PLR2004
        and header[1] & 0x06 != 0
        and header[2] >> 4 not in {0, 15}
        and header[2] & 0x0C != 0x0C  # noqa: PLR2004
    )


def _read_matroska(payload: bytes) -> AudioFile:
    """Compare the size of the segment (RFC 8794, section 6; RFC 9559), unless it is unknown, with the file's."""
    segment = payload.find(_MATROSKA_SEGMENT, 4, 4096)
    first = payload[segment + 4] if 0 < segment < len(payload) - 4 else 0
    width = 9 - first.bit_length()
    number = int.from_bytes(payload[segment + 4 : segment + 4 + width], "big")
    size = number & ((1 << 7 * width) - 1)
    is_known = segment > 0 and first > 0 and size != (1 << 7 * width) - 1
    if is_known and segment + 4 + width + size > len(payload):
        raise WrongLength(f"the file has {len(payload)} of {segment + 4 + width + size} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=True)


def _read_mp4(payload: bytes) -> AudioFile:
    """Check that the last box is whole (ISO/IEC 14496-12, section 4.2)."""
    start = 0
    while start + 8 <= len(payload):
        size, name = int.from_bytes(payload[start : start + 4], "big"), payload[start + 4 : start + 8]
        if size == 1:
            size = int.from_bytes(payload[start + 8 : start + 16], "big")
        if size == 0:  # up to the end of the file
            break
        if size < 8 or not _CHUNK_ID.fullmatch(name):  # noqa: PLR2004 - a box has at least its header
            raise WrongLength(f"the file is damaged at byte {start}")
        start += size
        if start > len(payload):
            raise WrongLength(f"the file ends {start - len(payload)} bytes before the end of its {name.decode()} box")
    return AudioFile(payload, "ffmpeg", declares_length=True)


def _read_caf(payload: bytes) -> AudioFile:
    """Check that the last chunk is whole (Apple Core Audio Format 1.0); a size of -1 is unknown."""
    start = 8
    while start + 12 <= len(payload):
        size = int.from_bytes(payload[start + 4 : start + 12], "big", signed=True)
        if size < 0:
            break
        start += 12 + size
    if start > len(payload):
        raise WrongLength(f"the file has {len(payload)} of {start} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=False)


def _read_au(payload: bytes) -> AudioFile:
    """Compare the size of the samples with the file's; 0xFFFFFFFF is unknown (Sun, audio file format)."""
    start, size = int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[8:12], "big")
    if size < _PLACEHOLDER_BYTES and start + size > len(payload):
        raise WrongLength(f"its samples have {max(0, len(payload) - start)} of {size} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=False)


_READERS: Mapping[bytes, Callable[[bytes], AudioFile]] = {
    b"RIFF": _read_wav,
    b"RF64": _read_wav,
    b"BW64": _read_wav,
    b"FORM": _read_aiff,
    _OGG_PAGE: _read_ogg,
    _EBML: _read_matroska,
    b"caff": _read_caf,
    b".snd": _read_au,
    b"\x30\x26\xb2\x75": lambda payload: AudioFile(payload, "ffmpeg", declares_length=True),  # ASF
}
