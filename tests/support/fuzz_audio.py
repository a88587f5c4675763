"""Damage to audio files: speech in every codec and container that the encoders here can write, mutated at random."""

import random
from collections.abc import Callable, Mapping

from tests.support.corpus_samples import encode, encode_with_ffmpeg, read_speech

SPEECH = read_speech("en_librivox_0870")
_MAX_FLIPS, _HEADER_BYTES, _MAX_GARBAGE_BYTES = 30, 400, 3000


def _ffmpeg(container: str, codec: str, rate: int = 16_000, **options: str) -> Callable[[], bytes]:
    return lambda: encode_with_ffmpeg(SPEECH, container, codec, rate, options or None)


def _sndfile(kind: str, subtype: str | None = None) -> Callable[[], bytes]:
    return lambda: encode(SPEECH, kind, subtype)


DECLARING: Mapping[str, Callable[[], bytes]] = {
    "flac": _sndfile("FLAC"),
    "wav": _sndfile("WAV"),
    "wav float": _sndfile("WAV", "FLOAT"),
    "wav mu-law": _sndfile("WAV", "ULAW"),
    "wav ima adpcm": _sndfile("WAV", "IMA_ADPCM"),
    "wav ms adpcm": _sndfile("WAV", "MS_ADPCM"),
    "rf64": _sndfile("RF64", "PCM_16"),
    "w64": _sndfile("W64", "PCM_16"),
    "aiff": _sndfile("AIFF", "PCM_16"),
    "ogg vorbis": _sndfile("OGG", "VORBIS"),
    "ogg opus": _sndfile("OGG", "OPUS"),
    "mp3": _sndfile("MP3"),
    "mp3 xing": _ffmpeg("mp3", "libmp3lame"),
    "m4a": _ffmpeg("ipod", "aac"),
    "m4a alac": _ffmpeg("ipod", "alac"),
    "mp4 opus": _ffmpeg("mp4", "libopus", 48_000),
    "mov pcm": _ffmpeg("mov", "pcm_s16le"),
    "3gp": _ffmpeg("3gp", "aac"),
    "webm": _ffmpeg("webm", "libopus", 48_000),
    "mka pcm": _ffmpeg("matroska", "pcm_s16le"),
    "mka aac": _ffmpeg("matroska", "aac"),
    "caf": _ffmpeg("caf", "pcm_s16le"),
    "au": _ffmpeg("au", "pcm_s16be"),
    "wma": _ffmpeg("asf", "wmav2"),
}
"""Files whose container declares their length."""
RATE_FIELDS = {"au": slice(16, 20), "caf": slice(20, 28), "aiff": slice(28, 38)}
"""Where these containers state the sample rate, once: nothing shows that it is wrong."""
UNDECLARED: Mapping[str, Callable[[], bytes]] = {
    "aac": _ffmpeg("adts", "aac"),
    "mp2": _ffmpeg("mp2", "mp2"),
    "amr": _ffmpeg("amr", "libopencore_amrnb", 8000),
    "webm live": _ffmpeg("webm", "libopus", 48_000, live="1"),
    "mp4 fragmented": _ffmpeg("mp4", "aac", movflags="frag_keyframe+empty_moov", frag_duration="500000"),
}
"""Files that may end anywhere."""


def mutate_audio(payload: bytes, rng: random.Random) -> bytes:
    """Damage a file in one of nine ways: bits, header bytes or fields, a cut, hole, repeat or move, zeros, garbage."""
    damaged = bytearray(payload)
    rng.choice(_MUTATIONS)(damaged, rng)
    return bytes(damaged)


def _flip_bits(file: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, _MAX_FLIPS)):
        file[rng.randrange(len(file))] ^= 1 << rng.randrange(8)


def _edit_header(file: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 4)):
        file[rng.randrange(min(len(file), _HEADER_BYTES))] = rng.randrange(256)


def _edit_field(file: bytearray, rng: random.Random) -> None:
    place, width = rng.randrange(min(len(file), _HEADER_BYTES)), rng.choice([2, 4, 8])
    file[place : place + width] = rng.choice([bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1)])


def _cut(file: bytearray, rng: random.Random) -> None:
    del file[rng.randrange(1, len(file)) :]


def _remove(file: bytearray, rng: random.Random) -> None:
    start, stop = _pick_span(file, rng)
    del file[start:stop]


def _repeat(file: bytearray, rng: random.Random) -> None:
    start, stop = _pick_span(file, rng)
    file[stop:stop] = file[start:stop]


def _move(file: bytearray, rng: random.Random) -> None:
    start, stop = _pick_span(file, rng)
    moved = file[start:stop]
    del file[start:stop]
    place = rng.randrange(len(file) + 1)
    file[place:place] = moved


def _zero(file: bytearray, rng: random.Random) -> None:
    start, stop = _pick_span(file, rng)
    file[start:stop] = bytes(stop - start)


def _insert(file: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(file))
    file[place:place] = rng.randbytes(rng.randrange(1, _MAX_GARBAGE_BYTES))


_MUTATIONS = (_flip_bits, _edit_header, _edit_field, _cut, _remove, _repeat, _move, _zero, _insert)


def _pick_span(file: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(file))
    return start, min(len(file), start + 1 + int(rng.random() ** 2 * 0.6 * len(file)))
