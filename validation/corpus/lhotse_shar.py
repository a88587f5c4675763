"""Layout ``shar``: Lhotse's cuts in JSON lines, and one audio file per cut, named by the cut's id."""

import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from validation.corpus.records import Object, Record, parse_document, read_record
from validation.corpus.segment_refs import BadLayout, SegmentRef, TarListing, ref_audio, ref_missing, ref_span

_MAX_CUTS_BYTES = 64 << 20
"""After decompression. A cut takes about 1 KiB, and no tar has more than 50,000 members."""


def read_shar(listing: TarListing) -> list[SegmentRef] | None:
    """Read a tar by its cuts; None if it has none.

    A cut with one supervision is one segment. A cut with several is sliced, one segment per supervision.

    Raises:
        BadLayout: the cuts are damaged.
    """
    audio_by_id = {PurePosixPath(audio).stem: audio for audio in listing.audio}
    names = [name for name in sorted(listing.texts) if name.lower().endswith((".jsonl", ".jsonl.gz"))]
    cuts = [cut for name in names for cut in _read_cuts(listing, name)]
    return [ref for cut in cuts for ref in _ref_cut(cut, audio_by_id)] if cuts else None


def _read_cuts(listing: TarListing, name: str) -> list[Object]:
    try:
        rows = parse_document(name.lower().removesuffix(".gz"), _inflate(name, listing.texts[name]))
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise BadLayout(listing.key, f"{name} cannot be read: {error}") from None
    return [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("supervisions"), list)]


def _inflate(name: str, payload: bytes) -> bytes:
    if not name.lower().endswith(".gz"):
        return payload
    with gzip.GzipFile(fileobj=io.BytesIO(payload)) as source:
        plain = source.read(_MAX_CUTS_BYTES + 1)
    if len(plain) > _MAX_CUTS_BYTES:
        raise ValueError(f"it unpacks to more than {_MAX_CUTS_BYTES} bytes")
    return plain


def _ref_cut(cut: Object, audio_by_id: Mapping[str, str]) -> list[SegmentRef]:
    cut_id = str(cut.get("id"))
    member = audio_by_id.get(cut_id)
    records = [read_record(row) for row in cut["supervisions"] if isinstance(row, Mapping)] or [Record()]
    if member is None:
        return [ref_missing(name, record) for name, record in _name_supervisions(cut_id, records)]
    if len(records) == 1:
        return [ref_audio(cut_id, records[0], member)]
    return [ref_span(name, record, member) for name, record in _name_supervisions(cut_id, records)]


def _name_supervisions(cut_id: str, records: list[Record]) -> list[tuple[str, Record]]:
    if len(records) == 1:
        return [(cut_id, records[0])]
    return [(f"{cut_id}-{place:03d}", record) for place, record in enumerate(records)]
