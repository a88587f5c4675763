"""From a decoded video and the models' answers to the rows of its shard."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from validation.domain import Answer, Column, DecodedSegment, DecodedVideo, Scalar, Seconds, Utterance
from validation.languages import normalize_language_code
from validation.scoring.signals import SuiteRoles, segment_signals
from validation.scoring.verdict import Rules

Row: TypeAlias = dict[str, Scalar | list[str]]
"""One segment as the shard keeps it, by column name."""


class Scoring(Protocol):
    """Utterances on their way through the models."""

    def wait(self, timeout_s: Seconds | None = None) -> bool:
        """Wait until nothing more will be answered, or until time is over; whether nothing more will.

        Raises:
            Transient: the models could not answer; begin again.
        """
        ...

    def answers(self) -> Sequence[Mapping[str, Answer] | None]:
        """What has been answered so far, by model name, in the order of the utterances; None for what has not."""
        ...

    def withdraw(self) -> None:
        """Do without what has not been answered."""
        ...


class Scorer(Protocol):
    """A suite of models, wherever it runs: in this process or in the model host."""

    name: str
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]

    def begin(self, utterances: Sequence[Utterance]) -> Scoring:
        """Ask every model about every utterance, without waiting. Safe from any thread."""
        ...


def build_rows(decoded: DecodedVideo, answers: Iterator[Mapping[str, Answer]], scorer: Scorer) -> list[Row]:
    """Make the rows of one video, drawing one set of answers for each segment that has audio."""
    return [
        _build_row(index, segment, next(answers) if segment.utterance is not None else {}, scorer)
        for index, segment in enumerate(decoded.segments)
    ]


def _build_row(index: int, decoded: DecodedSegment, answers: Mapping[str, Answer], scorer: Scorer) -> Row:
    segment = decoded.segment
    signals = segment_signals(decoded, answers, language=normalize_language_code(segment.language), roles=scorer.roles)
    verdict = scorer.rules.evaluate(signals)
    return {
        "video_id": segment.video_id,
        "segment_index": index,
        "segment": segment.name,
        "language": segment.language,
        "text": segment.text,
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "speaker": segment.speaker,
        **signals,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
    }
