"""The data types of the domain. They hold values only: no code here reads a clock, a file or a network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from validation.escape import plain_text
from validation.languages import normalize_language_code, to_macrolanguage

Seconds: TypeAlias = float
Waveform: TypeAlias = NDArray[np.float32]
"""(n,) mono samples in [-1, 1] at ``SAMPLE_RATE``."""
Scalar: TypeAlias = float | int | str | bool | None
ColumnType: TypeAlias = Literal["float", "int", "str", "bool"]

SAMPLE_RATE = 16_000
"""Hz. Every model of every suite takes audio at this rate. Audio is resampled once, when it is decoded."""
MAX_NUMBER = 1e12
"""Maximum absolute value of a signal. So sums of signals and of their squares over a corpus stay finite."""
MIN_DISK_BYTES = 5 << 30
"""Minimum free disk space, in bytes, with which a box may start to work."""
MIN_SEGMENT_S: Seconds = 0.1
"""Minimum length of the audio that a model scores: ten analysis frames of the model with the shortest window."""


@dataclass(frozen=True, slots=True)
class Video:
    """One row of ``video_queue``."""

    video_id: str
    language: str | None
    """The language of the transcription that the queue declares."""
    segment_count: int | None
    """The number of segments that the queue declares. If the tar holds another number, the difference is recorded and
    the video does not fail."""
    crashes: int = 0
    """Number of flow processes that died while they held this video; every fourth loss of the video counts too. After
    its first crash a video is claimed in a chunk of a fifth of the usual size, after its second crash alone."""


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """A chunk: the videos that one worker claimed together, under one token (``chunk_id``)."""

    chunk_id: UUID
    worker_id: str
    shard_number: int
    """Sequence number of the chunk among the chunks of its worker. The name of the shard contains this number. A chunk
    that wrote no shard leaves a gap in the numbers of the shards."""
    lease_s: Seconds
    videos: tuple[Video, ...]
    models: tuple[str, ...] | None = None
    """The models of the suite that must still score the videos of the chunk; None means all models."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why a video, a segment or an answer has no result: a kind for programs, a sentence for people."""

    kind: str
    """A snake_case word that is stable across versions: ``undecodable``, ``too_short``, ``model_failed``."""
    message: str
    """One sentence. The constructor replaces control characters by escapes (``plain_text``)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain_text(self.message))

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


UNKNOWN_LANGUAGE = Fault("not_asked", "ISO 639 does not know the declared language")
"""The fault of a segment whose language label is no language of ISO 639. No model scores such a segment."""
UNSUPPORTED_LANGUAGE = Fault("not_asked", "no model of the suite knows the declared language")
"""The fault of a segment whose language no model of the suite supports. No model scores such a segment."""


def label_fault(label: str | None, known_languages: Collection[str]) -> Fault | None:
    """Return the fault of a language label that excludes its segment from scoring; None if models may score it.

    A missing label has no fault, because the models can identify the language from the audio.

    Args:
        label: the declared language.
        known_languages: normalised codes of the languages that the suite's models can identify; empty if the suite has
            no language identification. An empty collection excludes no language.
    """
    if not label or not label.strip():
        return None
    code = normalize_language_code(label)
    if code is None:
        return UNKNOWN_LANGUAGE
    is_known = not known_languages or code in known_languages or to_macrolanguage(code) in known_languages
    return None if is_known else UNSUPPORTED_LANGUAGE


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as its tar describes it: name, transcript, language and times, without the audio."""

    video_id: str
    name: str
    """The name of the segment in the tar. It is unique within the video."""
    text: str
    language: str | None
    """The language that the segment's record declares, else the language that the queue or the tar declares for the
    video; None if none is declared."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    """The end of the segment in the video, as ``start_s`` is its start; None if the record does not state the time."""
    speaker: str | None = None
    audio_member: str | None = None
    """The path of the tar member that holds the segment's audio; None if the segment has no audio."""


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """A segment with its decoded audio, or with the fault that explains why the segment has no audio."""

    segment: Segment
    audio: Waveform | Fault
    length_difference_s: Seconds | None = None
    """Length of the decoded audio minus the length that the segment's record declares; None if a length is unknown."""
    audio_offset_s: Seconds | None = None
    """Start of the segment in its audio file, if the segment is a slice of the file; None if it is the whole file."""

    def utterance_for(self, known_languages: Collection[str]) -> "Utterance | None":
        """Return the segment as input of the models; None if it has no audio or ``label_fault`` finds a fault."""
        if isinstance(self.audio, Fault) or label_fault(self.segment.language, known_languages):
            return None
        return Utterance(self.audio, self.segment.text, self.segment.language)


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A video whose tar was read and whose segments are decoded, so that models can score the segments."""

    video: Video
    segments: tuple[DecodedSegment, ...]
    tar_bytes: int
    layout: str
    """The layout of the tar: ``pairs``, ``indexed``, ``sliced`` or ``shar``."""

    @property
    def audio_bytes(self) -> int:
        """Size of the decoded audio of all segments in memory, in bytes."""
        return sum(s.audio.nbytes for s in self.segments if not isinstance(s.audio, Fault))

    @property
    def audio_s(self) -> Seconds:
        """Length of the decoded audio of all segments."""
        return self.audio_bytes / (np.dtype(np.float32).itemsize * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the results, with one value per segment. A shard names it ``<model name>_<column name>``."""

    name: str
    type: ColumnType
    unit: str
    """The unit of the values, such as ``probability``, ``log-probability``, ``seconds``, ``MOS 1-5`` or ``text``."""
    description: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answer for one segment.

    If a model does not support the segment's language, the model abstains: it sets the columns that depend on the
    language to None. An abstention does not count as disagreement.
    """

    values: Mapping[str, Scalar]
    """The value of each column, by the model's own column name (without the model name as prefix)."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """A missing answer of a model for one segment, with the reason. It is never treated as a low score."""

    fault: Fault


Answer: TypeAlias = Scored | Unscored


@dataclass(frozen=True, slots=True)
class Utterance:
    """The input of a model for one segment: audio, transcript, declared language."""

    audio: Waveform
    text: str
    language: str | None
    requested_models: tuple[str, ...] | None = None
    """Names of the models that must score the segment; None means all models of the suite."""

    @property
    def duration_s(self) -> Seconds:
        return len(self.audio) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """A video that could not be validated, and whether a later attempt may succeed."""

    video_id: str
    error: str
    """One sentence for the ledger. The constructor replaces control characters by escapes (``plain_text``)."""
    transient: bool
    charged: bool = True
    """Whether the failure counts as an attempt of the video. A failure that does not count is always transient, and the
    video may be tried again without a limit."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", plain_text(self.error))


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """The facts about an uploaded shard that the ledger records."""

    key: str
    sha256: str
    size_bytes: int
    segments: int
    suite: str
    audio_s: Seconds | None = None
    """Total length of the decoded audio of all segments; None if it was not counted."""
    verdicts: Mapping[str, int] | None = None
    """Number of segments per verdict, with all three verdicts as keys; None if they were not counted."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Revision of each model that scored segments of the shard, by model name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an open chunk, which each renewal of its lease reports. The counts cover only this chunk."""

    current_video_id: str | None = None
    videos_validated: int = 0
    videos_failed: int = 0
    segments: int = 0
    segments_per_s: float = 0.0
    """Mean over the last ten videos."""
    last_error: str | None = None
    """The last error of the chunk, in the form of ``VideoFailure.error``; None if the chunk had no error."""

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
    """The time at which the credential expires, by this machine's clock; None if it does not expire."""


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """The properties of a worker that the table ``worker_validators`` records."""

    worker_id: str
    gpu_type: str | None = None
    gpu_vram_gb: float | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    """What else the worker reports, as JSON: its instance id, its budgets and its GPUs."""
    prefect_worker: str | None = None
    """The name of the worker in Prefect; None outside of Prefect."""
