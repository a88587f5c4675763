"""Write a selection as parquet, as JSON lines, or as a list of keys for WebDataset."""

import errno
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from validation.errors import BadInput
from validation.files import replace_atomically
from validation.scoring.verdict import Decision

Format: TypeAlias = Literal["parquet", "jsonl", "webdataset"]

BATCH_ROWS = 20_000
"""Number of rows that are converted to Arrow at a time. A row with every column takes about 1 kB."""


def write_selection(
    segments: pl.LazyFrame,
    keep: Collection[Decision],
    path: Path,
    form: Format,
    *,
    fields: Mapping[str, pa.Field],
    tar_url: str,
) -> Mapping[str, int]:
    """Stream the kept segments to a temporary file, and replace ``path`` by the file when it is complete.

    - ``parquet``: every column, one row per segment, with the Arrow types, units and descriptions of the shards.
    - ``jsonl``: every column, one line per segment.
    - ``webdataset``: one JSON line per tar: ``{"url", "video_id", "keys"}``. ``keys`` lists the
      WebDataset keys of the kept samples in the order of the tar. A key is the member's path up to the first dot of
      the file name, without a leading ``./``. A reader selects the samples with
      ``wds.WebDataset(urls).select(lambda s: s["__key__"].removeprefix("./") in keys)``.

    Args:
        segments: the result of ``apply_rules``, including segments that are not kept: a key must be unique in its tar.
        keep: the verdicts to keep.
        path: the file to write.
        form: the format of the file.
        fields: the Arrow fields of the shards, from ``read_fields``.
        tar_url: template of the URL of a video's tar, with the placeholder ``{video_id}``.

    Returns:
        The number of kept segments that were left out, per reason. Only the format ``webdataset`` leaves segments out.

    Raises:
        BadInput: the file cannot be written. ``path`` is unchanged.
    """
    with replace_when_complete(path) as partial:
        try:
            if form == "webdataset":
                return _write_webdataset(segments, keep, partial, tar_url)
            kept = segments.filter(pl.col("verdict").is_in(list(keep)))
            if form == "parquet":
                _write_parquet(kept, partial, fields)
            else:
                kept.sink_ndjson(partial)
        except (OSError, pl.exceptions.PolarsError):
            _probe_free_space(partial)
            raise
        return {}


@contextmanager
def replace_when_complete(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of ``path``. Replace ``path`` by it at the end; delete it after an error.

    Raises:
        BadInput: the folder does not exist, is not writable, or the disk is full.
    """
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path} cannot be written: folder {path.absolute().parent} does not exist")
    with disk_errors(path), replace_atomically(path) as partial:
        yield partial


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert operating system errors of a full disk or an unwritable path to ``BadInput``, which names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in {*_DISK_FULL, *_NOT_WRITABLE}:
            raise
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


_PROBE_BYTES = 64 << 20
"""Size of the test write, larger than any single write of a selection."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EROFS, errno.EISDIR, errno.EACCES, errno.EPERM)


def _probe_free_space(path: Path) -> None:
    """Append a test block to the file. Raise ``OSError`` if the file cannot grow.

    Polars reports errors of reading and of writing alike; the test block tells them apart. The caller deletes the file.
    """
    with path.open("ab") as file:
        file.write(bytes(_PROBE_BYTES))


_ENDINGS: Mapping[str, Format] = {".wds.jsonl": "webdataset", ".parquet": "parquet", ".jsonl": "jsonl"}
"""The format of a selection file, by the ending of its name. The first matching ending counts."""


def guess_format(path: Path) -> Format:
    """Return the format of a selection file by the extension of its name.

    Raises:
        BadInput: the extension is unknown.
    """
    for ending, form in _ENDINGS.items():
        if path.name.endswith(ending):
            return form
    raise BadInput(f"{path}: the ending names no format; use {', '.join(_ENDINGS)}")


def _write_parquet(kept: pl.LazyFrame, path: Path, fields: Mapping[str, pa.Field]) -> None:
    """Write with pyarrow. Polars would change the string and list types of the shards and drop the descriptions."""
    schema = arrow_schema(kept, fields)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]  # numeric values rarely repeat
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts) as writer:
        for batch in kept.collect_batches(chunk_size=BATCH_ROWS, engine="streaming"):
            writer.write_table(batch.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))


def arrow_schema(segments: pl.LazyFrame, fields: Mapping[str, pa.Field]) -> pa.Schema:
    """Return the Arrow schema of selected segments: shard fields, and for other columns a field without metadata."""
    empty = pl.DataFrame(schema=segments.collect_schema()).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.schema([fields.get(field.name) or _without_metadata(field) for field in empty.schema])


def _without_metadata(field: pa.Field) -> pa.Field:
    """Return a field without metadata, with Arrow's plain string type."""
    return pa.field(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)


# Reasons why a kept segment is left out of a list for WebDataset; each completes "N segments ...".
SLICED = "are slices of a longer file"
SHARED_KEY = "share their key with another segment of their tar (their names agree up to the first dot)"
NO_KEY = "have no audio file with a name that WebDataset reads"


def _write_webdataset(
    segments: pl.LazyFrame, keep: Collection[Decision], path: Path, tar_url: str
) -> Mapping[str, int]:
    """Write one line per tar, and return the number of kept segments that were left out, per reason."""
    before, _, after = tar_url.partition("{video_id}")
    url = pl.concat_str(pl.lit(before), "video_id", pl.lit(after.replace("{video_id}", "")))
    samples = (
        segments.select(
            "video_id",
            "segment_index",
            webdataset_key(segments).alias("key"),
            _is_slice(segments).alias("sliced"),
            pl.col("verdict").is_in(list(keep)).alias("kept"),
        )
        .group_by("video_id", "key")
        .agg(pl.len().alias("segments"), pl.col("kept").sum(), pl.col("sliced").any(), pl.col("segment_index").min())
        .filter(pl.col("kept") > 0)
        .with_columns(
            pl.when("sliced")
            .then(pl.lit(SLICED))
            .when(pl.col("key").is_null())
            .then(pl.lit(NO_KEY))
            .when(pl.col("segments") > 1)
            .then(pl.lit(SHARED_KEY))
            .alias("problem")
        )
    )
    tars = (
        samples.filter(pl.col("problem").is_null())
        .group_by("video_id")
        .agg(pl.col("key").sort_by("segment_index").alias("keys"))
        .sort("video_id")
        .select(url.alias("url"), "video_id", "keys")
    )
    left_out = samples.filter(pl.col("problem").is_not_null()).group_by("problem").agg(pl.col("kept").sum())
    _, counts = pl.collect_all([tars.sink_ndjson(path, lazy=True), left_out.sort("problem")], engine="streaming")
    return dict(counts.iter_rows())


def webdataset_key(segments: pl.LazyFrame) -> pl.Expr:
    """Return an expression for the WebDataset key of a segment's audio file.

    The key is the path of the tar member up to the first dot of the file name, without a leading ``./``. Shards of
    schema version 1 have no column ``audio_member``; the segment's name is used instead.
    """
    has_member = "audio_member" in segments.collect_schema()
    member = pl.coalesce("audio_member", "segment") if has_member else pl.col("segment")
    return member.str.replace(r"^(\./)+", "").str.extract(r"^((?:.*/)?[^./]+)(?:\.[^/]*)?$")


def _is_slice(segments: pl.LazyFrame) -> pl.Expr:
    """Return an expression: whether the segment is a time span of a longer audio file."""
    has_offset = "audio_offset_s" in segments.collect_schema()
    return pl.col("audio_offset_s").is_not_null() if has_offset else pl.lit(value=False)


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Return two sentences on the kept segments that ``write_selection`` left out. ``left_out`` is what it returned."""
    total = sum(left_out.values())
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    return (
        f"{total:,} kept segments have no WebDataset key of their own and were left out: {reasons}. "
        "`vfleet export webdataset` writes tars with all of them."
    )
