"""Inserts the videos of a list file into the queue: for an embedded stack, a test, or a new queue.

Code and messages here call the list a manifest. The manifest of a shard is another file.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Video
from validation.errors import BadInput
from validation.file_formats import SNIFFED_BYTES, name_binary
from validation.ledger.rpc import translate_error

SEED = Path(__file__).resolve().parents[2] / "sql" / "seed_videos.sql"
BATCH = 5_000
"""Rows per INSERT statement. With this number the network round trip takes a small part of the time."""
DELIMITERS = ",;\t"
"""Allowed delimiters of a .csv file. Spreadsheets write semicolons in many countries."""
_SEPARATOR_LINE = re.compile(r"\A\ufeff?sep=[^\r\n]?\r?\n?", re.IGNORECASE)
"""The first line of a CSV file for Excel, which contains the delimiter."""
_UTF32_MARK = b"\xff\xfe\0\0"
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def seed_videos(engine: Engine, videos: Sequence[Video]) -> int:
    """Insert videos as transcribed. Existing rows with the same id are not changed. Returns the number of new rows."""
    new = 0
    try:
        for start in range(0, len(videos), BATCH):
            rows = [
                {"video_id": v.video_id, "language": v.language, "segment_count": v.segment_count}
                for v in videos[start : start + BATCH]
            ]
            with engine.begin() as connection:
                new += connection.execute(text(SEED.read_text(encoding="utf-8")), {"videos": json.dumps(rows)}).rowcount
    except DBAPIError as error:
        raise translate_error(error, engine, "seed", {}) from error
    return new


def read_manifest(path: Path) -> list[Video]:
    """Read videos from .json (a list), .jsonl, .csv or .tsv: ``video_id``, optionally ``language``, ``segment_count``.

    The encoding is UTF-8, with or without a byte order mark, or UTF-16 with a byte order mark. The columns of a .csv or
    .tsv file are separated by commas, semicolons or tabs. A first line ``sep=;`` and empty rows are skipped, because
    spreadsheets write them. Column names are not case-sensitive; the keys of .json and .jsonl are. A video that is
    listed twice with equal values is one video.

    Raises:
        BadInput: the file is missing or of another kind, the column ``video_id`` is missing, a row has an invalid
            value, or two rows of a video differ. The message contains the file and the row number, if any.
    """
    videos: dict[str, Video] = {}
    try:
        for number, row in enumerate(_read_rows(path), start=1):
            video = _read_row(path, number, row)
            if videos.setdefault(video.video_id, video) != video:
                raise BadInput(f"manifest {path}, row {number}: {video.video_id} is listed before, with other values")
        return list(videos.values())
    except OSError as error:
        raise BadInput(f"manifest {path} cannot be read: {error.strerror}") from None
    except (UnicodeError, json.JSONDecodeError, csv.Error) as error:
        raise BadInput(f"manifest {path} is not valid: {error}") from None


def _read_rows(path: Path) -> Iterator[Any]:
    """Yield the rows of a manifest; its suffix tells the format. A row is not validated yet."""
    kind = path.suffix.lower()
    if kind == ".json":
        rows = json.loads(_read_text(path))
        if not isinstance(rows, list):
            raise BadInput(f"manifest {path} must hold a list of videos")
        yield from rows
    elif kind == ".jsonl":
        yield from (json.loads(line) for line in _read_text(path).split("\n") if line.strip())
    elif kind in {".csv", ".tsv"}:
        yield from _read_csv(path)
    else:
        raise BadInput(f"manifest {path} must end in .json, .jsonl, .csv or .tsv")


def _read_text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16. Raises BadInput for a binary file."""
    payload = path.read_bytes()
    if name := name_binary(payload[:SNIFFED_BYTES]):
        raise BadInput(f"manifest {path} is {name}, not a text: save it as CSV in UTF-8")
    if b"\0" in payload[:2] or payload.startswith(_UTF32_MARK):
        raise BadInput(f"manifest {path} is not UTF-8: save it as CSV in UTF-8")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if payload.startswith(mark)), "utf-8")
    return payload.decode(encoding)


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a .csv or .tsv file as dicts by lower-case column name. Empty rows are skipped."""
    content = _SEPARATOR_LINE.sub("", _read_text(path).lstrip("\r\n"))
    header = content.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = [name.lower() for name in columns]
    if "video_id" not in rows.fieldnames:
        raise BadInput(f"manifest {path} has no column video_id: its columns are {', '.join(columns) or 'none'}")
    yield from (row for row in rows if any(isinstance(value, str) and value.strip() for value in row.values()))


def _read_row(path: Path, number: int, row: Any) -> Video:
    """Return the video of a row. Raises BadInput, with file and row number, if a value is invalid."""
    video_id = row.get("video_id") if isinstance(row, Mapping) else None
    if video_id is not None and not isinstance(video_id, str):
        raise BadInput(f"manifest {path}, row {number}: video_id is {video_id!r}, not a word")
    if not video_id or not video_id.strip():
        raise BadInput(f"manifest {path}, row {number}: no video_id")
    if not video_id.isprintable():
        raise BadInput(f"manifest {path}, row {number}: video_id {video_id!r} has a character that cannot be printed")
    return Video(video_id.strip(), _read_language(path, number, row), _read_count(path, number, row))


def _read_language(path: Path, number: int, row: Mapping[str, Any]) -> str | None:
    """Return the language of a row; None if it is empty or missing."""
    language = row.get("language")
    if language is not None and not (isinstance(language, str) and language.isprintable()):
        raise BadInput(f"manifest {path}, row {number}: language is {language!r}, not a word")
    return language.strip() or None if language else None


def _read_count(path: Path, number: int, row: Mapping[str, Any]) -> int | None:
    """Read ``segment_count`` as a whole number, also in the form ``3.0`` of spreadsheets; None if it is empty."""
    count = row.get("segment_count")
    if count is None or not str(count).strip():
        return None
    try:
        value = float(count)
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        value = whole = -1
    if isinstance(count, bool) or whole != value or not 0 <= whole < 2**31:
        raise BadInput(f"manifest {path}, row {number}: segment_count is {count!r}, not a whole number")
    return whole
