"""The terms of the domain as types. Values only: nothing here reads a clock, a file or a network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from validation.escape import plain_text
from validation.languages import fold_lect, normalize_language_code

Seconds: TypeAlias = float
Waveform: TypeAlias = NDArray[np.float32]
"""(n,) mono samples in [-1, 1] at ``SAMPLE_RATE``."""
Scalar: TypeAlias = float | int | str | bool | None
ColumnType: TypeAlias = Literal["float", "int", "str", "bool"]

SAMPLE_RATE = 16_000
"""Hz. Every model of every suite takes this rate; audio is resampled once, when it is decoded."""
MAX_NUMBER = 1e12
"""No signal is larger: sums over a corpus and their squares stay finite."""
MIN_DISK_BYTES = 5 << 30
"""Free disk that a box needs before it works."""
MIN_SEGMENT_S: Seconds = 0.1
"""Shortest audio that a model is given: ten analysis frames of the model with the shortest window."""


@dataclass(frozen=True, slots=True)
class Video:
    """One row of ``video_queue``: a video that a chunk has claimed."""

    video_id: str
    language: str | None
    """The declared language of the transcription, as the queue has it."""
    segment_count: int | None
    """Number of segments by the queue. The tar decides: a difference is recorded and is no error."""
    crashes: int = 0
    """How many flow processes have died while they held this video. A video with a crash is claimed alone."""


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """Up to N videos that one worker holds under one fencing token."""

    chunk_id: UUID
    worker_id: str
    shard_number: int
    """Ordinal of the chunk among its worker's; names the shard. A chunk without a shard leaves a gap."""
    lease_s: Seconds
    videos: tuple[Video, ...]
    models: tuple[str, ...] | None = None
    """The models of the suite that its videos still lack; None means all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a video, a segment or an answer has no result: a kind for programs, a sentence for people."""

    kind: str
    """A snake_case word that is stable across versions: ``undecodable``, ``too_short``, ``model_failed``."""
    message: str
    """One sentence. Quoted names from outside are made safe on construction."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain_text(self.message))

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


UNKNOWN_LANGUAGE = Fault("not_asked", "ISO 639 does not know the declared language")
"""Why no model was asked about a segment whose label is no language."""
UNSUPPORTED_LANGUAGE = Fault("not_asked", "no model of the suite knows the declared language")
"""Why no model was asked about a segment in a language that none of them can name."""


def label_fault(label: str | None, known_languages: Collection[str]) -> Fault | None:
    """Find the fault of a declared language for which no model is asked; None for a label about which they are.

    A missing label has no fault, because the models may find the language.

    Args:
        label: the declared language.
        known_languages: normalised codes that the suite's models can name; empty if they identify no language.
    """
    if not label or not label.strip():
        return None
    code = normalize_language_code(label)
    if code is None:
        return UNKNOWN_LANGUAGE
    is_known = not known_languages or code in known_languages or fold_lect(code) in known_languages
    return None if is_known else UNSUPPORTED_LANGUAGE


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of speech with its transcript, as its tar describes it, without the audio."""

    video_id: str
    name: str
    """The tar's own name of the segment, unique within the video."""
    text: str
    language: str | None
    """The segment's declared language where it has one, else that of its video."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    speaker: str | None = None
    audio_member: str | None = None
    """The file of the tar that holds the segment's audio; None if there is none."""


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """A segment with its audio, or with the fault that left it without."""

    segment: Segment
    audio: Waveform | Fault
    length_difference_s: Seconds | None = None
    """Decoded length minus the length that the segment's record declares; None where either is unknown."""
    audio_offset_s: Seconds | None = None
    """Where the segment begins in its file, if it is a slice of it; None if it is the whole file."""

    def utterance_for(self, known_languages: Collection[str]) -> "Utterance | None":
        """Return the input of the models; None for a segment without audio or with a label that has a fault."""
        if isinstance(self.audio, Fault) or label_fault(self.segment.language, known_languages):
            return None
        return Utterance(self.audio, self.segment.text, self.segment.language)


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A video as its tar holds it, ready to be scored."""

    video: Video
    segments: tuple[DecodedSegment, ...]
    tar_bytes: int
    layout: str
    """The layout of the tar: ``pairs``, ``indexed``, ``sliced`` or ``shar``."""

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
    """One value per segment. A model's column is stored as ``<model name>_<column name>``."""

    name: str
    type: ColumnType
    unit: str
    """``probability``, ``log-probability``, ``seconds``, ``MOS 1-5``, ``ratio``, ``ISO 639`` or ``text``."""
    description: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answer for one segment, by the model's own column names (without its prefix).

    A model that does not know the segment's language abstains: the columns that depend on the language are None. An
    abstention does not count as disagreement.
    """

    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Unscored:
    """No answer, with its fault. It is never treated as a low score."""

    fault: Fault


Answer: TypeAlias = Scored | Unscored


@dataclass(frozen=True, slots=True)
class Utterance:
    """The input of a model for one segment: audio, transcript, declared language."""

    audio: Waveform
    text: str
    language: str | None
    requested_models: tuple[str, ...] | None = None
    """The models that must answer; None means all."""

    @property
    def duration_s(self) -> Seconds:
        return len(self.audio) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """A video that could not be validated, and whether a later attempt may succeed."""

    video_id: str
    error: str
    """One sentence. Quoted names from outside are made safe on construction, because the ledger stores it."""
    transient: bool
    charged: bool = True
    """Whether it costs the video an attempt. An uncharged failure is always transient, and may be tried without end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", plain_text(self.error))


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """What the ledger records of an uploaded shard."""

    key: str
    sha256: str
    size_bytes: int
    segments: int
    suite: str
    audio_s: Seconds | None = None
    """Decoded audio of all segments; None where it was not counted."""
    verdicts: Mapping[str, int] | None = None
    """Segments by verdict, with all three verdicts as keys; None where they were not counted."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The revision of each model that was run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a heartbeat reports of an open chunk. The counts are of this chunk alone."""

    current_video_id: str | None = None
    videos_validated: int = 0
    videos_failed: int = 0
    segments: int = 0
    segments_per_s: float = 0.0
    """Over the last ten videos."""
    last_error: str | None = None
    """As ``VideoFailure.error``."""

    def __post_init__(self) -> None:
        if self.last_error is not None:
            object.__setattr__(self, "last_error", plain_text(self.last_error))


@dataclass(frozen=True, slots=True)
class StoreCredential:
    """A credential of an object store. Its ``repr`` leaves the secrets out."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """By this machine's clock; None means that it does not expire."""


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """What ``worker_validators`` records of a worker."""

    worker_id: str
    gpu_type: str | None = None
    gpu_vram_gb: float | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    prefect_worker: str | None = None
