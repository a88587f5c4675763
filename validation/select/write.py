"""Write a selection down: as parquet, as JSON lines, or as a list for WebDataset."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from validation.errors import BadInput
from validation.settings import Settings

Format: TypeAlias = Literal["parquet", "jsonl", "webdataset"]


def write_selection(segments: pl.LazyFrame, path: Path, form: Format, settings: Settings) -> None:
    """Write segments as a stream, through a file beside ``path`` that takes its place when it is whole.

    - ``parquet`` and ``jsonl``: every column of the shards, one row or line a segment.
    - ``webdataset``: one JSON line a tar: ``{"url", "video_id", "keys"}``, where ``keys`` are the tar's own names of
      the segments that are kept, in its order: what `wds.WebDataset(urls).select(lambda s: s["__key__"] in keys)` asks.

    Raises:
        BadInput: the file's folder is not there.
    """
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path} cannot be written: folder {path.absolute().parent} does not exist")
    partial = path.with_name(f".{path.name}.partial")
    try:
        _WRITERS[form](segments, partial, settings)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
