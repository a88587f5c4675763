"""Which of the accepted layouts a tar has, and the segments that it therefore holds. LAYOUTS.md describes them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from validation.corpus.index import read_index
from validation.corpus.lhotse_shar import read_shar
from validation.corpus.listing import TarListing, natural_order, sort_contents
from validation.corpus.pairs import read_pairs
from validation.corpus.records import parse_document, read_record
from validation.corpus.segment_refs import BadLayout, SegmentRef
from validation.corpus.tar import Member
from validation.errors import Permanent


class NoSegments(Permanent):
    """A tar is whole and holds no segment. Its sentence is what the queue shows for the video."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__("no segments")


@dataclass(frozen=True, slots=True)
class Layout:
    """A tar's segments before their audio is decoded."""

    kind: str
    """``pairs``, ``indexed``, ``sliced`` or ``shar``."""
    claims: tuple[SegmentRef, ...]
    """In the order in which people count their names; no two have the same name."""
    language: str | None
    """The language that the tar's ``metadata.json`` claims for the whole video."""
    audio: Mapping[str, bytes]
    """The tar's audio files, by name."""


def read_layout(key: str, members: Iterable[Member]) -> Layout:
    """Find the segments of a tar, whatever the order of its members.

    Raises:
        NoSegments: there is nothing in it that could be one.
        BadLayout: there is, and it is arranged in no accepted way.
    """
    contents = sort_contents(key, members)
    kind, claims = _find_layout(contents)
    if not claims:
        raise NoSegments(key)
    if not contents.audio:
        raise BadLayout(key, f"it lists {len(claims)} segments and holds no audio")
    name, count = Counter(claim.name for claim in claims).most_common(1)[0]
    if count > 1:
        raise BadLayout(key, f"{count} segments are called {name!r}")
    ordered = sorted(claims, key=lambda claim: natural_order(claim.name))
    return Layout(kind, tuple(ordered), _find_language(contents), contents.audio)


def _find_layout(contents: TarListing) -> tuple[str, list[SegmentRef]]:
    if (pairs := read_pairs(contents)) is not None:
        return "pairs", pairs
    if (index := read_index(contents)) is not None:
        return index
    if (cuts := read_shar(contents)) is not None:
        return "shar", cuts
    if contents.audio:
        raise BadLayout(contents.key, f"nothing transcribes its {len(contents.audio)} audio files")
    raise NoSegments(contents.key)


def _find_language(contents: TarListing) -> str | None:
    try:
        facts = parse_document("metadata.json", contents.texts.get("metadata.json", b"{}"))
    except ValueError:
        return None
    return read_record(facts).language if isinstance(facts, Mapping) else None
