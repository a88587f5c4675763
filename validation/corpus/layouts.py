"""Find which accepted layout a tar has, and the segments that it therefore holds. LAYOUTS.md describes the layouts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from validation.corpus.index import read_index
from validation.corpus.lhotse_shar import read_shar
from validation.corpus.pairs import read_pairs
from validation.corpus.records import read_record
from validation.corpus.segment_refs import BadLayout, SegmentRef, TarListing, natural_order
from validation.domain import Fault
from validation.errors import Permanent

_MAX_NAMES = 3
"""How many names a message lists."""


class NoSegments(Permanent):
    """A tar is whole and holds no segment. The queue shows this sentence for the video."""

    def __init__(self, key: str, passed_over: str = "") -> None:
        self.key = key
        super().__init__(f"no segments{passed_over}")


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


def read_layout(listing: TarListing) -> Layout:
    """Find the segments of a tar, in whatever order its members are.

    Raises:
        NoSegments: the tar holds nothing that could be a segment; the message counts what was passed over.
        BadLayout: it does, and is arranged in no accepted layout, or no record finds its audio.
        TarUnsafe: its texts pass a limit.
    """
    kind, segments = _find_layout(listing)
    if not segments:
        raise NoSegments(listing.key, listing.describe_passed_over())
    _check_audio_found(listing, segments)
    name, count = Counter(segment.name for segment in segments).most_common(1)[0]
    if count > 1:
        raise BadLayout(listing.key, f"{count} segments are called {name!r}")
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
        raise BadLayout(
            listing.key,
            f"nothing transcribes its {len(listing.audio)} audio files ({_quote(listing.audio)}); "
            f"its texts are {_quote(listing.texts) or 'none'}{_describe_unreadable(listing)}"
            f"{listing.describe_passed_over()}",
        )
    raise NoSegments(listing.key, listing.describe_passed_over())


def _describe_unreadable(listing: TarListing) -> str:
    """Return the end of a sentence that names the first text that cannot be decoded, and why."""
    for name in listing.texts:
        try:
            listing.decode(name)
        except ValueError as error:
            return f"; {name} cannot be read: {error}"
    return ""


def _check_audio_found(listing: TarListing, segments: Sequence[SegmentRef]) -> None:
    """Refuse a tar in which no record finds its audio: its names were misread, and no segment is to blame."""
    if not listing.audio:
        raise BadLayout(
            listing.key, f"it lists {len(segments)} segments and holds no audio{listing.describe_passed_over()}"
        )
    if all(isinstance(segment.audio, Fault) and segment.audio.kind == "no_audio" for segment in segments):
        named = _quote(segment.record.audio or segment.name for segment in segments)
        raise BadLayout(
            listing.key,
            f"none of its {len(segments)} records finds its audio: they name {named}, "
            f"and the tar holds {_quote(listing.audio)}",
        )


def _quote(names: Iterable[str]) -> str:
    """List the first few names."""
    listed = list(names)
    return ", ".join([*map(repr, listed[:_MAX_NAMES]), *(["..."] if len(listed) > _MAX_NAMES else [])])


def _find_language(listing: TarListing) -> str | None:
    if "metadata.json" not in listing.texts:
        return None
    try:
        document = listing.parse("metadata.json")
    except ValueError:
        return None
    return read_record(document).language if isinstance(document, Mapping) else None
