"""Parse the JSON of a tar within its budget, and read what it says of segments under the key names of its sources."""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, TypeAlias

from validation.corpus.budget import ReadBudget
from validation.domain import Seconds

Object: TypeAlias = Mapping[str, Any]

TEXT_KEYS = ("text", "transcript", "transcription", "sentence", "pred_text", "normalized", "verbatim")
START_KEYS = ("start", "start_time", "offset")
END_KEYS = ("end", "end_time")
LANGUAGE_KEYS = ("language", "lang", "language_code", "locale")
AUDIO_KEYS = ("audio", "audio_filepath", "file", "file_name", "filename", "wav", "path", "audio_path")
SPEAKER_KEYS = ("speaker", "speaker_id")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""No text in UTF-8 begins so."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string of JSON; one without an end ends with the text, so that the search takes linear time."""
_MAX_SECONDS: Seconds = 1e9
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,9})?)", re.ASCII)
"""A time as subtitles write it: ``00:01:02,500`` or ``01:02.5``."""
_UNPACK_BYTES = 1 << 20
_MAX_NAME_CHARS = 4096
"""No member has a longer name; a longer one in a record is cut and finds none."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Record:
    """What one JSON object says of a segment. None: it does not say."""

    text: str | None = None
    """An empty text is a transcript too: it says that nothing is spoken."""
    language: str | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    duration_s: Seconds | None = None
    """The key ``duration``: how long the segment's audio is, whatever its place in the video."""
    offset_s: Seconds | None = None
    """The key ``offset``, which in NeMo's manifests is a place in the audio file."""
    speaker: str | None = None
    audio: str | None = None
    """The path of an audio file, as the record writes it."""
    id: str | None = None

    @property
    def declared_s(self) -> Seconds | None:
        """How long the segment should be: ``duration_s``, else from ``start_s`` to ``end_s``."""
        if self.duration_s is not None:
            return self.duration_s
        if self.start_s is None or self.end_s is None or self.end_s <= self.start_s:
            return None
        return self.end_s - self.start_s


def read_record(row: Object) -> Record:
    """Read the first usable value under each name that the sources of this corpus use."""
    start_s = _find_seconds(row, START_KEYS)
    duration_s = _find_seconds(row, ("duration",))
    return Record(
        text=_find_string(row, TEXT_KEYS),
        language=_find_string(row, LANGUAGE_KEYS) or None,
        start_s=start_s,
        end_s=_find_end(row, start_s, duration_s),
        duration_s=duration_s or None,
        offset_s=_find_seconds(row, ("offset",)),
        speaker=_find_label(row, SPEAKER_KEYS),
        audio=_find_audio(row),
        id=(_find_label(row, ("id",)) or "")[:_MAX_NAME_CHARS] or None,
    )


def merge_records(first: Record, second: Record) -> Record:
    """Fill what the first record does not say from the second."""
    missing = {field.name for field in fields(Record) if getattr(first, field.name) is None}
    return replace(first, **{name: getattr(second, name) for name in missing})


def parse_document(name: str, payload: bytes, budget: ReadBudget) -> Any:
    """Parse a JSON file, or a JSON-lines file as the list of its lines. NeMo calls the latter ``.json`` too.

    A name that ends in ``.gz`` is unpacked first.

    Raises:
        ValueError: it is not UTF-8, not JSON, too large, nested too deep, or holds text that UTF-8 cannot encode.
        LimitExceeded: the budget of the tar is spent.
    """
    name = name.lower()
    if name.endswith(".gz"):
        text = _decompress(name, payload, budget).decode("utf-8-sig")
    else:
        text = decode_text(name, payload, budget)
    lines = name.removesuffix(".gz").endswith(".jsonl")
    budget.spend_items(name, sum(map(text.count, ",[{\n" if lines else ",[{")))
    _check_depth(text, budget.limits.json_depth)
    try:
        document = _parse_lines(text) if lines else _parse_json(name, text, budget)
        if _SURROGATE.search(text):  # a lone surrogate is valid JSON, and fails when it is written later
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return document


def decode_text(name: str, payload: bytes, budget: ReadBudget) -> str:
    """Decode a text of the tar: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        ValueError: it is neither, or too large.
        LimitExceeded: the budget of the tar is spent.
    """
    if len(payload) > budget.limits.document_bytes:
        raise ValueError(f"it holds {len(payload)} bytes, more than {budget.limits.document_bytes}")
    budget.spend_text(name, len(payload))
    return payload.decode("utf-16" if payload.startswith(_UTF16_MARKS) else "utf-8-sig")


def find_records(document: Any) -> Sequence[Object] | None:
    """Return the records of an index: a list of objects, or the list under ``segments``. None if it is no index."""
    rows = document.get("segments") if isinstance(document, Mapping) else document
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return rows
    return None


class _TimedBytes(io.BytesIO):
    """Bytes that check the time limit at each read: a gzip of empty members takes time and yields no bytes to count."""

    def __init__(self, payload: bytes, budget: ReadBudget) -> None:
        super().__init__(payload)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.check_time()
        return super().read(size)


def _decompress(name: str, payload: bytes, budget: ReadBudget) -> bytes:
    """Decompress a gzip text, and spend the budget on each block of it.

    Raises:
        ValueError: the payload is damaged, or decompresses to more than the limit of a document.
        LimitExceeded: the budget of the tar is spent.
    """
    limit, plain = budget.limits.document_bytes, bytearray()
    try:
        with gzip.GzipFile(fileobj=_TimedBytes(payload, budget)) as source:
            while block := source.read(_UNPACK_BYTES):
                budget.spend_text(name, len(block))
                plain += block
                if len(plain) > limit:
                    raise ValueError(f"it unpacks to more than {limit} bytes")
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(str(error)) from None
    return bytes(plain)


def _check_depth(text: str, limit: int) -> None:
    """Refuse deep nesting before the parser builds it. Few files have enough brackets to be looked at."""
    opening = text.count("[") + text.count("{")
    if opening <= limit or text.count("]") + text.count("}") > 2 * opening:  # the latter is no JSON
        return
    brackets = re.sub(rb"[^\[\]{}]+", b"", _STRINGS.sub(b"", text.encode("utf-8", "replace")))
    if max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0) > limit:
        raise ValueError(f"nested too deep: more than {limit} levels")


def _parse_json(name: str, text: str, budget: ReadBudget) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if "\n" not in text.strip():
            raise
        budget.spend_items(name, text.count("\n"))
        return _parse_lines(text)


def _parse_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _find_string(row: Object, keys: Sequence[str]) -> str | None:
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)


def _find_audio(row: Object) -> str | None:
    """Find the path of an audio file, which Hugging Face's ``datasets`` writes as ``{"path": ...}``."""
    nested = row.get("audio")
    name = _find_string(nested, ("path",)) if isinstance(nested, Mapping) else _find_string(row, AUDIO_KEYS)
    return (name or "")[: _MAX_NAME_CHARS + 1] or None


def _find_label(row: Object, keys: Sequence[str]) -> str | None:
    """Find a label, which some sources write as a number."""
    found = (row[key] for key in keys if isinstance(row.get(key), str | int))
    return next((str(value) for value in found if not isinstance(value, bool) and value != ""), None)


def _find_seconds(row: Object, keys: Sequence[str]) -> Seconds | None:
    values = (_read_seconds(row[key]) for key in keys if key in row)
    return next((value for value in values if value is not None), None)


def _find_end(row: Object, start_s: Seconds | None, duration_s: Seconds | None) -> Seconds | None:
    end_s = _find_seconds(row, END_KEYS)
    if end_s is None and start_s is not None and duration_s is not None:
        return _read_seconds(start_s + duration_s)  # the sum of two finite times may be infinite
    return end_s


def _read_seconds(value: object) -> Seconds | None:
    """Read seconds from a number, a number in a string or a clock time; None for other values and above 1e9 s."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds_of_minute = clock.groups(default="0")
        value = int(hours) * 3600 + int(minutes) * 60 + float(seconds_of_minute.replace(",", "."))
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= _MAX_SECONDS else None
