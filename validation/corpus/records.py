"""Read what the JSON of a tar says of a segment, under the key names that the sources of this corpus use."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from validation.domain import Seconds

Object: TypeAlias = Mapping[str, Any]

TEXT_KEYS = ("text", "transcript", "transcription", "pred_text", "normalized", "verbatim")
START_KEYS = ("start", "start_time", "offset")
END_KEYS = ("end", "end_time")
LANGUAGE_KEYS = ("language", "lang", "language_code")
AUDIO_KEYS = ("audio", "audio_filepath", "file", "file_name", "filename", "wav")
SPEAKER_KEYS = ("speaker", "speaker_id")


@dataclass(frozen=True, slots=True)
class Record:
    """What one JSON object says of a segment. None: it does not say."""

    text: str | None = None
    """An empty text is a transcript too: it says that nothing is spoken."""
    language: str | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    speaker: str | None = None
    audio: str | None = None
    """The path of an audio file, as the record writes it."""
    id: str | None = None


def read_record(row: Object) -> Record:
    """Read the first usable value under each name that the sources of this corpus use."""
    start_s = _find_seconds(row, START_KEYS)
    return Record(
        text=_find_string(row, TEXT_KEYS),
        language=_find_string(row, LANGUAGE_KEYS) or None,
        start_s=start_s,
        end_s=_find_end(row, start_s),
        speaker=_find_label(row, SPEAKER_KEYS),
        audio=_find_string(row, AUDIO_KEYS) or None,
        id=_find_label(row, ("id",)),
    )


def merge_records(first: Record, second: Record) -> Record:
    """Fill what the first record does not say from the second."""
    missing = {field.name for field in fields(Record) if getattr(first, field.name) is None}
    return replace(first, **{name: getattr(second, name) for name in missing})


def parse_document(name: str, payload: bytes) -> Any:
    """Parse a JSON file, or a JSON-lines file as the list of its lines. NeMo calls the latter ``.json`` too.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested too deep, or holds text that UTF-8 cannot encode.
    """
    text = payload.decode("utf-8-sig")
    try:
        document = _parse_lines(text) if name.lower().endswith(".jsonl") else _parse_json(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\ud" in text.lower():  # a lone surrogate is valid JSON, and fails when it is written later
        json.dumps(document, ensure_ascii=False).encode()
    return document


def find_records(document: Any) -> Sequence[Object] | None:
    """Return the records of an index: a list of objects, or the list under ``segments``. None if it is no index."""
    rows = document.get("segments") if isinstance(document, Mapping) else document
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return rows
    return None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if "\n" not in text.strip():
            raise
        return _parse_lines(text)


def _parse_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _find_string(row: Object, keys: Sequence[str]) -> str | None:
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)


def _find_label(row: Object, keys: Sequence[str]) -> str | None:
    """Find a label, which some sources write as a number."""
    found = (row[key] for key in keys if isinstance(row.get(key), str | int))
    return next((str(value) for value in found if not isinstance(value, bool) and value != ""), None)


def _find_seconds(row: Object, keys: Sequence[str]) -> Seconds | None:
    values = (_read_seconds(row[key]) for key in keys if key in row)
    return next((value for value in values if value is not None), None)


def _find_end(row: Object, start_s: Seconds | None) -> Seconds | None:
    end_s = _find_seconds(row, END_KEYS)
    duration_s = _find_seconds(row, ("duration",))
    if end_s is None and start_s is not None and duration_s is not None:
        return _read_seconds(start_s + duration_s)  # the sum of two finite times may be infinite
    return end_s


def _read_seconds(value: object) -> Seconds | None:
    """Read a number, or a number written as a string; None for anything else, and for less than zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
