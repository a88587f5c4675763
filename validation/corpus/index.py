"""Read the layouts ``indexed`` and ``sliced``: one index file lists the audio file or the span of each segment."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from validation.corpus.paths import folder_of, nfc_base_name, normalise_path, stem_of, strip_suffix
from validation.corpus.records import JsonObject, Record, find_records, read_record
from validation.corpus.segment_refs import (
    INDEX_STEMS,
    VIDEO_SUFFIXES,
    BadLayout,
    MemberNames,
    SegmentRef,
    TarListing,
    ref_audio,
    ref_file,
    ref_missing,
    ref_span,
    ref_untranscribed,
)
from validation.domain import Seconds

_NEMO_SUB = re.compile(r"-sub[0-9]+(?=\.[^./\\]*$|$)")
"""The suffix that NeMo adds to the name of a file for a second or later span: ``talk-sub1.flac`` is a span of
``talk.flac`` (nemo/collections/common/data/lhotse/nemo_adapters.py)."""


_MAX_OVERLAP_S: Seconds = 0.5
"""Maximum overlap of a record without a start, which is assumed to start at 0, with the next record of the file."""
_MAX_KEYS = 12
"""Maximum number of keys of a record in an error message."""


class _AudioMatch(NamedTuple):
    """The audio file to which a record refers."""

    member: str
    is_span: bool
    """Whether the record is a span of the file, and not the whole file."""


def read_index(listing: TarListing) -> tuple[str, list[SegmentRef]] | None:
    """Read the segments of a tar from its index file.

    The layout is ``sliced`` (records are spans of files) if the records name no audio file, if several records name the
    same file, or if a record names a span as NeMo does (``talk-sub1.flac``). A record that is the only one of its file,
    has no start and is not named as a span is the whole file. Otherwise the layout is ``indexed``: each record is a
    whole file, and the times of the record are times in the video.

    Returns:
        The name of the layout and the segments; None if the tar has no index. The segments are empty if the index
        lists no records.

    Raises:
        BadLayout: no index file could be used, and at least one is damaged or not understood; or the audio file of a
            segment is ambiguous.
        TarUnsafe: the budget of the tar is exceeded.
    """
    damaged, empty = [], []
    for name in _list_index_names(listing):
        try:
            records = _find_records(listing.parse(name))
        except ValueError as error:
            damaged.append(f"{name} cannot be read: {error}")
            continue
        if records:
            listing.spend_segments(name, len(records))
            read = [read_record(record) for record in records]
            if problem := _describe_unread_keys(read):
                damaged.append(f"{problem} in {name}: their keys are {_quote_keys(records[0])}")
                continue
            return _ref_records(listing, name, read)
        if records is not None:
            empty.append(name)
    if damaged:
        raise BadLayout(listing.key, damaged[0])
    return ("indexed", []) if empty else None


def _describe_unread_keys(records: Sequence[Record]) -> str | None:
    """Return a message if no record has a transcript, or neither times nor audio, under a known key; else None."""
    if all(record.text is None for record in records):
        return f"no transcript is found for any of the {len(records)} records"
    has_place = any(record.audio or record.start_s is not None or record.duration_s is not None for record in records)
    return None if has_place else f"neither times nor audio files are found for any of the {len(records)} records"


def _quote_keys(row: JsonObject) -> str:
    """Return the first keys of a record as quoted, comma-separated text."""
    return ", ".join(repr(str(key)) for key in list(row)[:_MAX_KEYS]) or "none"


def _find_records(document: Any) -> Sequence[JsonObject] | None:
    """Return the records of a parsed index; None if it is no index. A single object with audio is one record."""
    if isinstance(document, Mapping) and "segments" not in document and read_record(document).audio:
        return [document]
    return find_records(document)


def _list_index_names(listing: TarListing) -> list[str]:
    """List the JSON files that may be the index, in order of preference.

    Files with a name of ``INDEX_STEMS`` come first, then files with the same name as an audio file.
    """
    stems = [stem_of(audio) for audio in listing.audio]
    rank = {stem: place for place, stem in enumerate(dict.fromkeys([*INDEX_STEMS, *stems]))}
    names = [name for name in listing.texts if name.lower().endswith((".json", ".jsonl"))]
    ranked = [name for name in names if stem_of(name) in rank]
    return sorted(ranked, key=lambda name: (rank[stem_of(name)], name.count("/"), name))


def _ref_records(listing: TarListing, index: str, records: Sequence[Record]) -> tuple[str, list[SegmentRef]]:
    """Return the layout and the segments that the records of an index describe."""
    if not any(record.audio for record in records):
        only = _AudioMatch(_find_only_audio(listing, index), is_span=True)
        return "sliced", _ref_spans(records, [only] * len(records))
    found = _find_members(listing, index, records)
    counts = Counter(file.member for file in found if file)
    if any(file and (file.is_span or counts[file.member] > 1) for file in found):
        return "sliced", _ref_spans(
            records, [file and file._replace(is_span=file.is_span or counts[file.member] > 1) for file in found]
        )
    return "indexed", [*_ref_files(records, found), *ref_untranscribed(listing, counts)]


def _find_only_audio(listing: TarListing, index: str) -> str:
    """Return the only audio file of a tar whose index names none; raise ``BadLayout`` if there is not exactly one.

    A video file counts only if the tar has no audio file.
    """
    audio = [name for name in listing.audio if not name.lower().endswith(VIDEO_SUFFIXES)] or list(listing.audio)
    if len(audio) != 1:
        raise BadLayout(listing.key, f"{index} names no audio, and the tar holds {len(listing.audio)} files of it")
    return audio[0]


def _find_members(listing: TarListing, index: str, records: Sequence[Record]) -> list[_AudioMatch | None]:
    """Find the audio file of each record; None for a record whose audio file is missing.

    The name in the record may be the path in the tar, the path relative to the index, or a unique name without folder.
    """
    names, folder = MemberNames(listing.key, {name: name for name in listing.audio}), folder_of(index)
    counts = Counter(nfc_base_name(audio) for audio in listing.audio)
    by_bare_name = {bare: audio for audio in listing.audio if counts[bare := nfc_base_name(audio)] == 1}

    def find(name: str) -> str | None:
        beside = normalise_path(posixpath.join(folder, name.replace("\\", "/")))
        return names.find(name) or names.find(beside) or by_bare_name.get(nfc_base_name(name))

    found: list[_AudioMatch | None] = []
    for record in records:
        name = record.audio or ""
        if member := find(name):
            found.append(_AudioMatch(member, is_span=False))
        else:
            member = find(_NEMO_SUB.sub("", name)) if _NEMO_SUB.search(name) else None
            found.append(_AudioMatch(member, is_span=True) if member else None)
    return found


def _ref_spans(records: Sequence[Record], found: Sequence[_AudioMatch | None]) -> list[SegmentRef]:
    """Return the segments of the layout ``sliced``, one per record.

    Their names are the ids of the records if each record has an id of its own, else the numbers of the records.
    """
    ids = [record.id or "" for record in records]
    names = ids if all(ids) and len(set(ids)) == len(ids) else _number_names(records)
    placed = _place_records(records, [file.member if file else None for file in found])
    return [_ref_span(name, record, file) for name, record, file in zip(names, placed, found, strict=True)]


def _place_records(records: Sequence[Record], members: Sequence[str | None]) -> Iterator[Record]:
    """Set the missing start of a record to 0 if the other records of its audio file start after its duration.

    The starts may overlap it by ``_MAX_OVERLAP_S``. If the record has no duration, or if another record of the file has
    no start either, the record loses its duration and later gets the fault ``bad_times``. The only record of a file
    stays unchanged.
    """
    counts, first_s, without_start = Counter(members), dict[str | None, Seconds](), Counter[str | None]()
    for record, member in zip(records, members, strict=True):
        if record.start_s is None:
            without_start[member] += 1
        else:
            first_s[member] = min(record.start_s, first_s.get(member, record.start_s))
    for record, member in zip(records, members, strict=True):
        if record.start_s is not None or counts[member] == 1:
            yield record
            continue
        is_free = without_start[member] == 1 and first_s[member] > (record.duration_s or inf) - _MAX_OVERLAP_S
        yield replace(record, start_s=0.0, end_s=record.duration_s) if is_free else replace(record, duration_s=None)


def _ref_span(name: str, record: Record, file: _AudioMatch | None) -> SegmentRef:
    """Return the segment of a record: the whole file for an only record without a start, else a span of the file."""
    if file is None:
        return ref_missing(name, record)
    if file.is_span or record.start_s is not None:
        return ref_span(name, record, file.member)
    return ref_audio(name, record, file.member)


def _ref_files(records: Sequence[Record], found: Sequence[_AudioMatch | None]) -> list[SegmentRef]:
    """Return the segments of the layout ``indexed``, one per record."""
    return [
        ref_file(file.member, record) if file else ref_missing(strip_suffix(record.audio or number), record)
        for number, record, file in zip(_number_names(records), records, found, strict=True)
    ]


def _number_names(records: Sequence[Record]) -> list[str]:
    """Name each record by its position: ``000000``, ``000001`` and so on."""
    return [f"{place:06d}" for place in range(len(records))]
