"""Store review decisions in an append-only file, and write trusted clips from the decisions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError

from validation.analysis.explore.audio import SourceAudio, encode_wav
from validation.errors import BadInput
from validation.files import write_atomically
from validation.languages import normalize_language_code

ReviewDecision: TypeAlias = Literal["accept", "reject"]
Key: TypeAlias = tuple[str, int]
"""Video id and segment index."""


@dataclass(frozen=True, slots=True)
class Review:
    """Review decision of a person on one segment."""

    video_id: str
    segment_index: int
    segment: str
    decision: ReviewDecision
    language: str | None = None
    text: str | None = None
    """Stored transcript at the time of the decision."""
    corrected_text: str | None = None
    """Correct transcript, if the stored transcript is wrong."""
    note: str = ""
    at: str = ""
    """UTC time of the decision in ISO 8601 format."""

    @property
    def trusted_text(self) -> str | None:
        """The corrected text, else the text of an accepted segment; None for a rejected segment without correction."""
        if self.corrected_text:
            return self.corrected_text
        return self.text if self.decision == "accept" else None


_JSON = TypeAdapter(Review)


class Reviews:
    """Review decisions in a JSON lines file. The last line of a segment replaces earlier lines of the segment."""

    def __init__(self, path: Path) -> None:
        """Read the decisions from the file, if the file exists.

        Raises:
            BadInput: the file cannot be read, or a line is not a decision. The message contains the line number.
        """
        self.path = path
        self._lock = Lock()
        self._latest: dict[Key, Review] = {}
        for review in _read(path):
            self._latest[review.video_id, review.segment_index] = review

    def add(self, review: Review) -> Review:
        """Append a decision with the current time, and return it. Raises ``BadInput`` if the file cannot be written."""
        dated = _JSON.validate_python(asdict(review) | {"at": datetime.now(UTC).isoformat(timespec="seconds")})
        line = json.dumps(asdict(dated), ensure_ascii=False) + "\n"
        with self._lock:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                raise BadInput(f"the decision is not kept: {self.path} cannot be written: {error.strerror}") from None
            self._latest[dated.video_id, dated.segment_index] = dated
        return dated

    def get(self, video_id: str, segment_index: int) -> Review | None:
        return self._latest.get((video_id, segment_index))

    def all(self) -> list[Review]:
        """Return the latest decision per segment, ordered by the first decision on the segment."""
        return list(self._latest.values())


def _read(path: Path) -> Iterator[Review]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _JSON.validate_json(line)
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]["msg"]
                raise BadInput(f"{path}, line {number} is no review decision: {problem}") from None


DECISIONS: tuple[ReviewDecision, ...] = get_args(ReviewDecision)


def write_trusted_clips(reviews: Sequence[Review], audio: SourceAudio, folder: Path) -> dict[str, str]:
    """Write a WAV file per segment whose correct text and language are known, and ``manifest.jsonl``.

    Args:
        reviews: the decisions. Only accepted segments and segments with a corrected text are used.
        audio: the reader of the source store.
        folder: the folder of the clips; created if missing.

    Returns:
        The reason per trusted segment (``VIDEO/INDEX``) that could not be written.

    Raises:
        BadInput: no decision has a trusted text, or the folder cannot be written.
    """
    trusted = [review for review in reviews if review.trusted_text]
    if not trusted:
        raise BadInput("no decision accepts a segment or corrects its text, so there is no trusted clip")
    left_out: dict[str, str] = {}
    entries = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, review in enumerate(sorted(trusted, key=lambda each: (each.video_id, each.segment_index))):
            samples = audio.read(review.video_id, review.segment)
            language = normalize_language_code(review.language) if review.language else None
            if isinstance(samples, str) or language is None:
                name = f"{review.video_id}/{review.segment_index}"
                left_out[name] = samples if isinstance(samples, str) else f"its language {review.language!r} is unknown"
                continue
            file = f"{number:06d}.wav"
            write_atomically(folder / file, encode_wav(samples))
            entries.append({"file": file, "text": review.trusted_text, "language": language, "video": review.video_id})
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        write_atomically(folder / "manifest.jsonl", "".join(lines))
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}") from None
    return left_out
