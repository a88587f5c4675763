"""Layouts ``indexed`` and ``sliced``: one file lists all segments, and says which audio, or which part, each is."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from validation.corpus.listing import INDEX_STEMS, TarListing, folder_of, strip_suffix
from validation.corpus.records import Record, find_records, parse_document, read_record
from validation.corpus.segment_refs import BadLayout, SegmentRef, ref_file, ref_missing, ref_span, ref_unlisted


def read_index(contents: TarListing) -> tuple[str, list[SegmentRef]] | None:
    """Read a tar by its index; None if it has none.

    Records that name no audio, or several that name the same, are stretches of it: ``sliced``. Otherwise each
    record is a whole file, and its times are the segment's place in the video: ``indexed``.

    Raises:
        BadLayout: the index is damaged, or tells nobody which audio a segment is.
    """
    damaged, empty = [], []
    for name in _list_index_names(contents):
        try:
            records = find_records(parse_document(name, contents.texts[name]))
        except ValueError as error:
            damaged.append(f"{name} cannot be read: {error}")
            continue
        if records:
            return _claim_records(contents, name, [read_record(record) for record in records])
        if records is not None:
            empty.append(name)
    if damaged:
        raise BadLayout(contents.key, damaged[0])
    return ("indexed", []) if empty else None


def _list_index_names(contents: TarListing) -> list[str]:
    """List what may be the index, likeliest first: an index's name, then the name of an audio file."""
    stems = [PurePosixPath(audio).stem for audio in contents.audio]
    rank = {stem: place for place, stem in enumerate(dict.fromkeys([*INDEX_STEMS, *stems]))}
    names = [name for name in contents.texts if name.lower().endswith((".json", ".jsonl"))]
    ranked = [name for name in names if PurePosixPath(name).stem in rank]
    return sorted(ranked, key=lambda name: (rank[PurePosixPath(name).stem], name.count("/"), name))


def _claim_records(contents: TarListing, index: str, records: Sequence[Record]) -> tuple[str, list[SegmentRef]]:
    if not any(record.audio for record in records):
        return "sliced", _claim_stretches(records, [_find_only_audio(contents, index)] * len(records))
    members = _find_members(contents, index, records)
    named = Counter(member for member in members if member)
    if max(named.values(), default=0) > 1:
        return "sliced", _claim_stretches(records, members)
    return "indexed", [*_claim_files(records, members), *ref_unlisted(contents, named)]


def _find_only_audio(contents: TarListing, index: str) -> str:
    if len(contents.audio) != 1:
        raise BadLayout(contents.key, f"{index} names no audio, and the tar holds {len(contents.audio)} files of it")
    return next(iter(contents.audio))


def _find_members(contents: TarListing, index: str, records: Sequence[Record]) -> list[str | None]:
    """Find the audio file that each record names: by its path, by its path from the index, or by its bare name."""
    bare_names = Counter(PurePosixPath(audio).name for audio in contents.audio)
    by_bare_name = {name: audio for audio in contents.audio if bare_names[name := PurePosixPath(audio).name] == 1}
    members = []
    for record in records:
        path = PurePosixPath(record.audio or "")
        paths = (str(path), str(folder_of(index) / path))
        members.append(next((p for p in paths if p in contents.audio), by_bare_name.get(path.name)))
    return members


def _claim_stretches(records: Sequence[Record], members: Sequence[str | None]) -> list[SegmentRef]:
    ids = [record.id or "" for record in records]
    names = ids if all(ids) and len(set(ids)) == len(ids) else _number(records)
    return [
        ref_span(name, record, member) if member else ref_missing(name, record)
        for name, record, member in zip(names, records, members, strict=True)
    ]


def _claim_files(records: Sequence[Record], members: Sequence[str | None]) -> list[SegmentRef]:
    return [
        ref_file(member, record) if member else ref_missing(strip_suffix(record.audio or number), record)
        for number, record, member in zip(_number(records), records, members, strict=True)
    ]


def _number(records: Sequence[Record]) -> list[str]:
    return [f"{place:06d}" for place in range(len(records))]
