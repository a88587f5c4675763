"""What a layout says of one segment: its transcript, and where in the tar its audio is."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from validation.corpus.listing import TarListing, folder_of, strip_suffix
from validation.corpus.records import Record
from validation.domain import Fault, Seconds
from validation.errors import Permanent


class BadLayout(Permanent):
    """A tar is whole, and arranged in no way that is accepted (LAYOUTS.md)."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: not an accepted tar layout: {reason}")


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """An audio file of the tar, or a stretch of it."""

    member: str
    stretch_s: tuple[Seconds, Seconds] | None = None
    """From and to, in the file's own time; None is all of it."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment before its audio is decoded."""

    name: str
    record: Record
    audio: AudioSpan | Fault


def ref_audio(name: str, record: Record, member: str) -> SegmentRef:
    """Claim that one whole audio file is one segment."""
    return _require_text(SegmentRef(name, record, AudioSpan(member)))


def ref_file(member: str, record: Record) -> SegmentRef:
    """Claim that one whole audio file is one segment, named by its path without the suffix."""
    return ref_audio(strip_suffix(member), record, member)


def ref_span(name: str, record: Record, member: str) -> SegmentRef:
    """Claim the stretch of an audio file that the record's times give."""
    start_s, end_s = record.start_s, record.end_s
    if start_s is None or end_s is None or end_s <= start_s:
        return SegmentRef(name, record, Fault("bad_times", f"{name} lasts from {start_s} s to {end_s} s"))
    return _require_text(SegmentRef(name, record, AudioSpan(member, (start_s, end_s))))


def ref_missing(name: str, record: Record) -> SegmentRef:
    """Claim a segment whose audio the tar does not hold."""
    return SegmentRef(name, record, Fault("no_audio", f"the tar holds no audio for {name}"))


def ref_unlisted(contents: TarListing, listed: Collection[str]) -> list[SegmentRef]:
    """Claim the audio that no transcript mentions, in the folders where the transcribed segments lie.

    Elsewhere it is no segment: many tars carry the whole video's sound beside a folder of segments.
    """
    folders = {folder_of(name) for name in listed}
    unlisted = [name for name in contents.audio if name not in listed and folder_of(name) in folders]
    return [ref_file(name, Record()) for name in unlisted]


def _require_text(claim: SegmentRef) -> SegmentRef:
    """Where nobody says what is spoken, that is the segment's fault, not an empty transcript."""
    if claim.record.text is not None:
        return claim
    return replace(claim, audio=Fault("no_transcript", f"{claim.name} has no transcript"))
