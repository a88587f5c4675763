"""Read one tar as a worker does, without a ledger, a model or a server. ``vfleet inspect`` prints the result."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from validation.corpus.fetch import CorpusLimits, decode_layout
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.segment_refs import SegmentRef, TarListing, read_listing
from validation.domain import SAMPLE_RATE, DecodedSegment, Fault, Seconds, Video
from validation.errors import Permanent

LAYOUT_REASONS = {
    "pairs": "each audio file has a transcript file with the same name",
    "indexed": "an index file lists one audio file per segment",
    "sliced": "an index file lists times in a longer audio file",
    "shar": "its cuts lie beside their audio files, as Lhotse Shar writes them",
}
"""The reason why a tar was read in a layout, by the name of the layout (``Layout.kind``)."""


@dataclass(frozen=True, slots=True)
class InspectedSegment:
    """One segment of a tar, as a worker would read it."""

    name: str
    member: str | None
    """Path of the tar member that holds the audio; None if the tar gives the segment no audio, or times or a transcript
    that cannot be used."""
    slice_s: tuple[Seconds, Seconds] | None
    """Start and end of the segment in the member, as the layout states them; None if the layout states the whole
    member. The ``duration`` of the record may still cut a part of a much longer member."""
    start_s: Seconds | None
    end_s: Seconds | None
    """Start and end of the segment that its record declares; None if the record does not declare them."""
    language: str | None
    text: str
    decoded_s: Seconds | None
    """Length of the decoded audio; None if the segment has a fault."""
    length_difference_s: Seconds | None
    """Length of the decoded audio minus the length that the record declares; None if a length is unknown."""
    fault: str | None
    """Kind and message of the segment's fault; None if the segment can be scored."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The layout and the segments of a tar, or the error with which the tar is rejected."""

    key: str
    layout: str | None = None
    layout_reason: str | None = None
    """The reason why the tar was read in this layout; None if the tar is rejected."""
    segments: tuple[InspectedSegment, ...] = ()
    ignored_files: Mapping[str, int] = field(default_factory=dict)
    """Number of ignored files per suffix: files that are neither audio nor text, and hidden files."""
    refusal: str | None = None
    """Message of the error that would fail the video; None if the segments would be scored."""


def inspect_tar(stream: io.RawIOBase, key: str, limits: CorpusLimits | None = None) -> Inspection:
    """Read a tar as a worker does, and decode its audio.

    If a worker would fail the video, the result has only ``refusal``, the message of the error, and ``ignored_files``.

    Args:
        stream: the bytes of the tar, plain or compressed with gzip.
        key: the name of the tar in messages.
        limits: as for ``fetch_video``.
    """
    limits = limits or CorpusLimits()
    listing: TarListing | None = None
    try:
        listing = read_listing(stream, key, limits.tar)
        layout = read_layout(listing)
        decoded = decode_layout(key, layout, Video(key, None, None), limits)
    except Permanent as refusal:
        return Inspection(key, ignored_files=_ignored_files(listing), refusal=str(refusal))
    segments = tuple(
        _inspect_segment(ref, segment, layout) for ref, segment in zip(layout.segments, decoded, strict=True)
    )
    return Inspection(key, layout.kind, LAYOUT_REASONS[layout.kind], segments, _ignored_files(listing))


def _ignored_files(listing: TarListing | None) -> Mapping[str, int]:
    """Return the number of ignored files per suffix, sorted by suffix; empty without a listing."""
    return dict(sorted(listing.ignored_files.items())) if listing else {}


def _inspect_segment(ref: SegmentRef, decoded: DecodedSegment, layout: Layout) -> InspectedSegment:
    span = None if isinstance(ref.audio, Fault) else ref.audio
    fault = decoded.audio if isinstance(decoded.audio, Fault) else None
    return InspectedSegment(
        name=ref.name,
        member=span.member if span else None,
        slice_s=span.span_s if span else None,
        start_s=ref.record.start_s,
        end_s=ref.record.end_s,
        language=ref.record.language or layout.language,
        text=ref.record.text or "",
        decoded_s=None if isinstance(decoded.audio, Fault) else len(decoded.audio) / SAMPLE_RATE,
        length_difference_s=decoded.length_difference_s,
        fault=str(fault) if fault else None,
    )
