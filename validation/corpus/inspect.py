"""What the fleet reads from one tar, without a ledger, a model or a server. The core of ``vfleet inspect``."""

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
"""Why a tar was read as the layout of this name (``Layout.kind``)."""


@dataclass(frozen=True, slots=True)
class InspectedSegment:
    """One segment as a worker would read it."""

    name: str
    member: str | None
    """The tar member that holds its audio; None if the record finds no audio."""
    slice_s: tuple[Seconds, Seconds] | None
    """Start and end in that member; None is the whole member."""
    start_s: Seconds | None
    end_s: Seconds | None
    """Its time in the video, as its record declares it."""
    language: str | None
    text: str
    decoded_s: Seconds | None
    """Length of its audio after decoding; None if it has a fault."""
    length_difference_s: Seconds | None
    """Decoded length minus the length that its record declares; None if the record declares none."""
    fault: str | None
    """The kind of its fault and the sentence; None if it can be scored."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the fleet reads from a tar, or the sentence that refuses it."""

    key: str
    layout: str | None = None
    reason: str | None = None
    """Why the tar was read as this layout."""
    segments: tuple[InspectedSegment, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files that are neither audio nor text, counted by suffix."""
    refusal: str | None = None
    """The error that would fail the video; None if its segments would be scored."""


def inspect_tar(stream: io.RawIOBase, key: str, limits: CorpusLimits | None = None) -> Inspection:
    """Read a tar as a worker does, and decode its audio. A tar that is refused is described by its refusal.

    Args:
        stream: the bytes of the tar, compressed or not.
        key: its name in messages.
        limits: as for ``fetch_video``.
    """
    limits = limits or CorpusLimits()
    listing: TarListing | None = None
    try:
        listing = read_listing(stream, key, limits.tar)
        layout = read_layout(listing)
        decoded = decode_layout(key, layout, Video(key, None, None), limits)
    except Permanent as refusal:
        return Inspection(key, passed_over=_passed_over(listing), refusal=str(refusal))
    segments = tuple(_describe(ref, segment, layout) for ref, segment in zip(layout.segments, decoded, strict=True))
    return Inspection(key, layout.kind, LAYOUT_REASONS[layout.kind], segments, _passed_over(listing))


def _passed_over(listing: TarListing | None) -> Mapping[str, int]:
    return dict(sorted(listing.passed_over.items())) if listing else {}


def _describe(ref: SegmentRef, decoded: DecodedSegment, layout: Layout) -> InspectedSegment:
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
