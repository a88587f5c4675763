"""Enter videos into the queue, from a list in a file: for a local stack, a test, or a queue of one's own."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Video
from validation.errors import BadInput
from validation.ledger.rpc import translate_error

SEED = Path(__file__).resolve().parents[2] / "sql" / "seed_videos.sql"
BATCH = 5_000
"""Rows per statement: large enough that the round trip does not count."""
DELIMITERS = ",;\t"
"""Between the columns of a .csv file. Spreadsheets write semicolons in many countries."""
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def seed_videos(engine: Engine, videos: Sequence[Video]) -> int:
    """Insert videos as transcribed; rows with the same id stay as they are. Returns how many were new."""
    new = 0
    try:
        for start in range(0, len(videos), BATCH):
            rows = [
                {"video_id": v.video_id, "language": v.language, "segment_count": v.segment_count}
                for v in videos[start : start + BATCH]
            ]
            with engine.begin() as connection:
                new += connection.execute(text(SEED.read_text()), {"videos": json.dumps(rows)}).rowcount
    except DBAPIError as error:
        raise translate_error(error, engine, "seed", {}) from error
    return new


def read_manifest(path: Path) -> list[Video]:
    """Read videos from .json (a list), .jsonl or .csv with ``video_id`` and optionally ``language``, ``segment_count``.

    The file may be UTF-8 or UTF-16, with or without a byte order mark, and the columns of a .csv file may be separated
    by commas, semicolons or tabs: as spreadsheets write it.

    Raises:
        BadInput: the file is missing, of another kind, has no column ``video_id``, or a row has an unusable value;
        names
            the file and the row.
    """
    try:
        return [_read_row(path, number, row) for number, row in enumerate(_read_rows(path), start=1)]
    except OSError as error:
        raise BadInput(f"manifest {path} cannot be read: {error.strerror}") from None
    except (UnicodeError, json.JSONDecodeError, csv.Error) as error:
        raise BadInput(f"manifest {path} is not valid: {error}") from None


def _read_rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".json":
        rows = json.loads(_read_text(path))
        if not isinstance(rows, list):
            raise BadInput(f"manifest {path} must hold a list of videos")
        yield from rows
    elif path.suffix == ".jsonl":
        yield from (json.loads(line) for line in _read_text(path).splitlines() if line.strip())
    elif path.suffix == ".csv":
        yield from _read_csv(path)
    else:
        raise BadInput(f"manifest {path} must end in .json, .jsonl or .csv")


def _read_text(path: Path) -> str:
    payload = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if payload.startswith(mark)), "utf-8")
    return payload.decode(encoding)


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    content = _read_text(path)
    header = content.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    columns = [name.strip() for name in rows.fieldnames or ()]
    if "video_id" not in columns:
        raise BadInput(f"manifest {path} has no column video_id: its columns are {', '.join(columns) or 'none'}")
    rows.fieldnames = columns
    yield from rows


def _read_row(path: Path, number: int, row: Any) -> Video:
    video_id = row.get("video_id") if isinstance(row, Mapping) else None
    if not isinstance(video_id, str) or not video_id.strip():
        raise BadInput(f"manifest {path}, row {number}: no video_id")
    if not video_id.isprintable():
        raise BadInput(f"manifest {path}, row {number}: video_id {video_id!r} has a character that cannot be printed")
    return Video(video_id.strip(), _read_language(path, number, row), _read_count(path, number, row))


def _read_language(path: Path, number: int, row: Mapping[str, Any]) -> str | None:
    language = row.get("language")
    if language is not None and not (isinstance(language, str) and language.isprintable()):
        raise BadInput(f"manifest {path}, row {number}: language is {language!r}, not a word")
    return language.strip() or None if language else None


def _read_count(path: Path, number: int, row: Mapping[str, Any]) -> int | None:
    """A whole number, also as spreadsheets write it: ``3.0``."""
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
