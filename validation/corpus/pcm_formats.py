"""Check containers of PCM samples: WAV, RF64, Wave64, AIFF, CAF and AU. Their headers declare the size of the samples.

The functions ``read_...`` return the file with its decoder, and raise ``DamagedAudio`` if bytes are missing or damaged.
"""

import re
import struct
from typing import Literal, NamedTuple

from validation.corpus.audio_file import MAX_STRAY_S, PLACEHOLDER_BYTES, AudioFile, DamagedAudio

CHUNK_ID = re.compile(rb"[ -~]{4}")
_CHUNK_HEADER_BYTES = 8
_WAV_FORMAT = struct.Struct("<HHIIHH")
_UNCOMPRESSED = frozenset({1, 3, 0xFFFE})
"""Format codes of WAV: integer PCM, float, and the extensible format, which contains one of the two."""
_COMPANDED = frozenset({6, 7})  # A-law, mu-law
_MS_ADPCM, _IMA_ADPCM = 2, 0x11
_ADPCM_RATIO = 0.9, 1.1
"""Minimum and maximum of the declared bytes per second, relative to the value computed from the block size. Encoders
round the declared value."""
_AIFF_FORMAT, _AIFF_FORMAT_BYTES = struct.Struct(">HIH"), 18
_AIFF_DATA_HEADER_BYTES = 8
_AU_BITS = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 27: 8}
"""Bits per sample, by the code of the encoding in the header of an AU file."""
_W64_GUID_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_DATA, _W64_FORMAT = b"data" + _W64_GUID_TAIL, b"fmt " + _W64_GUID_TAIL
_W64_HEADER_BYTES, _W64_CHUNK_BYTES = 40, 24


class _Chunk(NamedTuple):
    """The place of a chunk in the file."""

    start: int
    """Byte position of the chunk's content in the file."""
    size: int
    """Declared size of the content, in bytes."""


def read_wav(payload: bytes) -> AudioFile:
    """Check a WAV file: RIFF, RF64 or BW64 (Microsoft/IBM RIFF 1.0; EBU Tech 3306; ITU-R BS.2088).

    If the header holds a placeholder, the function replaces it by the actual size.

    Raises:
        DamagedAudio: bytes are missing or damaged, or the header contradicts itself.
    """
    chunks = _find_chunks(payload, b"data", "little")
    data, ds64 = chunks[b"data"], chunks.get(b"ds64")
    riff_bytes = int.from_bytes(payload[4:8], "little")
    if ds64 and not payload.startswith(b"RIFF"):  # the chunk ds64 holds 64-bit sizes of the file and of the samples
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
    """Return the bytes per frame and the bytes per second of a ``fmt`` chunk; (1, 0) if it is missing or too short.

    If uncompressed or companded samples declare 0 bytes per second, the bytes are computed from rate and frame size.

    Raises:
        DamagedAudio: the numbers of the chunk contradict each other, so one is damaged, possibly the sample rate.
    """
    if chunk is None or chunk.size < _WAV_FORMAT.size or len(payload) < chunk.start + _WAV_FORMAT.size:
        return 1, 0
    kind, channels, rate, bytes_per_s, frame_bytes, bits = _WAV_FORMAT.unpack_from(payload, chunk.start)
    if not bytes_per_s and kind in _UNCOMPRESSED | _COMPANDED:  # some writers leave the bytes per second at 0
        bytes_per_s = rate * frame_bytes
    if kind in _UNCOMPRESSED:
        agrees = frame_bytes == channels * ((bits + 7) // 8) and bytes_per_s == rate * frame_bytes
    elif kind in _COMPANDED:
        agrees = frame_bytes == channels and bytes_per_s == rate * frame_bytes
    elif kind in {_MS_ADPCM, _IMA_ADPCM} and chunk.size >= _WAV_FORMAT.size + 4:
        samples = int.from_bytes(payload[chunk.start + 18 : chunk.start + 20], "little")
        agrees = _agrees_as_adpcm(kind, samples, frame_bytes, channels, bytes_per_s / max(1, rate))
    else:
        agrees = True
    if not agrees:
        raise DamagedAudio(f"its header contradicts itself: {rate} Hz, {channels} channels, {bytes_per_s} bytes/s")
    return frame_bytes or 1, bytes_per_s


def _agrees_as_adpcm(kind: int, samples: int, block_bytes: int, channels: int, bytes_per_sample: float) -> bool:
    """Return whether the declared samples per block agree with the size of a block and with the bytes per second.

    A block starts with a header, which holds one sample (IMA) or two samples (Microsoft) per channel. 4 bits per sample
    follow. A value of 0 for the bytes per second means that the file does not declare it.

    Args:
        kind: ``_MS_ADPCM`` or ``_IMA_ADPCM``.
        samples: declared samples per channel in a block.
        block_bytes: size of a block, with all channels.
        channels: number of channels.
        bytes_per_sample: declared bytes per second divided by the sample rate.
    """
    if not channels or not samples:
        return False
    header, first = (7, 2) if kind == _MS_ADPCM else (4, 1)
    fitting = (block_bytes - header * channels) * 2 // channels + first
    if not bytes_per_sample:
        return samples <= fitting
    return samples <= fitting and _ADPCM_RATIO[0] < bytes_per_sample * samples / block_bytes < _ADPCM_RATIO[1]


def read_aiff(payload: bytes) -> AudioFile:
    """Check an AIFF or AIFF-C file (Apple, Audio Interchange File Format 1.3).

    If the header holds a placeholder, the function replaces the sizes and the number of frames by the actual values.

    Raises:
        DamagedAudio: bytes are missing or damaged, or the header contradicts itself.
    """
    chunks = _find_chunks(payload, b"SSND", "big")
    data, form = chunks[b"SSND"], chunks.get(b"COMM")
    if not _is_placeholder(payload, data, "big"):
        _check_size(payload, int.from_bytes(payload[4:8], "big"))
        _check_samples(payload, data, 0)
        _check_aiff_frames(payload, data, form)
        return AudioFile(payload, "libsndfile", declares_length=True)
    patched = bytearray(payload)
    patched[4:8] = (len(payload) - 8).to_bytes(4, "big")
    patched[data.start - 4 : data.start] = (len(payload) - data.start).to_bytes(4, "big")
    if form and form.size >= _AIFF_FORMAT.size:
        channels, _, bits = _AIFF_FORMAT.unpack_from(payload, form.start)
        frames = (len(payload) - data.start - 8) // max(1, channels * ((bits + 7) // 8))
        patched[form.start + 2 : form.start + 6] = max(frames, 0).to_bytes(4, "big")
    return AudioFile(bytes(patched), "libsndfile", declares_length=False)


def _check_aiff_frames(payload: bytes, data: _Chunk, form: _Chunk | None) -> None:
    """Compare the declared number of frames with the size of the samples. AIFF-C, which may be compressed, is skipped.

    Raises:
        DamagedAudio: the number and the size differ by more than one byte of padding.
    """
    if form is None or form.size != _AIFF_FORMAT_BYTES or data.size < _AIFF_DATA_HEADER_BYTES:
        return  # AIFF-C has a longer COMM chunk
    channels, frames, bits = _AIFF_FORMAT.unpack_from(payload, form.start)
    offset = int.from_bytes(payload[data.start : data.start + 4], "big")
    expected = data.size - _AIFF_DATA_HEADER_BYTES - offset
    if abs(frames * channels * ((bits + 7) // 8) - expected) > 1:  # the size may include a byte of padding
        raise DamagedAudio(f"its header contradicts itself: {frames} frames and {expected} bytes of samples")


def _find_chunks(payload: bytes, samples: bytes, order: Literal["little", "big"]) -> dict[bytes, _Chunk]:
    """Return the chunks of a RIFF or AIFF file by name, up to the chunk with the samples.

    Args:
        payload: the file's bytes.
        samples: the name of the chunk with the samples.
        order: the byte order of the sizes.

    Raises:
        DamagedAudio: the file has no chunk with samples.
    """
    chunks: dict[bytes, _Chunk] = {}
    start = 12 + _CHUNK_HEADER_BYTES
    while start <= len(payload):
        name, size = payload[start - 8 : start - 4], int.from_bytes(payload[start - 4 : start], order)
        chunks[name] = _Chunk(start, size)
        if name == samples:
            return chunks
        start += size + size % 2 + _CHUNK_HEADER_BYTES
    raise DamagedAudio("the file ends inside its header")


def _is_placeholder(payload: bytes, data: _Chunk, order: Literal["little", "big"]) -> bool:
    """Return whether the declared size of the samples is a placeholder: impossibly large, or 0 before samples."""
    behind = len(payload) - data.start
    if data.size == 0:
        return behind > 0 and not _are_chunks(payload, data.start, order)
    return data.size > behind and data.size >= PLACEHOLDER_BYTES


def _check_size(payload: bytes, riff_bytes: int) -> None:
    """Compare the declared size of the file, which does not count the first eight bytes, with the actual size.

    Raises:
        DamagedAudio: more than one byte of the declared size is missing, and the declared size is no placeholder.
    """
    whole = riff_bytes + 8
    if riff_bytes < PLACEHOLDER_BYTES and whole > len(payload) + 1:  # many writers omit the last padding byte
        raise DamagedAudio(f"the file has {len(payload)} of {whole} bytes")


def _check_samples(payload: bytes, data: _Chunk, bytes_per_s: int) -> None:
    """Raise ``DamagedAudio`` if samples are cut off, or if more than ``MAX_STRAY_S`` of unknown bytes follow them.

    If ``bytes_per_s`` is 0, the bytes that follow are not checked.
    """
    stop = data.start + data.size
    if stop > len(payload):
        raise DamagedAudio(f"its samples have {len(payload) - data.start} of {data.size} bytes")
    stray = len(payload) - stop
    if bytes_per_s and stray > MAX_STRAY_S * bytes_per_s and not _are_chunks(payload, stop + stop % 2, "little"):
        raise DamagedAudio(f"{stray} bytes follow its {data.size} bytes of samples and are no chunk")


def _are_chunks(payload: bytes, start: int, order: Literal["little", "big"]) -> bool:
    """Return whether the file consists of chunks from ``start`` to its end. Zero bytes may follow as padding."""
    while start + _CHUNK_HEADER_BYTES <= len(payload):
        if not CHUNK_ID.match(payload, start):
            return not payload[start:].strip(b"\0")
        size = int.from_bytes(payload[start + 4 : start + 8], order)
        start += _CHUNK_HEADER_BYTES + size + size % 2
    return start <= len(payload) + 1 or not payload[start:].strip(b"\0")


def read_caf(payload: bytes) -> AudioFile:
    """Check that the last chunk of a CAF file is complete (Apple Core Audio Format 1.0). A size of -1 means unknown.

    Raises:
        DamagedAudio: the last chunk is cut off.
    """
    start = 8
    while start + 12 <= len(payload):
        size = int.from_bytes(payload[start + 4 : start + 12], "big", signed=True)
        if size < 0:
            break
        start += 12 + size
    if start > len(payload):
        raise DamagedAudio(f"the file has {len(payload)} of {start} bytes")
    return AudioFile(payload, "ffmpeg", declares_length=False)


def read_au(payload: bytes) -> AudioFile:
    """Compare the declared size of an AU file's samples with the file (Sun, audio file format).

    The size 0xFFFFFFFF means that the size is unknown.

    Raises:
        DamagedAudio: the samples are cut off, or more than ``MAX_STRAY_S`` of unknown bytes follow them.
    """
    start, size, encoding, rate, channels = struct.unpack_from(">5I", payload.ljust(24, b"\0"), 4)
    if size < PLACEHOLDER_BYTES:
        if start + size > len(payload):
            raise DamagedAudio(f"its samples have {max(0, len(payload) - start)} of {size} bytes")
        stray = len(payload) - start - size
        if stray > MAX_STRAY_S * rate * channels * _AU_BITS.get(encoding, 8) / 8 and payload[start + size :].strip(
            b"\0"
        ):
            raise DamagedAudio(f"{stray} bytes follow its {size} bytes of samples")
    return AudioFile(payload, "ffmpeg", declares_length=False)


def read_w64(payload: bytes) -> AudioFile:
    """Check that the samples of a Wave64 file are complete (Sony Pictures Digital, Wave64).

    The declared size of a chunk includes the 24 bytes of the chunk's header.

    Raises:
        DamagedAudio: bytes are missing or damaged, or the header contradicts itself.
    """
    start = _W64_HEADER_BYTES
    while start + _W64_CHUNK_BYTES <= len(payload):
        size = int.from_bytes(payload[start + 16 : start + 24], "little")
        if size < _W64_CHUNK_BYTES:
            raise DamagedAudio(f"the file is damaged at byte {start}")
        if payload.startswith(_W64_FORMAT, start):
            _read_wav_format(payload, _Chunk(start + _W64_CHUNK_BYTES, size - _W64_CHUNK_BYTES))
        if payload.startswith(_W64_DATA, start):
            if start + size > len(payload):
                raise DamagedAudio(f"its samples have {len(payload) - start} of {size} bytes")
            return AudioFile(payload, "libsndfile", declares_length=True)
        start += -(-size // 8) * 8
    raise DamagedAudio("the file ends inside its header")
