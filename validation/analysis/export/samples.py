"""Write the frozen list of selected segments, and read the audio of these segments from the source tars."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import ObjectStore

from validation.corpus.fetch import fetch_video
from validation.domain import SAMPLE_RATE, Fault, Seconds, Video, Waveform
from validation.errors import BadInput, Permanent
from validation.files import replace_atomically

PART_ROWS = 200_000
"""Approximate number of selected rows that are sorted in memory at a time."""
MAX_PREFETCHED_VIDEOS = 3
"""Number of videos that are fetched ahead of the video that is written. A decoded video may take 2.8 GB of memory."""
COLUMNS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("segment_index", pa.int64(), nullable=False),
        pa.field("segment", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("language_code", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("verdict", pa.string()),
    ]
)
"""Arrow schema of the frozen list."""
_REQUIRED = ("video_id", "segment_index", "segment", "text")
"""Columns that a selection must have. Other columns of the list are null where the selection lacks them."""


class SelectedRow(NamedTuple):
    """A row of the frozen list."""

    video_id: str
    segment_index: int
    segment: str
    text: str
    language: str | None
    language_code: str | None
    speaker: str | None
    start_s: Seconds | None
    end_s: Seconds | None
    duration_s: Seconds | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A selected segment with its audio."""

    row: SelectedRow
    pcm: npt.NDArray[np.int16]
    """Mono samples at 16 kHz, shape (T,): the samples that models score, rounded to 16 bits (``to_pcm``)."""

    @property
    def key(self) -> str:
        """The video's id and the segment's index: a name that is unique in the export and has no dot and no slash."""
        return f"{_escape(self.row.video_id)}-{self.row.segment_index:06d}"

    @property
    def speaker_key(self) -> str:
        """The video's id and the speaker's label. Equal labels in different videos denote different speakers."""
        return speaker_key(self.row.video_id, self.row.speaker)

    @property
    def utterance_key(self) -> str:
        """Speaker key and segment index. Utterance keys sort in the order of their speakers, as Kaldi requires."""
        return f"{self.speaker_key}+{self.row.segment_index:06d}"

    @property
    def duration_s(self) -> Seconds:
        return len(self.pcm) / SAMPLE_RATE

    @property
    def language(self) -> str:
        return self.row.language_code or self.row.language or "unknown"


@dataclass(frozen=True, slots=True)
class MissingSample:
    """A selected segment whose audio cannot be read, or has another length than when it was validated."""

    row: SelectedRow
    reason: str


def freeze_selection(kept: pl.LazyFrame, path: Path) -> int:
    """Write the list of selected rows in the order of the export, so that a resumed export writes the same rows.

    Rows are sorted by speaker key and segment index. They are read and sorted in groups of about ``PART_ROWS`` rows.

    Returns:
        The number of rows in the list.

    Raises:
        BadInput: the selection lacks a column that an export needs.
    """
    names = kept.collect_schema().names()
    if missing := [name for name in _REQUIRED if name not in names]:
        raise BadInput(f"the selection has no column {missing[0]}: export shards, or what `vfleet select` wrote")
    rows = 0
    columns = [pl.col(name) if name in names else pl.lit(None).alias(name) for name in COLUMNS.names]
    with replace_atomically(path) as partial, pq.ParquetWriter(partial, COLUMNS, compression="zstd") as writer:
        for videos in _group_videos(kept):
            part = kept.filter(pl.col("video_id").is_between(pl.lit(videos.min()), pl.lit(videos.max())))
            found = part.filter(pl.col("video_id").is_in(videos.implode())).select(columns)
            frame = found.collect(engine="streaming")
            speakers = [speaker_key(*key) for key in frame.select("video_id", "speaker").iter_rows()]
            frame = frame.with_columns(pl.Series("::speaker", speakers, pl.String)).sort("::speaker", "segment_index")
            table = frame.drop("::speaker").to_arrow(compat_level=pl.CompatLevel.oldest())
            writer.write_table(table.cast(COLUMNS))
            rows += len(frame)
    return rows


def _group_videos(kept: pl.LazyFrame) -> Iterator[pl.Series]:
    """Split the videos into groups of about ``PART_ROWS`` rows, and yield the video ids of each group.

    The groups, and the ids in a group, are in the order of the export. A video is never split.
    """
    census = kept.group_by("video_id").agg(pl.len().alias("rows")).collect(engine="streaming")
    order = pl.Series([speaker_key(video_id, None) for video_id in census["video_id"]], dtype=pl.String)
    numbered = census.sort(order).with_columns(part=(pl.col("rows").cum_sum() - 1) // PART_ROWS)
    for part in numbered.partition_by("part", maintain_order=True):
        yield part["video_id"]


def read_samples(
    path: Path, store: ObjectStore, source_key: str, *, skip: int = 0
) -> Generator[Sample | MissingSample]:
    """Fetch the audio of the rows of the frozen list, and yield samples in the order of the list.

    The tar of each video is read once.

    Args:
        path: the frozen list.
        store: the source store, which holds the tars.
        source_key: template of a tar's object key, with the placeholder ``{video_id}``.
        skip: number of rows to skip at the beginning of the list.

    Raises:
        Transient: the source store cannot be read now.
        BadInput: the source store refuses this client.
    """
    videos = groupby(_read_rows(path, skip), key=attrgetter("video_id"))
    with ThreadPoolExecutor(MAX_PREFETCHED_VIDEOS) as pool:
        ahead: deque[tuple[list[SelectedRow], Future[Mapping[str, Waveform | Fault] | str]]] = deque()
        try:
            for video_id, group in videos:
                rows, key = list(group), source_key.format(video_id=video_id)
                ahead.append((rows, pool.submit(_fetch, store, key, video_id, [row.segment for row in rows])))
                if len(ahead) > MAX_PREFETCHED_VIDEOS:
                    yield from _match_audio(*ahead.popleft())
            while ahead:
                yield from _match_audio(*ahead.popleft())
        finally:
            for _, fetching in ahead:
                fetching.cancel()


def _read_rows(path: Path, skip: int) -> Iterator[SelectedRow]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=10_000):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield from (SelectedRow(**row) for row in batch.slice(skip).to_pylist())
            skip = 0


def _fetch(store: ObjectStore, key: str, video_id: str, names: Sequence[str]) -> Mapping[str, Waveform | Fault] | str:
    """Return the audio or the fault per segment name, or one sentence that says why the video cannot be read."""
    try:
        decoded = fetch_video(store, key, Video(video_id, None, None))
    except Permanent as error:
        return str(error)
    wanted = set(names)
    return {each.segment.name: each.audio for each in decoded.segments if each.segment.name in wanted}


def _match_audio(
    rows: Sequence[SelectedRow], fetching: "Future[Mapping[str, Waveform | Fault] | str]"
) -> Iterator[Sample | MissingSample]:
    """Yield the rows of one video with their audio. A row whose audio is missing or has another length is missing."""
    audio = fetching.result()
    for row in rows:
        found = audio if isinstance(audio, str) else audio.get(row.segment, "its tar no longer holds this segment")
        if isinstance(found, str | Fault):
            yield MissingSample(row, found if isinstance(found, str) else found.message)
        elif row.duration_s is not None and round(row.duration_s * SAMPLE_RATE) != len(found):
            yield MissingSample(row, f"its audio changed: {len(found) / SAMPLE_RATE:g} s, not {row.duration_s:g} s")
        else:
            yield Sample(row, to_pcm(found))


def to_pcm(waveform: Waveform) -> npt.NDArray[np.int16]:
    """Convert a waveform to 16-bit samples. Audio from 16-bit files at 16 kHz is restored bit for bit."""
    return np.asarray(np.clip(np.rint(waveform * 32768.0), -32768, 32767), np.int16)


def speaker_key(video_id: str, speaker: str | None) -> str:
    """Return a name for a speaker of a video. ``+`` occurs in no escaped name and sorts before all its characters."""
    return f"{_escape(video_id)}+{_escape(speaker or '')}"


def _escape(name: str) -> str:
    """Escape a name: letters, digits, ``-`` and ``_`` stay; each byte of another character becomes ``=XX`` (hex)."""
    return quote(name, safe="").replace("%", "=").replace(".", "=2E").replace("~", "=7E")
