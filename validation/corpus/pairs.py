"""Read the default layout ``pairs``: beside each audio file lies a ``.json`` or ``.txt`` file of the same name."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from validation.corpus.paths import folder_of, stem_of, strip_all_suffixes, strip_suffix, to_nfc
from validation.corpus.records import JsonObject, Record, find_records, merge_records, read_record
from validation.corpus.segment_refs import (
    INDEX_STEMS,
    BadLayout,
    SegmentRef,
    TarListing,
    ref_file,
    ref_missing,
    ref_span,
    ref_untranscribed,
)
from validation.domain import Fault, Seconds

_MAX_CLIP_S: Seconds = 60.0
"""Maximum length of a clip that stays one segment although its transcript consists of parts with times. A longer clip
is sliced into one segment per part."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The content of all texts beside one audio file."""

    record: Record
    """The records of the texts, merged."""
    fault: Fault | None
    """The fault of the last text that cannot be read; None if all can be read."""
    parts: Sequence[Record] = ()
    """One record per part of the transcript, if a part ends after ``_MAX_CLIP_S``; else empty."""


def read_pairs(listing: TarListing) -> list[SegmentRef] | None:
    """Read the segments of a tar in the layout ``pairs``; return None if no audio file has a transcript beside it.

    Raises:
        BadLayout: the name of a text matches two audio files.
        TarUnsafe: the budget of the tar is exceeded.
    """
    texts_of = _match_texts(listing)
    sidecars = {audio: _read_sidecar(listing, texts) for audio, texts in texts_of.items()}
    if all(sidecar.record.text is None and not sidecar.parts for sidecar in sidecars.values()):
        return None
    pairs = [ref for audio, sidecar in sidecars.items() for ref in _ref_pair(audio, sidecar)]
    return [*pairs, *ref_untranscribed(listing, texts_of), *_transcripts_without_audio(listing, texts_of)]


def _match_texts(listing: TarListing) -> dict[str, list[str]]:
    """Map each audio file to the texts with the same name up to the last dot, exactly or in Unicode NFC.

    If there is no such text, the names are compared up to the first dot, unless two audio files then have the same
    name. The first dot is WebDataset's rule. That rule alone would merge ``seg_12.34.flac`` and ``seg_12.56.flac`` into
    one sample.

    Raises:
        BadLayout: the name of a text in Unicode NFC matches two audio files.
    """
    texts = [name for name in listing.texts if name.lower().endswith((".json", ".txt"))]
    by_stem, by_form, by_key = _group(texts, strip_suffix), _group(texts, _stem_form), _group(texts, _first_dot_form)
    audio_by_form, audio_by_key = _group(listing.audio, _stem_form), _group(listing.audio, _first_dot_form)
    texts_of = {}
    for audio in listing.audio:
        form, key = _stem_form(audio), _first_dot_form(audio)
        beside = by_stem.get(strip_suffix(audio))
        if not beside and (beside := by_form.get(form)) and len(rivals := audio_by_form[form]) > 1:
            raise BadLayout(listing.key, f"{beside[0]!r} is the text of both {rivals[0]!r} and {rivals[1]!r}")
        beside = beside or (by_key.get(key) if len(audio_by_key[key]) == 1 else None)
        if beside:
            texts_of[audio] = beside
    return texts_of


def _read_sidecar(listing: TarListing, texts: Sequence[str]) -> Sidecar:
    """Read and merge the texts beside one audio file."""
    sidecar = Sidecar(Record(), None)
    for name in texts:
        try:
            read = _read_text(listing, name)
        except ValueError as error:
            sidecar = replace(sidecar, fault=Fault("bad_transcript", f"{name} cannot be read: {error}"))
            continue
        record = merge_records(sidecar.record, read.record)
        sidecar = replace(sidecar, record=record, parts=sidecar.parts or read.parts)
    return sidecar


def _read_text(listing: TarListing, name: str) -> Sidecar:
    """Read one text; the result is empty for an index. Raise ValueError if the text cannot be read."""
    if name.lower().endswith(".txt"):
        return Sidecar(Record(text=listing.decode(name).strip()), None)
    document = listing.parse(name)
    rows = find_records(document)
    if isinstance(document, Mapping) and rows is None:
        return Sidecar(read_record(document), None)
    if rows and stem_of(name) not in INDEX_STEMS:
        listing.spend_segments(name, len(rows))
        return _read_transcript_in_parts(document, rows, only_audio=len(listing.audio) == 1)
    if rows is not None and isinstance(document, Mapping) and stem_of(name) not in INDEX_STEMS:
        return Sidecar(read_record(document), None)  # a transcript by Whisper whose list of parts is empty
    return Sidecar(Record(), None)  # an index, which describes many segments


def _read_transcript_in_parts(document: Any, rows: Sequence[JsonObject], *, only_audio: bool) -> Sidecar:
    """Read the JSON that Whisper writes beside a clip: the whole text, and its parts with their times in the clip.

    The result is empty if the document is an index. It is an index if a part names an audio file, or if no part has a
    text. In a tar with only one audio file it is also an index if it has no whole text, or if a part ends after
    ``_MAX_CLIP_S``.

    Args:
        document: the parsed JSON.
        rows: the parts of the document.
        only_audio: whether the tar holds only one audio file.
    """
    whole = read_record(document) if isinstance(document, Mapping) else Record()
    parts = [read_record(row) for row in rows]
    if any(part.audio for part in parts) or all(part.text is None for part in parts):
        return Sidecar(Record(), None)
    if only_audio and whole.text is None:
        return Sidecar(Record(), None)
    if max((part.end_s or 0.0 for part in parts), default=0.0) <= _MAX_CLIP_S:
        text = " ".join((part.text or "").strip() for part in parts) if whole.text is None else whole.text
        return Sidecar(replace(whole, text=text), None)
    if only_audio:
        return Sidecar(Record(), None)
    return Sidecar(
        replace(whole, text=None), None, [replace(part, language=part.language or whole.language) for part in parts]
    )


def _ref_pair(audio: str, sidecar: Sidecar) -> list[SegmentRef]:
    """Return the segment of an audio file, or its segments if the transcript has parts."""
    if sidecar.parts and not sidecar.fault:
        stem = strip_suffix(audio)
        return [ref_span(f"{stem}-{place:03d}", part, audio) for place, part in enumerate(sidecar.parts)]
    ref = ref_file(audio, sidecar.record)
    return [replace(ref, audio=sidecar.fault) if sidecar.fault else ref]


def _transcripts_without_audio(listing: TarListing, texts_of: Mapping[str, Collection[str]]) -> list[SegmentRef]:
    """Return one segment with the fault ``no_audio`` per transcript without audio.

    Only transcripts in folders with transcribed audio count, and files with the name of an index do not.
    """
    folders = {folder_of(audio) for audio in texts_of}
    matched = {text for texts in texts_of.values() for text in texts}
    without_audio = {}
    for name in listing.texts:
        if name not in matched and folder_of(name) in folders and stem_of(name) not in INDEX_STEMS:
            without_audio[name] = _read_sidecar(listing, [name])
    return [
        ref_missing(strip_suffix(name), sidecar.record)
        for name, sidecar in without_audio.items()
        if sidecar.fault or sidecar.record.text is not None
    ]


def _stem_form(name: str) -> str:
    """Return a path up to its last dot, in Unicode NFC."""
    return to_nfc(strip_suffix(name))


def _first_dot_form(name: str) -> str:
    """Return a path up to the first dot of its file name, in Unicode NFC."""
    return strip_all_suffixes(to_nfc(name))


def _group(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    """Group names by the result of ``form``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(form(name), []).append(name)
    return groups
