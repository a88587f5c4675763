"""Layout ``pairs``: each audio file stands beside a ``.json`` or ``.txt`` of the same name. The default layout."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from validation.corpus.listing import INDEX_STEMS, TarListing, folder_of, strip_suffix
from validation.corpus.records import Record, find_records, merge_records, parse_document, read_record
from validation.corpus.segment_refs import SegmentRef, ref_file, ref_missing, ref_unlisted
from validation.domain import Fault


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the texts beside an audio file say of it, and why one of them could not be read."""

    record: Record
    fault: Fault | None


def read_pairs(contents: TarListing) -> list[SegmentRef] | None:
    """Read a tar as pairs; None unless at least one audio file has a transcript beside it."""
    texts_of = _match_texts(contents)
    sidecars = {audio: _read_sidecar(contents, texts) for audio, texts in texts_of.items()}
    if all(sidecar.record.text is None for sidecar in sidecars.values()):
        return None
    pairs = [_claim_pair(audio, sidecar) for audio, sidecar in sidecars.items()]
    return [*pairs, *ref_unlisted(contents, texts_of), *_transcripts_without_audio(contents, texts_of)]


def _match_texts(contents: TarListing) -> dict[str, list[str]]:
    """Find the texts of each audio file: those named like it up to the last dot.

    Where there are none, those named like it up to the first dot, as long as no other audio is: that is
    WebDataset's rule, and taken alone it would make one sample of ``seg_12.34.flac`` and ``seg_12.56.flac``.
    """
    texts = [name for name in contents.texts if name.lower().endswith((".json", ".txt"))]
    by_stem, by_key = _group(texts, strip_suffix), _group(texts, _strip_from_first_dot)
    rivals = _group(contents.audio, _strip_from_first_dot)
    texts_of = {}
    for audio in contents.audio:
        key = _strip_from_first_dot(audio)
        beside = by_stem.get(strip_suffix(audio)) or (by_key.get(key) if len(rivals[key]) == 1 else None)
        if beside:
            texts_of[audio] = beside
    return texts_of


def _read_sidecar(contents: TarListing, texts: Sequence[str]) -> Sidecar:
    record, fault = Record(), None
    for name in texts:
        try:
            record = merge_records(record, _read_text(name, contents.texts[name]))
        except ValueError as error:
            fault = Fault("bad_transcript", f"{name} cannot be read: {error}")
    return Sidecar(record, fault)


def _read_text(name: str, payload: bytes) -> Record:
    if name.lower().endswith(".txt"):
        return Record(text=payload.decode("utf-8-sig").strip())
    document = parse_document(name, payload)
    if isinstance(document, Mapping) and find_records(document) is None:
        return read_record(document)
    return Record()  # an index: it speaks of many segments, not of this one


def _claim_pair(audio: str, sidecar: Sidecar) -> SegmentRef:
    claim = ref_file(audio, sidecar.record)
    return replace(claim, audio=sidecar.fault) if sidecar.fault else claim


def _transcripts_without_audio(contents: TarListing, texts_of: Mapping[str, Collection[str]]) -> list[SegmentRef]:
    """Claim the transcripts whose audio is not there, in the folders where the others lie."""
    folders = {folder_of(audio) for audio in texts_of}
    matched = {text for texts in texts_of.values() for text in texts}
    widowed = {}
    for name in contents.texts:
        if name not in matched and folder_of(name) in folders and PurePosixPath(name).stem not in INDEX_STEMS:
            widowed[name] = _read_sidecar(contents, [name])
    return [
        ref_missing(strip_suffix(name), sidecar.record)
        for name, sidecar in widowed.items()
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
