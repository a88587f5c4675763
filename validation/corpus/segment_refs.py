"""The files of a tar by kind, and the references from its segments to their audio."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from validation.corpus.records import Record
from validation.corpus.tar import Member
from validation.domain import Fault, Seconds
from validation.errors import Permanent

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".m4a", ".aac", ".opus", ".ogg", ".webm")
TEXT_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".txt")
INDEX_STEMS = ("metadata", "transcription", "transcript", "segments", "manifest")
"""Names, without suffix, of the one file that lists all segments; earlier names are preferred."""
_DIGITS = re.compile(r"([0-9]+)")


class BadLayout(Permanent):
    """A tar is whole, and arranged in no accepted layout (LAYOUTS.md)."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: not an accepted tar layout: {reason}")


@dataclass(frozen=True, slots=True)
class TarListing:
    """The audio files and the texts of one tar, by name."""

    key: str
    audio: Mapping[str, bytes]
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """An audio file of the tar, or a span of it."""

    member: str
    span_s: tuple[Seconds, Seconds] | None = None
    """Start and end in the file's own time; None is the whole file."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment before its audio is decoded."""

    name: str
    record: Record
    audio: AudioSpan | Fault


def is_wanted(name: str) -> bool:
    """Return True for audio and texts that are not hidden: macOS leaves ``._x.flac`` beside ``x.flac``."""
    path = PurePosixPath(name)
    return not path.name.startswith(".") and path.name.lower().endswith(AUDIO_SUFFIXES + TEXT_SUFFIXES)


def list_tar(key: str, members: Iterable[Member]) -> TarListing:
    """Separate audio from texts. The members are those for which ``is_wanted``."""
    audio: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    for member in members:
        kind = audio if member.name.lower().endswith(AUDIO_SUFFIXES) else texts
        kind[member.name] = member.payload
    return TarListing(key, audio, texts)


def ref_audio(name: str, record: Record, member: str) -> SegmentRef:
    """Refer a segment to one whole audio file."""
    return _require_text(SegmentRef(name, record, AudioSpan(member)))


def ref_file(member: str, record: Record) -> SegmentRef:
    """Refer a segment to one whole audio file, and name it by the file's path without the suffix."""
    return ref_audio(strip_suffix(member), record, member)


def ref_span(name: str, record: Record, member: str) -> SegmentRef:
    """Refer a segment to the span of an audio file between the record's times."""
    start_s, end_s = record.start_s, record.end_s
    if start_s is None or end_s is None or end_s <= start_s:
        return SegmentRef(name, record, Fault("bad_times", f"{name} lasts from {start_s} s to {end_s} s"))
    return _require_text(SegmentRef(name, record, AudioSpan(member, (start_s, end_s))))


def ref_missing(name: str, record: Record) -> SegmentRef:
    """Return a segment whose audio the tar does not hold."""
    return SegmentRef(name, record, Fault("no_audio", f"the tar holds no audio for {name}"))


def ref_unlisted(listing: TarListing, listed: Collection[str]) -> list[SegmentRef]:
    """Return a segment per audio file without a record, in the folders that hold transcribed audio.

    In other folders audio is no segment: many tars carry the whole video's sound beside a folder of segments.
    """
    folders = {folder_of(name) for name in listed}
    unlisted = [name for name in listing.audio if name not in listed and folder_of(name) in folders]
    return [ref_file(name, Record()) for name in unlisted]


def _require_text(ref: SegmentRef) -> SegmentRef:
    """Turn a segment without a transcript into a fault: a missing transcript is not an empty one."""
    if ref.record.text is not None:
        return ref
    return replace(ref, audio=Fault("no_transcript", f"{ref.name} has no transcript"))


def strip_suffix(name: str) -> str:
    """Return a file's path without its last suffix: ``a/seg_12.34.flac`` is ``a/seg_12.34``."""
    return str(PurePosixPath(name).with_suffix(""))


def folder_of(name: str) -> PurePosixPath:
    """Return the folder that holds a file, ``.`` for the tar's top."""
    return PurePosixPath(name).parent


def natural_order(name: str) -> tuple[tuple[object, ...], str]:
    """Return a sort key that orders digits by value: ``seg_2`` before ``seg_10``."""
    parts = _DIGITS.split(name)  # a word, a number, a word, ...
    return tuple(_numeric_key(part) if place % 2 else part for place, part in enumerate(parts)), name


def _numeric_key(digits: str) -> tuple[int, str]:
    """Order digits by value, however many there are."""
    value = digits.lstrip("0")
    return len(value), value
