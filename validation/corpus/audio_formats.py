"""Detect the format of an audio file, check that the file is complete, and choose its decoder.

The length of a file is known (the container declares it), unknown (a writer that could not seek left a placeholder, or
the format declares no length) or wrong (bytes are missing or damaged). Decoders do not distinguish these cases. They
decode WAV and Ogg files without an end to less audio and report no error. They treat a placeholder as a missing end or
as an empty file.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from validation.corpus.audio_file import AudioFile, DamagedAudio
from validation.corpus.mpeg_audio import read_mpeg_audio
from validation.corpus.pcm_formats import CHUNK_ID, read_aiff, read_au, read_caf, read_w64, read_wav
from validation.corpus.stream_formats import OGG_PAGE, read_flac, read_ogg, skip_id3
from validation.domain import Seconds

_EBML = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT, _MATROSKA_CLUSTER = 0x18538067, 0x1F43B675
_MATROSKA_ELEMENTS = frozenset(
    {
        *(0x1A45DFA3, 0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770),
        *(0x1F43B675, 0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xEC, 0xBF, 0x5854, 0xAF),
    }
)
"""Ids of the elements at the top level, in a segment and in a cluster (RFC 9559, section 5.1)."""
_MP4_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx"})
_ASF, _ASF_FILE_PROPERTIES = b"\x30\x26\xb2\x75", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST, _ASF_SEARCH_BYTES = 1, 64 << 10
_UNKNOWN_DURATION = 0xFFFFFFFF


def read_audio_file(payload: bytes) -> AudioFile:
    """Detect the format of an audio file, and compare the file with the length that its container declares.

    Raises:
        DamagedAudio: bytes are missing or damaged.
    """
    start = skip_id3(payload)  # tagging programs put ID3 tags before any format, against its specification
    for magic, read in _READERS.items():
        if payload.startswith(magic, start):
            return read(payload[start:])
    if payload[4:8] in _MP4_FIRST_BOXES:
        return _read_mp4(payload)
    return read_mpeg_audio(payload)


class _Element(NamedTuple):
    """An element of a Matroska file."""

    name: int
    """The id of the element."""
    start: int
    """Byte position at which the content of the element starts."""
    stop: int
    """Byte position after the content of the element; the end of the file if the size of the element is unknown."""


def _read_matroska(payload: bytes) -> AudioFile:
    """Check that each element starts where the previous element ends (RFC 8794, section 6; RFC 9559).

    Raises:
        DamagedAudio: unknown bytes lie between two elements; or an element is cut off, and the file is no live
            recording. A live recording declares no size of its segment, and may end at any byte.
    """
    is_live = False
    for element, is_sized in _walk_matroska(payload):
        is_live |= element.name == _MATROSKA_SEGMENT and not is_sized
        if element.stop > len(payload) and not is_live:
            raise DamagedAudio(f"the file has {len(payload)} of {element.stop} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=True)


def _walk_matroska(payload: bytes) -> Iterator[tuple[_Element, bool]]:
    """Yield the elements at the top level, in segments and in clusters, and whether each element declares its size.

    Raises:
        DamagedAudio: unknown bytes lie between two elements.
    """
    start = 0
    while start < len(payload):
        id_bytes = 9 - payload[start].bit_length()
        width = 9 - payload[start + id_bytes].bit_length() if start + id_bytes < len(payload) else 0
        name = int.from_bytes(payload[start : start + id_bytes], "big")
        if start + id_bytes + width > len(payload):  # the header of the element is cut off
            return
        if name not in _MATROSKA_ELEMENTS or width > 8:  # noqa: PLR2004
            if payload[start:].strip(b"\0"):
                raise DamagedAudio(f"the file is damaged at byte {start}")
            return
        content = start + id_bytes + width
        size = int.from_bytes(payload[start + id_bytes : content], "big") & ((1 << 7 * width) - 1)
        is_sized = size != (1 << 7 * width) - 1
        yield _Element(name, content, content + size if is_sized else len(payload)), is_sized
        start = content if name in {_MATROSKA_SEGMENT, _MATROSKA_CLUSTER} else content + size


def _read_mp4(payload: bytes) -> AudioFile:
    """Check that the last box is complete, and read the length of an only track (ISO/IEC 14496-12, section 4.2).

    Raises:
        DamagedAudio: a box is cut off, or unknown bytes lie between two boxes.
    """
    declared_s = None
    for name, start, stop in _walk_mp4(payload, 0, len(payload)):
        if stop > len(payload):
            raise DamagedAudio(f"the file ends {stop - len(payload)} bytes before the end of its {name.decode()} box")
        if name == b"moov":
            declared_s = _find_movie_s(payload, start, stop)
    return AudioFile(payload, "ffmpeg", declares_length=True, declared_s=declared_s)


def _walk_mp4(payload: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box between two byte positions: its name, and the start and end of its content as byte positions.

    Raises:
        DamagedAudio: unknown bytes lie between two boxes.
    """
    while start + 8 <= stop:
        size, name, header = int.from_bytes(payload[start : start + 4], "big"), payload[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(payload[start + 8 : start + 16], "big"), 16
        elif size == 0:  # the box extends to the end
            size = stop - start
        if size < header or not CHUNK_ID.fullmatch(name):
            raise DamagedAudio(f"the file is damaged at byte {start}")
        yield name, start + header, start + size
        start += size


def _find_movie_s(payload: bytes, start: int, stop: int) -> Seconds | None:
    """Return the duration in the movie header (ISO/IEC 14496-12, section 8.2.2).

    The result is None if the movie has fragments or not exactly one track, or if the duration is unknown.
    """
    boxes = list(_walk_mp4(payload, start, stop))
    names = [name for name, _, _ in boxes]
    header = next((content for name, content, _ in boxes if name == b"mvhd"), None)
    if header is None or names.count(b"trak") != 1 or b"mvex" in names:
        return None
    if payload[header : header + 1] == b"\x01":  # version 1 has 64-bit times
        scale, duration = struct.unpack_from(">IQ", payload.ljust(header + 32, b"\0"), header + 20)
    else:
        scale, duration = struct.unpack_from(">II", payload.ljust(header + 20, b"\0"), header + 12)
    return duration / scale if scale and duration < _UNKNOWN_DURATION else None


def _read_asf(payload: bytes) -> AudioFile:
    """Compare the size in the header with the size of the file (Microsoft, ASF 1.2, section 3.2).

    A broadcast declares no valid size, so it is not checked.

    Raises:
        DamagedAudio: the file is smaller than the size in its header.
    """
    start = payload.find(_ASF_FILE_PROPERTIES, 0, _ASF_SEARCH_BYTES)
    if start >= 0:
        size = int.from_bytes(payload[start + 40 : start + 48], "little")
        flags = int.from_bytes(payload[start + 88 : start + 92], "little")
        if size > len(payload) and not flags & _ASF_BROADCAST:
            raise DamagedAudio(f"the file has {len(payload)} of {size} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=True)


_READERS: Mapping[bytes, Callable[[bytes], AudioFile]] = {
    b"fLaC": read_flac,
    b"RIFF": read_wav,
    b"RF64": read_wav,
    b"BW64": read_wav,
    b"riff": read_w64,
    b"FORM": read_aiff,
    OGG_PAGE: read_ogg,
    _EBML: _read_matroska,
    b"caff": read_caf,
    b".snd": read_au,
    _ASF: _read_asf,
}
