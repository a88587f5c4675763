"""Parse the JSON files of a tar within its budget, and read records of segments under the accepted key names."""

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

JsonObject: TypeAlias = Mapping[str, Any]
"""A parsed JSON object."""

TEXT_KEYS = ("text", "transcript", "transcription", "sentence", "pred_text", "normalized", "verbatim")
START_KEYS = ("start", "start_time", "offset")
END_KEYS = ("end", "end_time")
LANGUAGE_KEYS = ("language", "lang", "language_code", "locale")
AUDIO_KEYS = ("audio", "audio_filepath", "file", "file_name", "filename", "wav", "path", "audio_path")
SPEAKER_KEYS = ("speaker", "speaker_id")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks of UTF-16. No valid text in UTF-8 starts with these bytes."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string of JSON. A string without a closing quote matches up to the end of the text, so that the search takes linear
time."""
_MAX_SECONDS: Seconds = 1e9
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,9})?)", re.ASCII)
"""A time in the format of subtitles: ``00:01:02,500`` or ``01:02.5``."""
_UNPACK_BYTES = 1 << 20
_MAX_NAME_CHARS = 4096
"""Maximum length of a name in characters. A longer name in a record is cut, because no member can have such a name."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Record:
    """The values that one JSON object declares for a segment. None means that the object declares no value."""

    text: str | None = None
    """The transcript. An empty text is a valid transcript of a segment without speech."""
    language: str | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    """End of the segment, as ``start_s`` is its start: in the video or in the audio file, as the layout decides."""
    duration_s: Seconds | None = None
    """Length of the segment's audio, from the key ``duration``."""
    offset_s: Seconds | None = None
    """Start of the segment in its audio file, from the key ``offset`` as in NeMo's manifests."""
    speaker: str | None = None
    audio: str | None = None
    """The path of the audio file, as the record spells it."""
    id: str | None = None
    """The record's own id, from the key ``id``."""

    @property
    def declared_s(self) -> Seconds | None:
        """The declared length of the segment: ``duration_s``, else ``end_s`` minus ``start_s``; None if unknown."""
        if self.duration_s is not None:
            return self.duration_s
        if self.start_s is None or self.end_s is None or self.end_s <= self.start_s:
            return None
        return self.end_s - self.start_s


def read_record(row: JsonObject) -> Record:
    """Read a segment's record from a JSON object. For each field, the first accepted key with a valid value counts.

    Values of a wrong type are ignored.
    """
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
        audio=_find_audio_path(row),
        id=(_find_label(row, ("id",)) or "")[:_MAX_NAME_CHARS] or None,
    )


def merge_records(first: Record, second: Record) -> Record:
    """Return the first record, with its missing fields filled from the second record."""
    missing = {field.name for field in fields(Record) if getattr(first, field.name) is None}
    return replace(first, **{name: getattr(second, name) for name in missing})


def parse_document(name: str, payload: bytes, budget: ReadBudget) -> Any:
    """Parse a JSON file, or parse a JSON-lines file as the list of its lines.

    A ``.json`` file may contain JSON lines too, because NeMo names such files ``.json``. A file whose name ends with
    ``.gz`` is decompressed first.

    Args:
        name: the path of the file in the tar.
        payload: the content of the file.
        budget: the budget of the tar.

    Raises:
        ValueError: the content has no accepted encoding, is not JSON, is too large, is nested too deep, or holds text
            that UTF-8 cannot encode.
        LimitExceeded: the budget of the tar is exceeded.
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
        if _SURROGATE.search(text):  # valid JSON may hold a lone surrogate, which no later encoding to UTF-8 accepts
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return document


def decode_text(name: str, payload: bytes, budget: ReadBudget) -> str:
    """Decode a text file of the tar from UTF-8, or from UTF-16 if it starts with a byte order mark of UTF-16.

    Raises:
        ValueError: the file has neither encoding, or is larger than the limit of a document.
        LimitExceeded: the budget of the tar is exceeded.
    """
    if len(payload) > budget.limits.document_bytes:
        raise ValueError(f"it holds {len(payload)} bytes, more than {budget.limits.document_bytes}")
    budget.spend_text(name, len(payload))
    return payload.decode("utf-16" if payload.startswith(_UTF16_MARKS) else "utf-8-sig")


def find_records(document: Any) -> Sequence[JsonObject] | None:
    """Return the records of a parsed index: a list of objects, or the list under ``segments``; None for other JSON."""
    rows = document.get("segments") if isinstance(document, Mapping) else document
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return rows
    return None


class _TimedBytes(io.BytesIO):
    """A stream of bytes that checks the time limit of the budget at each read.

    A gzip file of many empty members takes time to decompress, but yields no bytes that would spend the budget.
    """

    def __init__(self, payload: bytes, budget: ReadBudget) -> None:
        super().__init__(payload)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.check_time()
        return super().read(size)


def _decompress(name: str, payload: bytes, budget: ReadBudget) -> bytes:
    """Decompress a gzip file, and subtract each decompressed block from the budget.

    Raises:
        ValueError: the payload is damaged, or decompresses to more than the limit of a document.
        LimitExceeded: the budget of the tar is exceeded.
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
    """Raise ValueError if JSON is nested deeper than ``limit``, before the parser builds the objects.

    Most files have no more than ``limit`` opening brackets and need no further check.
    """
    opening = text.count("[") + text.count("{")
    if opening <= limit or text.count("]") + text.count("}") > 2 * opening:  # more closing than opening: no JSON
        return
    brackets = re.sub(rb"[^\[\]{}]+", b"", _STRINGS.sub(b"", text.encode("utf-8", "replace")))
    if max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0) > limit:
        raise ValueError(f"nested too deep: more than {limit} levels")


def _parse_json(name: str, text: str, budget: ReadBudget) -> Any:
    """Parse JSON, or JSON lines if the text is no JSON and has several lines."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if "\n" not in text.strip():
            raise
        budget.spend_items(name, text.count("\n"))
        return _parse_lines(text)


def _parse_lines(text: str) -> list[Any]:
    """Parse JSON lines; empty lines are skipped."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _find_string(row: JsonObject, keys: Sequence[str]) -> str | None:
    """Return the first string under one of the keys; None if there is none."""
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)


def _find_audio_path(row: JsonObject) -> str | None:
    """Return the path of a record's audio file; None without one. Hugging Face writes ``{"audio": {"path": ...}}``."""
    nested = row.get("audio")
    name = _find_string(nested, ("path",)) if isinstance(nested, Mapping) else _find_string(row, AUDIO_KEYS)
    return (name or "")[: _MAX_NAME_CHARS + 1] or None


def _find_label(row: JsonObject, keys: Sequence[str]) -> str | None:
    """Return the first label under the given keys as a string. Some sources write labels as numbers."""
    found = (row[key] for key in keys if isinstance(row.get(key), str | int))
    return next((str(value) for value in found if not isinstance(value, bool) and value != ""), None)


def _find_seconds(row: JsonObject, keys: Sequence[str]) -> Seconds | None:
    """Return the first valid time under one of the keys, as ``_read_seconds`` reads it; None if there is none."""
    values = (_read_seconds(row[key]) for key in keys if key in row)
    return next((value for value in values if value is not None), None)


def _find_end(row: JsonObject, start_s: Seconds | None, duration_s: Seconds | None) -> Seconds | None:
    """Return the end that a record states, else its start plus its duration; None if these are missing."""
    end_s = _find_seconds(row, END_KEYS)
    if end_s is None and start_s is not None and duration_s is not None:
        return _read_seconds(start_s + duration_s)  # the sum may exceed the maximum
    return end_s


def _read_seconds(value: object) -> Seconds | None:
    """Convert a number, a number in a string or a clock time to seconds; return None for other or invalid values.

    Negative times and times above ``_MAX_SECONDS`` are invalid.
    """
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
