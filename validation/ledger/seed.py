"""Enter videos into the queue: for a local stack, a test, or a queue of one's own."""

import csv
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
"""Rows a statement: large enough that the round trip does not count."""


def seed_videos(engine: Engine, videos: Sequence[Video]) -> int:
    """Enter videos as transcribed; one that is there already is left alone. Returns how many were new."""
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

    Raises:
        BadInput: the file is missing, of another kind, or a row has no usable ``video_id``; names file and row.
    """
    try:
        return [_read_row(path, number, row) for number, row in enumerate(_read_rows(path), start=1)]
    except OSError as error:
        raise BadInput(f"manifest {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"manifest {path} is not valid: {error}") from None


def _read_rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".json":
        rows = json.loads(path.read_text())
        if not isinstance(rows, list):
            raise BadInput(f"manifest {path} must hold a list of videos")
        yield from rows
    elif path.suffix == ".jsonl":
        yield from (json.loads(line) for line in path.read_text().splitlines() if line.strip())
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            yield from csv.DictReader(file)
    else:
        raise BadInput(f"manifest {path} must end in .json, .jsonl or .csv")


def _read_row(path: Path, number: int, row: Any) -> Video:
    if not isinstance(row, Mapping) or not isinstance(row.get("video_id"), str) or not row["video_id"].strip():
        raise BadInput(f"manifest {path}, row {number}: no video_id")
    count = row.get("segment_count")
    try:
        return Video(row["video_id"].strip(), row.get("language") or None, None if count in (None, "") else int(count))
    except (TypeError, ValueError):
        raise BadInput(f"manifest {path}, row {number}: segment_count is {count!r}, not a whole number") from None
