"""How much one video may ask of a box. What passes a limit is refused by name, never cut to fit."""

from dataclasses import dataclass, field

from validation.domain import Seconds


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Bounds of one tar. They stop a hostile or mispacked object from taking the box down with it."""

    members: int = 50_000
    """Twelve hours in segments of 4 s, two members each, are 21,600."""
    total_bytes: int = 2 << 30
    """After decompression, headers included. Twelve hours of 16 kHz 16-bit WAV are 1.4 GB; FLAC is half."""
    member_bytes: int = 3 << 29
    """1.5 GiB: the same twelve hours as a single WAV member."""
    ratio: float = 100.0
    """Bytes after decompression for each before. Speech in WAV packs 1.3 to 1, a tar of nothing but JSON 42 to 1."""


@dataclass(frozen=True, slots=True)
class CorpusLimits:
    """Bounds of one video: of its tar, and of the audio that the tar decodes to."""

    tar: TarLimits = field(default_factory=TarLimits)
    segment_s: Seconds = 3600.0
    """The models listen to seconds. An hour in one segment is a mistake of the transcription."""
    video_s: Seconds = 12 * 3600.0
    """YouTube's own limit. Decoded, it is 2.8 GB of memory."""
