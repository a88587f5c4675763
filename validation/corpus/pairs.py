"""Layout ``pairs``, the default: each audio file lies beside a ``.json`` or ``.txt`` of the same name."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from validation.corpus.records import Record, find_records, merge_records, parse_document, read_record
from validation.corpus.segment_refs import (
    INDEX_STEMS,
    SegmentRef,
    TarListing,
    folder_of,
    ref_file,
    ref_missing,
    ref_unlisted,
    strip_suffix,
)
from validation.domain import Fault


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The record made of the texts beside an audio file, and the fault of a text that cannot be read."""

    record: Record
    fault: Fault | None


def read_pairs(listing: TarListing) -> list[SegmentRef] | None:
    """Read a tar as pairs; None unless at least one audio file has a transcript beside it."""
    texts_of = _match_texts(listing)
    sidecars = {audio: _read_sidecar(listing, texts) for audio, texts in texts_of.items()}
    if all(sidecar.record.text is None for sidecar in sidecars.values()):
        return None
    pairs = [_ref_pair(audio, sidecar) for audio, sidecar in sidecars.items()]
    return [*pairs, *ref_unlisted(listing, texts_of), *_transcripts_without_audio(listing, texts_of)]


def _match_texts(listing: TarListing) -> dict[str, list[str]]:
    """Find the texts of each audio file: those with the same name up to the last dot.

    If there are none, those with the same name up to the first dot, unless another audio file has that name too. This
    is WebDataset's rule; alone, it would make one sample of ``seg_12.34.flac`` and ``seg_12.56.flac``.
    """
    texts = [name for name in listing.texts if name.lower().endswith((".json", ".txt"))]
    by_stem, by_key = _group(texts, strip_suffix), _group(texts, _strip_from_first_dot)
    audio_by_key = _group(listing.audio, _strip_from_first_dot)
    texts_of = {}
    for audio in listing.audio:
        key = _strip_from_first_dot(audio)
        beside = by_stem.get(strip_suffix(audio)) or (by_key.get(key) if len(audio_by_key[key]) == 1 else None)
        if beside:
            texts_of[audio] = beside
    return texts_of


def _read_sidecar(listing: TarListing, texts: Sequence[str]) -> Sidecar:
    record, fault = Record(), None
    for name in texts:
        try:
            record = merge_records(record, _read_text(name, listing.texts[name]))
        except ValueError as error:
            fault = Fault("bad_transcript", f"{name} cannot be read: {error}")
    return Sidecar(record, fault)


def _read_text(name: str, payload: bytes) -> Record:
    if name.lower().endswith(".txt"):
        return Record(text=payload.decode("utf-8-sig").strip())
    document = parse_document(name, payload)
    if isinstance(document, Mapping) and find_records(document) is None:
        return read_record(document)
    return Record()  # an index: it describes many segments, not this one


def _ref_pair(audio: str, sidecar: Sidecar) -> SegmentRef:
    ref = ref_file(audio, sidecar.record)
    return replace(ref, audio=sidecar.fault) if sidecar.fault else ref


def _transcripts_without_audio(listing: TarListing, texts_of: Mapping[str, Collection[str]]) -> list[SegmentRef]:
    """Return a segment per transcript without audio, in the folders that hold transcribed audio."""
    folders = {folder_of(audio) for audio in texts_of}
    matched = {text for texts in texts_of.values() for text in texts}
    without_audio = {}
    for name in listing.texts:
        if name not in matched and folder_of(name) in folders and PurePosixPath(name).stem not in INDEX_STEMS:
            without_audio[name] = _read_sidecar(listing, [name])
    return [
        ref_missing(strip_suffix(name), sidecar.record)
        for name, sidecar in without_audio.items()
        if sidecar.fault or sidecar.record.text is not None
    ]


def _strip_from_first_dot(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0]))


def _group(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups
