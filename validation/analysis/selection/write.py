"""Write a selection down: as parquet, as JSON lines, or as a list for WebDataset."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from validation.errors import BadInput
from validation.files import replacing
from validation.settings import Settings

Format: TypeAlias = Literal["parquet", "jsonl", "webdataset"]


def write_selection(segments: pl.LazyFrame, path: Path, form: Format, settings: Settings) -> None:
    """Write segments as a stream, through a file beside ``path`` that takes its place when it is whole.

    - ``parquet`` and ``jsonl``: every column of the shards, one row or line a segment.
    - ``webdataset``: one JSON line a tar: ``{"url", "video_id", "keys"}``, where ``keys`` are the tar's own names of
      the segments that are kept, in its order: what `wds.WebDataset(urls).select(lambda s: s["__key__"] in keys)` asks.

    Raises:
        BadInput: the file cannot be written; nothing stands in its place.
    """
    with replace_whole(path) as partial:
        try:
            _WRITERS[form](segments, partial, settings)
        except (OSError, pl.exceptions.PolarsError):
            _ask_for_room(partial)
            raise


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Lend a file beside ``path``, which takes its place at the end, or goes if there is an error.

    Raises:
        BadInput: the folder is not there, may not be written to, or is full.
    """
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path} cannot be written: folder {path.absolute().parent} does not exist")
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        if error.errno not in {*_FULL, *_CLOSED}:
            raise
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


_ROOM_BYTES = 64 << 20
"""More than is written at once."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where no more can be written."""
_CLOSED = (errno.EROFS, errno.EISDIR, errno.EACCES, errno.EPERM)
"""What it says where no file can be made."""


def _ask_for_room(path: Path) -> None:
    """Say in the system's own words that a file cannot grow, if so: polars does not tell writing from reading."""
    with path.open("ab") as file:
        file.write(bytes(_ROOM_BYTES))


def guess_format(path: Path) -> Format:
    """Tell the format by the file's ending.

    Raises:
        BadInput: it tells nothing.
    """
    for ending, form in _ENDINGS.items():
        if path.name.endswith(ending):
            return form
    raise BadInput(f"{path}: the ending says no format; use {', '.join(_ENDINGS)}")


_ENDINGS: Mapping[str, Format] = {".wds.jsonl": "webdataset", ".parquet": "parquet", ".jsonl": "jsonl"}


def _write_parquet(segments: pl.LazyFrame, path: Path, _settings: Settings) -> None:
    segments.sink_parquet(path, compression="zstd")


def _write_jsonl(segments: pl.LazyFrame, path: Path, _settings: Settings) -> None:
    segments.sink_ndjson(path)


def _write_webdataset(segments: pl.LazyFrame, path: Path, settings: Settings) -> None:
    before, _, after = f"{settings.source_url.rstrip('/')}/{settings.source_key}".partition("{video_id}")
    url = pl.concat_str(pl.lit(before), "video_id", pl.lit(after.replace("{video_id}", "")))
    videos = segments.group_by("video_id").agg(pl.col("segment").sort_by("segment_index").alias("keys"))
    videos.sort("video_id").select(url.alias("url"), "video_id", "keys").sink_ndjson(path)


_WRITERS: Mapping[Format, Callable[[pl.LazyFrame, Path, Settings], None]] = {
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
    "webdataset": _write_webdataset,
}
