"""Checks the columns of the table `video_queue` of the transcription pipeline before a migration."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row
from sqlalchemy.exc import DBAPIError

from validation.errors import BadInput
from validation.ledger.rpc import translate_error

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "video_id": ("text",),
    "status": ("text", "character varying"),
    "language": ("text",),
    "segment_count": ("integer",),
    "claimed_by": ("text", "character varying"),
    "claimed_at": ("timestamp with time zone",),
}
"""Column -> allowed types, for each column of the transcription pipeline that the ledger reads or writes. `status` may
also be an enum.

Section 3 of docs/deploy.md documents the columns."""
_COLUMNS = (Path(__file__).resolve().parents[2] / "sql/migrate/queue_columns.sql").read_text(encoding="utf-8")
_TABLE = "r"
"""The kind of an ordinary table in pg_class.relkind."""


class QueueUnfit(BadInput):
    """`video_queue` is no ordinary table, lacks a column or a unique key, or has a wrong type. Nothing was changed."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"video_queue does not fit, and nothing was changed: {'; '.join(problems)}")


def require_queue(engine: Engine) -> bool:
    """Check the columns of the table `video_queue`, if it exists. Returns whether the table exists.

    Raises:
        QueueUnfit: the table lacks what the ledger needs. The message has every problem, most with a SQL statement that
            removes the problem.
    """
    try:
        with engine.connect() as connection:
            columns = {row.name: row for row in connection.exec_driver_sql(_COLUMNS)}
    except DBAPIError as error:
        raise translate_error(error, engine, "require_queue", {}) from error
    if problems := list(_find_problems(columns)) if columns else []:
        raise QueueUnfit(problems)
    return bool(columns)


def _find_problems(columns: Mapping[str, Row[Any]]) -> Iterator[str]:
    """Yield one sentence per missing column, wrong type or missing key, with the statement that corrects it.

    For a view or a partitioned table yield one sentence, without a statement.
    """
    if next(iter(columns.values())).kind != _TABLE:
        yield "it must be an ordinary table, not a view or a partitioned table"
        return
    for name, types in REQUIRED.items():
        column = columns.get(name)
        if column is None:
            yield f"column {name} is missing: ALTER TABLE video_queue ADD COLUMN {name} {types[0]}"
        elif column.type not in types and not (name == "status" and column.is_enum):
            yield f"column {name} is of type {column.type}: ALTER TABLE video_queue ALTER COLUMN {name} TYPE {types[0]}"
    if "video_id" in columns and not columns["video_id"].is_unique:
        yield "two rows may have the same video_id: ALTER TABLE video_queue ADD PRIMARY KEY (video_id)"
