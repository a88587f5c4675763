"""Detect the layout of a tar, and list its segments. LAYOUTS.md describes the accepted layouts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from validation.corpus.index import read_index
from validation.corpus.pairs import read_pairs
from validation.corpus.paths import nfc_base_name, strip_suffix
from validation.corpus.records import JsonObject, Record, read_record
from validation.corpus.segment_refs import (
    BadLayout,
    MemberNames,
    SegmentRef,
    TarListing,
    natural_sort_key,
    ref_audio,
    ref_missing,
    ref_span,
)
from validation.domain import Fault, Seconds
from validation.errors import Permanent

_MAX_ID_CHARS = 200
_MAX_MARGIN_S: Seconds = 0.25
"""If at most this time lies before and after the only supervision of a cut, the segment is the whole cut."""


class _CutAudio:
    """Finds the audio file of a Lhotse cut by the cut's id, which may contain slashes.

    The id matches the path of the file without suffix. Otherwise the last part of the id matches a unique file name.
    """

    def __init__(self, listing: TarListing) -> None:
        self._by_path = MemberNames(listing.key, {strip_suffix(audio): audio for audio in listing.audio})
        counts = Counter(nfc_base_name(strip_suffix(audio)) for audio in listing.audio)
        self._by_last_part = {
            part: audio for audio in listing.audio if counts[part := nfc_base_name(strip_suffix(audio))] == 1
        }

    def find(self, cut_id: str) -> str | None:
        """Return the path of the audio file of a cut; None if no audio file matches."""
        return self._by_path.find(cut_id) or self._by_last_part.get(nfc_base_name(cut_id))


def read_shar(listing: TarListing) -> list[SegmentRef] | None:
    """Read the segments of a tar from its Lhotse cuts (layout ``shar``); return None if the tar has no cuts.

    A cut with one supervision is one segment. A cut with several supervisions is sliced into one segment per
    supervision. A cut without supervisions is one segment without a transcript.

    Raises:
        BadLayout: the file of the cuts is damaged, or a cut has several tracks.
        TarUnsafe: the budget of the tar is exceeded.
    """
    names = [name for name in sorted(listing.texts) if name.lower().endswith((".jsonl", ".jsonl.gz"))]
    cuts = [cut for name in names for cut in _read_cuts(listing, name)]
    audio = _CutAudio(listing)
    return [ref for cut in cuts for ref in _ref_cut(cut, audio)] if cuts else None


def _read_cuts(listing: TarListing, name: str) -> list[JsonObject]:
    """Return the cuts in a JSON-lines file; raise ``BadLayout`` for a damaged file or a cut of several tracks."""
    try:
        rows = listing.parse(name)
    except ValueError as error:
        raise BadLayout(listing.key, f"{name} cannot be read: {error}") from None
    cuts = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("supervisions"), list)]
    if mixed := next((row for row in rows if isinstance(row, Mapping) and isinstance(row.get("tracks"), list)), None):
        cut_id = str(mixed.get("id"))[:_MAX_ID_CHARS]
        raise BadLayout(listing.key, f"{name} holds cut {cut_id!r} of several tracks: mix it to one recording first")
    listing.spend_segments(name, sum(max(1, len(cut["supervisions"])) for cut in cuts))
    return cuts


def _ref_cut(cut: JsonObject, audio: _CutAudio) -> list[SegmentRef]:
    """Return the segments of a cut: one per supervision, or one without a transcript if there is no supervision."""
    cut_id = str(cut.get("id"))
    member = audio.find(cut_id)
    records = [_read_supervision(row) for row in cut["supervisions"] if isinstance(row, Mapping)] or [Record()]
    if member is None:
        return [ref_missing(name, record) for name, record in _name_supervisions(cut_id, records)]
    if len(records) == 1:
        return [_ref_only_supervision(cut_id, records[0], member, read_record(cut).duration_s)]
    return [ref_span(name, record, member) for name, record in _name_supervisions(cut_id, records)]


def _ref_only_supervision(cut_id: str, record: Record, member: str, cut_s: Seconds | None) -> SegmentRef:
    """Return the segment of a cut with one supervision: the whole cut, or the span that the supervision covers."""
    start_s, end_s = record.start_s or 0.0, record.end_s
    if cut_s is None or end_s is None or (start_s <= _MAX_MARGIN_S and end_s >= cut_s - _MAX_MARGIN_S):
        return ref_audio(cut_id, record, member)
    return ref_span(cut_id, record, member)


def _read_supervision(row: JsonObject) -> Record:
    """Read the record of a supervision. Its ``start`` is a position in the audio of the cut, so it is the offset."""
    record = read_record(row)
    return replace(record, offset_s=record.start_s)


def _name_supervisions(cut_id: str, records: list[Record]) -> list[tuple[str, Record]]:
    """Return each record with the name of its segment: the id of the cut, with a number if there are several."""
    if len(records) == 1:
        return [(cut_id, records[0])]
    return [(f"{cut_id}-{place:03d}", record) for place, record in enumerate(records)]


_MAX_NAMES = 3
"""Maximum number of file names in an error message."""


class NoSegments(Permanent):
    """A tar is complete but holds no segment. The queue stores the message of this error for the video."""

    def __init__(self, key: str, ignored_files: str = "") -> None:
        self.key = key
        super().__init__(f"no segments{ignored_files}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one tar, with its segments before their audio is decoded."""

    kind: str
    """The name of the layout: ``pairs``, ``indexed``, ``sliced`` or ``shar``."""
    segments: tuple[SegmentRef, ...]
    """The segments in natural order of their names, which are unique."""
    language: str | None
    """The language that ``metadata.json`` at the top of the tar declares for the whole video; None if it declares
    none."""
    audio: Mapping[str, bytes]
    """The content of each audio file of the tar, by path."""


def read_layout(listing: TarListing) -> Layout:
    """Detect the layout of a tar and list its segments. The order of the tar's members does not matter.

    Raises:
        NoSegments: the tar holds no segments; the message counts the ignored files.
        BadLayout: the tar holds audio or records but has no accepted layout; or no record matches an audio file; or two
            segments have the same name.
        TarUnsafe: the texts of the tar exceed a limit.
    """
    kind, segments = _find_layout(listing)
    if not segments:
        raise NoSegments(listing.key, listing.describe_ignored_files())
    _check_audio_found(listing, segments)
    name, count = Counter(segment.name for segment in segments).most_common(1)[0]
    if count > 1:
        raise BadLayout(listing.key, f"{count} segments are called {name!r}")
    ordered = sorted(segments, key=lambda segment: natural_sort_key(segment.name))
    return Layout(kind, tuple(ordered), _find_language(listing), listing.audio)


def _find_layout(listing: TarListing) -> tuple[str, list[SegmentRef]]:
    """Return the name of the first layout that fits, and its segments. ``read_layout`` documents the errors."""
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
            f"{listing.describe_ignored_files()}",
        )
    raise NoSegments(listing.key, listing.describe_ignored_files())


def _describe_unreadable(listing: TarListing) -> str:
    """Return the last part of an error message: the first text that cannot be decoded, and the reason; else empty."""
    for name in listing.texts:
        try:
            listing.decode(name)
        except ValueError as error:
            return f"; {name} cannot be read: {error}"
    return ""


def _check_audio_found(listing: TarListing, segments: Sequence[SegmentRef]) -> None:
    """Raise ``BadLayout`` if the tar has no audio, or if no record matches an audio file: then names were misread."""
    if not listing.audio:
        raise BadLayout(
            listing.key, f"it lists {len(segments)} segments and holds no audio{listing.describe_ignored_files()}"
        )
    if all(isinstance(segment.audio, Fault) and segment.audio.kind == "no_audio" for segment in segments):
        named = _quote(segment.record.audio or segment.name for segment in segments)
        raise BadLayout(
            listing.key,
            f"none of its {len(segments)} records finds its audio: they name {named}, "
            f"and the tar holds {_quote(listing.audio)}",
        )


def _quote(names: Iterable[str]) -> str:
    """Return the first ``_MAX_NAMES`` names as one quoted, comma-separated text."""
    listed = list(names)
    return ", ".join([*map(repr, listed[:_MAX_NAMES]), *(["..."] if len(listed) > _MAX_NAMES else [])])


def _find_language(listing: TarListing) -> str | None:
    """Return the language that ``metadata.json`` at the top of the tar declares.

    The result is None if the file is missing, cannot be read or declares none.
    """
    if "metadata.json" not in listing.texts:
        return None
    try:
        document = listing.parse("metadata.json")
    except ValueError:
        return None
    return read_record(document).language if isinstance(document, Mapping) else None
