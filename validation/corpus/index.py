"""Layouts ``indexed`` and ``sliced``: one file lists all segments with the audio file, or the span of it, of each."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from validation.corpus.records import Record, find_records, parse_document, read_record
from validation.corpus.segment_refs import (
    INDEX_STEMS,
    BadLayout,
    SegmentRef,
    TarListing,
    folder_of,
    ref_file,
    ref_missing,
    ref_span,
    ref_unlisted,
    strip_suffix,
)


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
            records = find_records(parse_document(name, listing.texts[name]))
        except ValueError as error:
            damaged.append(f"{name} cannot be read: {error}")
            continue
        if records:
            return _ref_records(listing, name, [read_record(record) for record in records])
        if records is not None:
            empty.append(name)
    if damaged:
        raise BadLayout(listing.key, damaged[0])
    return ("indexed", []) if empty else None


def _list_index_names(listing: TarListing) -> list[str]:
    """List the files that may be the index, likeliest first: those named like an index, then like an audio file."""
    stems = [PurePosixPath(audio).stem for audio in listing.audio]
    rank = {stem: place for place, stem in enumerate(dict.fromkeys([*INDEX_STEMS, *stems]))}
    names = [name for name in listing.texts if name.lower().endswith((".json", ".jsonl"))]
    ranked = [name for name in names if PurePosixPath(name).stem in rank]
    return sorted(ranked, key=lambda name: (rank[PurePosixPath(name).stem], name.count("/"), name))


def _ref_records(listing: TarListing, index: str, records: Sequence[Record]) -> tuple[str, list[SegmentRef]]:
    if not any(record.audio for record in records):
        return "sliced", _ref_spans(records, [_find_only_audio(listing, index)] * len(records))
    members = _find_members(listing, index, records)
    listed = Counter(member for member in members if member)
    if max(listed.values(), default=0) > 1:
        return "sliced", _ref_spans(records, members)
    return "indexed", [*_ref_files(records, members), *ref_unlisted(listing, listed)]


def _find_only_audio(listing: TarListing, index: str) -> str:
    if len(listing.audio) != 1:
        raise BadLayout(listing.key, f"{index} names no audio, and the tar holds {len(listing.audio)} files of it")
    return next(iter(listing.audio))


def _find_members(listing: TarListing, index: str, records: Sequence[Record]) -> list[str | None]:
    """Find the audio file that each record names: by its path, by its path from the index, or by its bare name."""
    bare_names = Counter(PurePosixPath(audio).name for audio in listing.audio)
    by_bare_name = {name: audio for audio in listing.audio if bare_names[name := PurePosixPath(audio).name] == 1}
    members = []
    for record in records:
        path = PurePosixPath(record.audio or "")
        paths = (str(path), str(folder_of(index) / path))
        members.append(next((p for p in paths if p in listing.audio), by_bare_name.get(path.name)))
    return members


def _ref_spans(records: Sequence[Record], members: Sequence[str | None]) -> list[SegmentRef]:
    ids = [record.id or "" for record in records]
    names = ids if all(ids) and len(set(ids)) == len(ids) else _number_names(records)
    return [
        ref_span(name, record, member) if member else ref_missing(name, record)
        for name, record, member in zip(names, records, members, strict=True)
    ]


def _ref_files(records: Sequence[Record], members: Sequence[str | None]) -> list[SegmentRef]:
    return [
        ref_file(member, record) if member else ref_missing(strip_suffix(record.audio or number), record)
        for number, record, member in zip(_number_names(records), records, members, strict=True)
    ]


def _number_names(records: Sequence[Record]) -> list[str]:
    return [f"{place:06d}" for place in range(len(records))]
