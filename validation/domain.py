"""The nouns of the trade. Values only: nothing here reads a clock, a file or a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Seconds: TypeAlias = float
Waveform: TypeAlias = NDArray[np.float32]
"""(n,) mono samples in [-1, 1] at ``SAMPLE_RATE``."""
Scalar: TypeAlias = float | int | str | bool | None
ColumnType: TypeAlias = Literal["float", "int", "str", "bool"]

SAMPLE_RATE = 16_000
"""Hz. Every model of every suite listens at this rate; audio is resampled once, when it is decoded."""
MIN_SEGMENT_S: Seconds = 0.1
"""Shortest audio that a model is asked about: ten analysis frames of the model with the shortest window."""


@dataclass(frozen=True, slots=True)
class Video:
    """One row of ``video_queue``: a video that a chunk has claimed."""

    video_id: str
    language: str | None
    """The language that the transcription claims, an ISO 639-1 or 639-3 code."""
    segment_count: int | None
    """How many segments the queue promises. The tar decides; a difference is recorded, never fatal."""
    crashes: int = 0
    """How often a process has died while it held this video. Any at all makes it a suspect."""


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """Up to N videos held by one worker under one fencing token."""

    chunk_id: UUID
    worker_id: str
    shard_number: int
    """The ordinal of this chunk among its worker's: names the shard. A chunk without a shard leaves a gap."""
    lease_s: Seconds
    videos: tuple[Video, ...]
    models: tuple[str, ...] | None = None
    """Which models of the suite its videos still want; None is all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something has no answer: a kind for machines, a sentence for people."""

    kind: str
    """A short snake_case word, stable across versions: ``undecodable``, ``too_short``, ``model_failed``."""
    message: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of speech and what its transcript claims, as its tar tells it. Audio not included."""

    video_id: str
    name: str
    """Unique within the video; the tar's own name for the segment."""
    text: str
    language: str | None
    """The segment's own label where it has one, else its video's."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """A segment with its audio, or with the reason why it has none."""

    segment: Segment
    audio: Waveform | Fault

    @property
    def utterance(self) -> "Utterance | None":
        """What the models are asked, None where there is nothing to hear."""
        if isinstance(self.audio, Fault):
            return None
        return Utterance(self.audio, self.segment.text, self.segment.language)


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A video as its tar holds it, ready to be scored."""

    video: Video
    segments: tuple[DecodedSegment, ...]
    tar_bytes: int
    layout: str
    """Which of the accepted tar layouts it had: ``pairs``, ``indexed``, ``sliced`` or ``shar``."""

    @property
    def audio_bytes(self) -> int:
        """Bytes of decoded audio held in memory."""
        return sum(s.audio.nbytes for s in self.segments if not isinstance(s.audio, Fault))

    @property
    def audio_s(self) -> Seconds:
        """Seconds of decoded audio."""
        return self.audio_bytes / (np.dtype(np.float32).itemsize * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that is said of a segment. A model's is stored as ``<model name>_<column name>``."""

    name: str
    type: ColumnType
    unit: str
    """``probability``, ``log-probability``, ``seconds``, ``MOS 1-5``, ``ratio``, ``ISO 639`` or ``text``."""
    description: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answer for one segment, by the model's own column names (without its prefix).

    A model that does not know the segment's language abstains: it answers ``Scored`` with the columns that
    depend on the language set to None. An abstention is never a disagreement.
    """

    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Unscored:
    """No answer, and why. Never a low score."""

    fault: Fault


Answer: TypeAlias = Scored | Unscored


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a model is asked about: audio, and what is claimed of it."""

    audio: Waveform
    text: str
    language: str | None
    wanted: tuple[str, ...] | None = None
    """Which models must answer; None is all of them."""

    @property
    def duration_s(self) -> Seconds:
        return len(self.audio) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """A video that could not be validated, and whether another attempt may succeed."""

    video_id: str
    error: str
    transient: bool


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """What the ledger keeps of a shard that has been uploaded."""

    key: str
    sha256: str
    size_bytes: int
    segments: int
    suite: str
    audio_s: Seconds | None = None
    """Decoded audio of all segments; None where nobody counted."""
    verdicts: Mapping[str, int] | None = None
    """Segments by verdict, all three named; None where nobody counted."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The revision of each model that was asked."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a heartbeat tells of a chunk under way. Counts are of this chunk alone."""

    current_video_id: str | None = None
    videos_validated: int = 0
    videos_failed: int = 0
    segments: int = 0
    segments_per_s: float = 0.0
    """Over the last ten videos."""
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class StoreCredential:
    """What opens an object store. It prints without its secrets."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """By this machine's clock; None means that it does not end."""


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """Who a worker is, as ``worker_validators`` shows it."""

    worker_id: str
    gpu_type: str | None = None
    gpu_vram_gb: float | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    prefect_worker: str | None = None
