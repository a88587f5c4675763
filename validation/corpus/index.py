"""Layouts ``indexed`` and ``sliced``: one file lists all segments with the audio file, or the span of it, of each."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from validation.corpus.records import Object, Record, find_records, read_record
from validation.corpus.segment_refs import (
    INDEX_STEMS,
    VIDEO_SUFFIXES,
    BadLayout,
    MemberNames,
    SegmentRef,
    TarListing,
    folder_of,
    ref_audio,
    ref_file,
    ref_missing,
    ref_span,
    ref_unlisted,
    stem_of,
    strip_suffix,
    to_nfc,
)

_NEMO_SUB = re.compile(r"-sub[0-9]+(?=\.[^./\\]*$|$)")
"""NeMo's name for a further entry of one file: ``talk-sub1.flac`` is a span of ``talk.flac``
(nemo/collections/common/data/lhotse/nemo_adapters.py)."""


class _Found(NamedTuple):
    """The audio file that a record names."""

    member: str
    is_span: bool
    """The name says that the record is one of several spans of the file."""


def read_index(listing: TarListing) -> tuple[str, list[SegmentRef]] | None:
    """Read a tar by its index; None if it has none.

    Records that name no audio, or several that name the same file, are spans of it: ``sliced``. Otherwise each
    record is a whole file, and its times are the segment's place in the video: ``indexed``.

    Raises:
        BadLayout: the index is damaged, or does not say which audio file a segment is.
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
            return _ref_records(listing, name, [read_record(record) for record in records])
        if records is not None:
            empty.append(name)
    if damaged:
        raise BadLayout(listing.key, damaged[0])
    return ("indexed", []) if empty else None


def _find_records(document: Any) -> Sequence[Object] | None:
    """Return the records of an index. A file of JSON lines with one line is one record, not one line."""
    if isinstance(document, Mapping) and "segments" not in document and read_record(document).audio:
        return [document]
    return find_records(document)


def _list_index_names(listing: TarListing) -> list[str]:
    """List the files that may be the index, likeliest first: those named like an index, then like an audio file."""
    stems = [stem_of(audio) for audio in listing.audio]
    rank = {stem: place for place, stem in enumerate(dict.fromkeys([*INDEX_STEMS, *stems]))}
    names = [name for name in listing.texts if name.lower().endswith((".json", ".jsonl"))]
    ranked = [name for name in names if stem_of(name) in rank]
    return sorted(ranked, key=lambda name: (rank[stem_of(name)], name.count("/"), name))


def _ref_records(listing: TarListing, index: str, records: Sequence[Record]) -> tuple[str, list[SegmentRef]]:
    if not any(record.audio for record in records):
        only = _Found(_find_only_audio(listing, index), is_span=True)
        return "sliced", _ref_spans(records, [only] * len(records))
    found = _find_members(listing, index, records)
    counts = Counter(file.member for file in found if file)
    if any(file and (file.is_span or counts[file.member] > 1) for file in found):
        return "sliced", _ref_spans(
            records, [file and file._replace(is_span=file.is_span or counts[file.member] > 1) for file in found]
        )
    return "indexed", [*_ref_files(records, found), *ref_unlisted(listing, counts)]


def _find_only_audio(listing: TarListing, index: str) -> str:
    audio = [name for name in listing.audio if not name.lower().endswith(VIDEO_SUFFIXES)] or list(listing.audio)
    if len(audio) != 1:
        raise BadLayout(listing.key, f"{index} names no audio, and the tar holds {len(listing.audio)} files of it")
    return audio[0]


def _find_members(listing: TarListing, index: str, records: Sequence[Record]) -> list[_Found | None]:
    """Find the audio file that each record names: by its path, by its path from the index, or by its bare name."""
    names = MemberNames(listing.key, {name: name for name in listing.audio})
    counts = Counter(_bare_name(audio) for audio in listing.audio)
    by_bare_name = {bare: audio for audio in listing.audio if counts[bare := _bare_name(audio)] == 1}

    def find(name: str) -> str | None:
        paths = (name, str(folder_of(index) / name.replace("\\", "/")))
        found = next((member for path in paths if (member := names.find(path))), None)
        return found or by_bare_name.get(_bare_name(name))

    found: list[_Found | None] = []
    for record in records:
        name = record.audio or ""
        if member := find(name):
            found.append(_Found(member, is_span=False))
        else:
            member = find(_NEMO_SUB.sub("", name)) if _NEMO_SUB.search(name) else None
            found.append(_Found(member, is_span=True) if member else None)
    return found


def _bare_name(name: str) -> str:
    return PurePosixPath(to_nfc(name)).name


def _ref_spans(records: Sequence[Record], found: Sequence[_Found | None]) -> list[SegmentRef]:
    ids = [record.id or "" for record in records]
    names = ids if all(ids) and len(set(ids)) == len(ids) else _number_names(records)
    return [_ref_span(name, record, file) for name, record, file in zip(names, records, found, strict=True)]


def _ref_span(name: str, record: Record, file: _Found | None) -> SegmentRef:
    if file is None:
        return ref_missing(name, record)
    if file.is_span or record.start_s is not None:
        return ref_span(name, record, file.member)
    return ref_audio(name, record, file.member)


def _ref_files(records: Sequence[Record], found: Sequence[_Found | None]) -> list[SegmentRef]:
    return [
        ref_file(file.member, record) if file else ref_missing(strip_suffix(record.audio or number), record)
        for number, record, file in zip(_number_names(records), records, found, strict=True)
    ]


def _number_names(records: Sequence[Record]) -> list[str]:
    return [f"{place:06d}" for place in range(len(records))]
