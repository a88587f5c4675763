"""Cap the hours per video and per speaker and the segments per text of a selection, and drop repeated audio."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from validation.analysis.selection.near_texts import BANDS, hash_bands
from validation.analysis.selection.verdicts import LANGUAGE_GROUP
from validation.errors import BadInput
from validation.scoring.verdict import Decision

CAPPED = "beyond a cap"
"""Value of the column ``verdict`` for a segment that has a wanted verdict but is beyond a cap."""
MEMORY_LIMIT = "1GB"
"""Memory limit of DuckDB. DuckDB spills data beyond the limit to a temporary folder."""
BATCH_ROWS = 200_000
"""Number of rows that are copied to DuckDB at a time."""
_SPEAKER = pl.col("video_id").hash(1) ^ pl.col("speaker").fill_null("").hash(2)
"""Hash of a video's speaker."""
_TEXT = pl.col("text_normalised").str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]", "")
"""The letters, marks and digits of a text in lower case."""
BANDS_OF_TEXT = tuple(f"text{band}" for band in range(BANDS))
"""Columns with the hashes of a text (``hash_bands``), each combined with the hash of its language."""
_KEY = pl.col("video_id").hash(3) ^ pl.col("segment_index").hash(4)
"""Hash that identifies a segment."""
_AUDIO = ("duration_s", "rms_dbfs", "edge_start_db", "edge_end_db", "flat_fraction", "bandwidth_hz")
"""Two segments have equal audio if all these signals are equal bit for bit, or null in both. Segments without the first
two signals are not compared. Shards hold no hash of the audio."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of a selection; None means no cap. Each cap keeps the segments with the lowest margins."""

    hours_per_video: float | None = None
    hours_per_speaker: float | None = None
    """A speaker belongs to one video: equal labels in different videos denote different speakers. All segments of a
    video without a label count as one speaker."""
    segments_per_text: int | None = None
    """Texts of one language count as the same text if ``near_texts`` finds their letters, marks and digits, ignoring
    case, nearly equal. Segments without such characters have no cap."""
    distinct_audio: bool = False
    """Whether only one of the segments with equal audio is kept."""

    def steps(self) -> Iterator[tuple[str, str]]:
        """Yield a label and an SQL condition per active cap, in the order of application.

        The label names the segments that the cap leaves out. The condition is true for segments within the cap.
        """
        if self.distinct_audio:
            yield "equal audio", f"audio IS NULL OR {_place_in('audio')} = 1"
        if self.segments_per_text is not None:
            counts = (f"{_place_in(band)} <= {self.segments_per_text}" for band in BANDS_OF_TEXT)
            yield "nearly the same text", f"{BANDS_OF_TEXT[0]} IS NULL OR ({' AND '.join(counts)})"
        if self.hours_per_speaker is not None:
            yield "more of a speaker", f"{_seconds_up_to('speaker')} <= {self.hours_per_speaker * 3600!r}"
        if self.hours_per_video is not None:
            yield "more of a video", f"{_seconds_up_to('video')} <= {self.hours_per_video * 3600!r}"


@dataclass(frozen=True, slots=True)
class CapSummary:
    """Number and hours of the segments that one cap leaves out. Segments that an earlier cap left out do not count."""

    cap: str
    segments: int
    hours: float


def apply_caps(
    segments: pl.LazyFrame, keep: Collection[Decision], caps: Caps, folder: Path
) -> tuple[pl.LazyFrame, list[CapSummary]]:
    """Leave out the wanted segments beyond the caps.

    DuckDB sorts about 100 bytes per wanted segment, and uses the disk above ``MEMORY_LIMIT``.

    Args:
        segments: from ``apply_rules``.
        keep: the wanted verdicts.
        caps: the caps.
        folder: the folder for DuckDB's temporary file.

    Returns:
        All segments, with ``CAPPED`` as the verdict of wanted segments that are left out; and a summary per cap.

    Raises:
        BadInput: ``distinct_audio`` is set and the segments lack one of the signals that it compares; or the disk is
            full.
    """
    names = segments.collect_schema().names()
    if caps.distinct_audio and (missing := [name for name in _AUDIO if name not in names]):
        raise BadInput(f"equal audio cannot be found: the shards have no column {missing[0]}")
    wanted = pl.col("verdict").is_in(list(keep))
    is_known = pl.all_horizontal(pl.col(name).is_not_null() for name in _AUDIO[:2] if name in names)
    narrow = segments.filter(wanted).select(
        _KEY.alias("key"),
        pl.col("video_id").hash(1).alias("video"),
        _SPEAKER.alias("speaker"),
        (_TEXT if caps.segments_per_text is not None else pl.lit(None, pl.String)).alias("text"),
        LANGUAGE_GROUP.hash(5).alias("language"),
        (pl.when(is_known).then(pl.struct(_AUDIO).hash(7)) if caps.distinct_audio else pl.lit(None, pl.UInt64)).alias(
            "audio"
        ),
        "margin",
        pl.col("duration_s").fill_null(0.0).alias("seconds"),
    )
    dropped, summaries = _find_dropped(narrow, caps, folder)
    is_dropped = _KEY.map_batches(partial(_is_among, dropped), return_dtype=pl.Boolean, is_elementwise=True)
    verdict = pl.when(wanted & is_dropped).then(pl.lit(CAPPED)).otherwise("verdict")
    return segments.with_columns(verdict=verdict), summaries


def _find_dropped(narrow: pl.LazyFrame, caps: Caps, folder: Path) -> tuple[npt.NDArray[np.uint64], list[CapSummary]]:
    """Return the sorted keys of the segments beyond the caps, and a summary per cap."""
    try:
        with (
            TemporaryDirectory(dir=folder, prefix=".caps-") as temporary,
            duckdb.connect(Path(temporary, "caps.duckdb"), config={"memory_limit": MEMORY_LIMIT}) as database,
        ):
            _fill_wanted(database, narrow)
            summaries = [_drop_beyond(database, cap, within) for cap, within in caps.steps()]
            keys = database.execute("SELECT key FROM dropped ORDER BY key").fetchnumpy()["key"]
            return np.asarray(keys, np.uint64), summaries
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise BadInput(f"the caps need space for a temporary file in {folder}: {error}") from None


def _fill_wanted(database: duckdb.DuckDBPyConnection, narrow: pl.LazyFrame) -> None:
    """Write the wanted segments to the table ``wanted``, and create the empty table ``dropped``."""
    bands = ", ".join(f"{band} UBIGINT" for band in BANDS_OF_TEXT)
    database.execute(
        "CREATE TABLE wanted (key UBIGINT, video UBIGINT, speaker UBIGINT, audio UBIGINT, "
        f"margin DOUBLE, seconds DOUBLE, {bands})"
    )
    database.execute("CREATE TABLE dropped (key UBIGINT)")
    for batch in narrow.collect_batches(chunk_size=BATCH_ROWS, engine="streaming"):
        database.register("batch", _hash_texts(batch).to_arrow())
        database.execute("INSERT INTO wanted BY NAME SELECT * FROM batch")


def _hash_texts(batch: pl.DataFrame) -> pl.DataFrame:
    """Replace the columns ``text`` and ``language`` by ``BANDS_OF_TEXT``. The bands of an empty text are null."""
    is_known = (batch["text"].fill_null("") != "").to_numpy()
    bands = np.zeros((len(batch), BANDS), np.uint64)
    bands[is_known] = hash_bands(batch["text"].filter(pl.Series(is_known)).to_list())
    bands ^= batch["language"].to_numpy()[:, None]
    columns = [
        pl.Series(name, bands[:, place]).set(pl.Series(~is_known), None) for place, name in enumerate(BANDS_OF_TEXT)
    ]
    return batch.drop("text", "language").with_columns(columns)


def _drop_beyond(database: duckdb.DuckDBPyConnection, cap: str, within: str) -> CapSummary:
    """Move the segments for which the SQL condition ``within`` is false from the table ``wanted`` to ``dropped``."""
    database.execute(f"CREATE TABLE judged AS SELECT *, ({within}) AS within FROM wanted")  # noqa: S608 - from Caps
    database.execute("INSERT INTO dropped SELECT key FROM judged WHERE NOT within")
    found = database.execute("SELECT count(*), coalesce(sum(seconds), 0) FROM judged WHERE NOT within").fetchone()
    database.execute("CREATE OR REPLACE TABLE wanted AS SELECT * EXCLUDE within FROM judged WHERE within")
    database.execute("DROP TABLE judged")
    segments, seconds = found or (0, 0.0)
    return CapSummary(cap, segments, seconds / 3600)


def _place_in(group: str) -> str:
    """Return SQL for the place of a segment among those with the same value of ``group``; 1 is the lowest margin.

    Equal margins are ordered by key.
    """
    return f"row_number() OVER (PARTITION BY {group} ORDER BY margin, key)"


def _seconds_up_to(group: str) -> str:
    """Return SQL for the seconds of a segment and of all segments of its group with a lower margin."""
    return f"sum(seconds) OVER (PARTITION BY {group} ORDER BY margin, key ROWS UNBOUNDED PRECEDING)"


def _is_among(dropped: npt.NDArray[np.uint64], keys: pl.Series) -> pl.Series:
    """Return for each key whether it is among the sorted keys ``dropped``."""
    if not len(dropped):
        return pl.Series(np.zeros(len(keys), bool))
    asked = keys.to_numpy()
    places = np.minimum(np.searchsorted(dropped, asked), len(dropped) - 1)
    return pl.Series(dropped[places] == asked)
