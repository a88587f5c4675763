"""From a decoded video and the answers of the models to the rows of its shard."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from validation.domain import Answer, DecodedSegment, DecodedVideo, Scalar
from validation.languages import normalize_language_code
from validation.models.scorer import Scorer
from validation.scoring.signals import segment_signals

Row: TypeAlias = dict[str, Scalar | list[str]]
"""One segment as the shard stores it, by column name."""


def build_rows(decoded: DecodedVideo, answers: Iterator[Mapping[str, Answer]], scorer: Scorer) -> list[Row]:
    """Build one row per segment of a video.

    Args:
        decoded: the video with the audio of its segments.
        answers: one set of answers, by model name, per segment that has audio, in the order of the segments.
        scorer: the suite that gave the answers; its roles and rules turn them into signals and a verdict.
    """
    known = scorer.roles.known_languages
    return [
        _build_row(index, segment, next(answers) if segment.utterance_for(known) is not None else {}, scorer)
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
        "margin": verdict.margin,
        "reasons": list(verdict.reasons),
    }
