"""Write a selection: as parquet, as JSON lines, or as a list for WebDataset."""

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
    """Write segments as a stream to a temporary file, which replaces ``path`` when it is complete.

    - ``parquet`` and ``jsonl``: every column of the shards, one row or line per segment.
    - ``webdataset``: one JSON line per tar: ``{"url", "video_id", "keys"}``, where ``keys`` are the names of the kept
      segments in the tar's order, for `wds.WebDataset(urls).select(lambda s: s["__key__"] in keys)`.

    Raises:
        BadInput: the file cannot be written; ``path`` is as before.
    """
    with replace_when_complete(path) as partial:
        try:
            _WRITERS[form](segments, partial, settings)
        except (OSError, pl.exceptions.PolarsError):
            _probe_free_space(partial)
            raise


@contextmanager
def replace_when_complete(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; it replaces ``path`` at the end, and is deleted after an error.

    Raises:
        BadInput: the folder does not exist, is not writable, or the disk is full.
    """
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path} cannot be written: folder {path.absolute().parent} does not exist")
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        if error.errno not in {*_DISK_FULL, *_NOT_WRITABLE}:
            raise
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


_PROBE_BYTES = 64 << 20
"""More than polars writes at once."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EROFS, errno.EISDIR, errno.EACCES, errno.EPERM)


def _probe_free_space(path: Path) -> None:
    """Raise the operating system's error if a file cannot grow: polars' error does not say whether it was writing."""
    with path.open("ab") as file:
        file.write(bytes(_PROBE_BYTES))


def guess_format(path: Path) -> Format:
    """The format that a file name's ending stands for.

    Raises:
        BadInput: the ending is unknown.
    """
    for ending, form in _ENDINGS.items():
        if path.name.endswith(ending):
            return form
    raise BadInput(f"{path}: the ending names no format; use {', '.join(_ENDINGS)}")


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
