"""Find which accepted layout a tar has, and the segments that it therefore holds. LAYOUTS.md describes the layouts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from validation.corpus.index import read_index
from validation.corpus.lhotse_shar import read_shar
from validation.corpus.pairs import read_pairs
from validation.corpus.records import parse_document, read_record
from validation.corpus.segment_refs import BadLayout, SegmentRef, TarListing, list_tar, natural_order
from validation.corpus.tar import Member
from validation.errors import Permanent


class NoSegments(Permanent):
    """A tar is whole and holds no segment. The queue shows this sentence for the video."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__("no segments")


@dataclass(frozen=True, slots=True)
class Layout:
    """A tar's segments before their audio is decoded."""

    kind: str
    """``pairs``, ``indexed``, ``sliced`` or ``shar``."""
    segments: tuple[SegmentRef, ...]
    """In natural order of their names; no two have the same name."""
    language: str | None
    """The language that the tar's ``metadata.json`` declares for the whole video."""
    audio: Mapping[str, bytes]
    """The tar's audio files, by name."""


def read_layout(key: str, members: Iterable[Member]) -> Layout:
    """Find the segments of a tar, in whatever order its members are.

    Raises:
        NoSegments: the tar holds nothing that could be a segment.
        BadLayout: it does, and is arranged in no accepted layout.
    """
    listing = list_tar(key, members)
    kind, segments = _find_layout(listing)
    if not segments:
        raise NoSegments(key)
    if not listing.audio:
        raise BadLayout(key, f"it lists {len(segments)} segments and holds no audio")
    name, count = Counter(segment.name for segment in segments).most_common(1)[0]
    if count > 1:
        raise BadLayout(key, f"{count} segments are called {name!r}")
    ordered = sorted(segments, key=lambda segment: natural_order(segment.name))
    return Layout(kind, tuple(ordered), _find_language(listing), listing.audio)


def _find_layout(listing: TarListing) -> tuple[str, list[SegmentRef]]:
    if (pairs := read_pairs(listing)) is not None:
        return "pairs", pairs
    if (index := read_index(listing)) is not None:
        return index
    if (cuts := read_shar(listing)) is not None:
        return "shar", cuts
    if listing.audio:
        raise BadLayout(listing.key, f"nothing transcribes its {len(listing.audio)} audio files")
    raise NoSegments(listing.key)


def _find_language(listing: TarListing) -> str | None:
    try:
        document = parse_document("metadata.json", listing.texts.get("metadata.json", b"{}"))
    except ValueError:
        return None
    return read_record(document).language if isinstance(document, Mapping) else None
