"""What a reader of an audio container returns: the bytes to decode, the decoder, and the length that is declared."""

from typing import Literal, NamedTuple

from validation.domain import Seconds

PLACEHOLDER_BYTES = 0x7F000000
"""A declared size from here on that the file does not have is a placeholder (SoX writes 0x7FFFF000, FFmpeg 0xFFFFFFFF,
others 0x80000000): no member of a tar may be this large."""
MAX_STRAY_S: Seconds = 0.25
"""Bytes behind the samples that are no chunk or tag, as the time that they would play: some writers append a tag."""


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
    declared_s: Seconds | None = None
    """The length that the container's own fields give, where FFmpeg replaces them by what it finds."""
