"""The interface to a suite of models in this process or in the inference server, and the rows of a shard.

A scorer can be restricted to some models of its suite, for videos whose other answers are in an earlier shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from validation.domain import Answer, Column, DecodedSegment, DecodedVideo, Scalar, Seconds, Utterance
from validation.languages import normalize_language_code
from validation.scoring.signals import SuiteRoles, segment_signals
from validation.scoring.verdict import Condition, Rule, Rules


class ScoringJob(Protocol):
    """A job of a scorer: the submitted utterances, and the answers that have arrived so far."""

    def wait(self, timeout_s: Seconds | None = None) -> bool:
        """Wait until the job has ended, at most ``timeout_s`` (None sets no limit); return whether it has ended.

        Raises:
            Transient: the models could not answer. The caller may submit the same utterances again.
            Permanent: the inference server rejects this client, so a repetition would fail too.
        """
        ...

    def answers(self) -> Sequence[Mapping[str, Answer] | None]:
        """Return, for each utterance in order, its answers by model name; None for an utterance without answers yet."""
        ...

    def cancel(self) -> None:
        """End the job without answers to the utterances that have no answers yet."""
        ...


class Scorer(Protocol):
    """A suite of models, either in this process or in the inference server."""

    name: str
    """The name of the suite."""
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    """The revision of each model, by model name."""
    columns: Mapping[str, Sequence[Column]]
    """The columns of each model, by model name, in the order of a shard."""

    def begin(self, utterances: Sequence[Utterance]) -> ScoringJob:
        """Return, at once, a job that scores utterances, each with the models that it requests.

        The models may work in the background, or only while ``ScoringJob.wait`` runs. Any thread may call this method.
        """
        ...


class SyncScorerMixin:
    """A mixin for scorers whose models run in the caller's thread."""

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Score utterances; return one mapping from model name to answer per utterance, in order.

        The mapping has one answer per requested model.
        """
        raise NotImplementedError

    def begin(self, utterances: Sequence[Utterance]) -> "SyncScoringJob":
        """Return a job whose ``wait`` scores the utterances."""
        return SyncScoringJob(self, utterances)


class SyncScoringJob:
    """A scoring job that scores inside ``wait``. ``wait`` ignores its timeout and returns with all answers."""

    def __init__(self, scorer: SyncScorerMixin, utterances: Sequence[Utterance]) -> None:
        self._scorer, self._utterances = scorer, utterances
        self._answers: list[dict[str, Answer] | None] = [None] * len(utterances)
        self._has_ended = not utterances

    def wait(self, timeout_s: Seconds | None = None) -> bool:  # noqa: ARG002 - the caller's thread does the work
        if not self._has_ended:
            self._answers = [*self._scorer.score(self._utterances)]
            self._has_ended = True
        return True

    def answers(self) -> list[dict[str, Answer] | None]:
        return self._answers

    def cancel(self) -> None:
        self._has_ended = True


Row: TypeAlias = dict[str, Scalar | list[str]]
"""One row of a shard: the values of one segment, by column name."""


def build_rows(decoded: DecodedVideo, answers: Iterator[Mapping[str, Answer]], scorer: Scorer) -> list[Row]:
    """Build one row per segment of a video.

    Args:
        decoded: the video with the audio of its segments.
        answers: one mapping from model name to answer per segment that the models scored, in the order of the segments.
            The models score a segment if ``DecodedSegment.utterance_for`` returns an utterance.
        scorer: the suite that gave the answers. Its roles determine the signals, and its rules the verdict.
    """
    known = scorer.roles.known_languages
    return [
        _build_row(index, segment, next(answers) if segment.utterance_for(known) is not None else {}, scorer)
        | {"layout": decoded.layout}
        for index, segment in enumerate(decoded.segments)
    ]


def _build_row(index: int, decoded: DecodedSegment, answers: Mapping[str, Answer], scorer: Scorer) -> Row:
    """Build the row of one segment, without ``layout``. ``index`` is the position of the segment in its video."""
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
        "audio_member": segment.audio_member,
        "audio_offset_s": decoded.audio_offset_s,
        **signals,
        "verdict": verdict.verdict,
        "margin": verdict.margin,
        "reasons": list(verdict.reasons),
    }


SUBSET_RULES = Rules(
    version="partial-1",
    required_models=(),
    rules=(
        Rule(
            reason="partial",
            verdict="review",
            when=(Condition(column="text_normalised", op="present"),),  # always true: this column is never null
            sentence="Only some models were asked; `vfleet select` judges it together with the others' answers.",
        ),
    ),
)
"""The rules for a shard with the answers of only some models of a suite. The rules of the suite do not fire on absent
columns, so they would accept segments that a model has not scored."""


@dataclass(slots=True)
class ModelSubsetScorer:
    """A scorer that uses only some models of a suite.

    Of the columns of models, its rows hold only those of the subset. Each verdict is ``review`` with the reason
    ``partial``.
    """

    whole: Scorer
    """The scorer of the whole suite."""
    name: str
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]

    def begin(self, utterances: Sequence[Utterance]) -> ScoringJob:
        """Return, at once, a job that scores utterances with the models of the subset."""
        wanted = tuple(self.columns)
        return self.whole.begin([replace(utterance, requested_models=wanted) for utterance in utterances])


def restrict_models(scorer: Scorer, requested: Sequence[str] | None) -> Scorer:
    """Return a scorer that uses only the requested models of a suite.

    Returns:
        ``scorer`` itself if ``requested`` is None, contains all models, or contains a model that the suite lacks.
    """
    if requested is None or not set(requested) < set(scorer.columns):
        return scorer
    roles = scorer.roles
    kept = tuple(model for model in scorer.columns if model in requested)
    return ModelSubsetScorer(
        whole=scorer,
        name=scorer.name,
        roles=SuiteRoles(
            kept,
            roles.asr_model if roles.asr_model in kept else None,
            tuple(model for model in roles.lid_models if model in kept),
            roles.known_languages,
        ),
        rules=SUBSET_RULES,
        revisions={model: scorer.revisions[model] for model in kept},
        columns={model: scorer.columns[model] for model in kept},
    )
