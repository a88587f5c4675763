"""The signals of every variant of a clip, and how well a signal, or the rules, separate faulty from sound clips.

Every figure has confidence bounds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.calibration.fault_injection import SOUND, FaultyClip
from validation.domain import Answer, Column, ColumnType, DecodedSegment, Scalar, Segment, Utterance
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles, segment_signals
from validation.scoring.verdict import Rules


class Scorer(Protocol):
    """What a suite must offer: its models' roles and a way to score."""

    roles: SuiteRoles

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]: ...


def describe_columns(models: Mapping[str, Sequence[Column]]) -> dict[str, ColumnType]:
    """The types of the signals that rules may read. ``models`` are the columns of a suite, by model."""
    own = {f"{model}_{column.name}": column.type for model, columns in models.items() for column in columns}
    faults = ["fault", *(f"{model}_fault" for model in models)]
    return {column.name: column.type for column in DERIVED_SIGNALS} | own | dict.fromkeys(faults, "str")


@dataclass(frozen=True, slots=True)
class EvaluatedClip:
    """A variant of a clip, and every signal that the suite's rules may read."""

    clip: FaultyClip
    signals: Mapping[str, Scalar]


def evaluate_clips(suite: Scorer, variants: Sequence[FaultyClip]) -> list[EvaluatedClip]:
    """Score every variant, in order."""
    decoded = [
        DecodedSegment(Segment("calibration", f"{s.original}/{s.variant}", s.text, s.language), s.audio)
        for s in variants
    ]
    answers = suite.score([Utterance(s.audio, s.text, s.language) for s in variants])
    return [
        EvaluatedClip(faulty, segment_signals(segment, found, language=faulty.language, roles=suite.roles))
        for faulty, segment, found in zip(variants, decoded, answers, strict=True)
    ]


AnomalyScores: TypeAlias = NDArray[np.float64]
"""(n,) one score per variant, higher for a more suspicious signal; -inf where the signal is missing."""
MAX_FALSE_POSITIVE_RATE = 0.01
"""The false-positive rate at which recall is measured."""
WITHOUT_RULE = {
    "edge_cer_start": ">",
    "edge_cer_end": ">",
    "_align_min": "<",
    "_align_frame": "<",
    "_greedy_lp": "<",
    "_sig": "<",
}
"""Endings of columns that are measured although no rule reads them, with their suspicious direction."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """A column and its suspicious direction."""

    column: str
    op: str
    """``<`` if low values are suspicious, ``>`` if high values are."""

    def __str__(self) -> str:
        return f"{self.column} {'low' if self.op == '<' else 'high'}"

    def anomaly_score(self, value: Scalar) -> float:
        """How suspicious a value is; -inf for a missing one, which counts as no alarm."""
        if value is None:
            return -np.inf
        return -float(value) if self.op == "<" else float(value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence bounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f} {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class IndicatorReport:
    """How well one indicator finds one fault."""

    fault: str
    indicator: Indicator
    count: int
    """Variants with the fault."""
    auc: Estimate
    """Probability that a faulty variant has a higher score than a sound one; 0.5 is chance."""
    recall: Estimate
    """Share of the faulty variants beyond the limit that 1 % of the sound ones exceed. The bounds take that limit as
    exact, although its false-positive rate is itself an estimate from so many clips."""


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """The verdicts of the rules on one kind of variant."""

    fault: str
    count: int
    rejected: Estimate
    not_accepted: Estimate
    """Rejected, or sent to review."""


def list_indicators(rules: Rules, columns: Iterable[str] = ()) -> list[Indicator]:
    """The columns that rules compare with a limit, each once, in the rules' order; then those of ``WITHOUT_RULE``."""
    indicators = [
        Indicator(condition.column, condition.op[0])
        for rule in rules.rules
        for condition in rule.when
        if condition.op in {"<", "<=", ">", ">="}
    ]
    without_rule = [
        Indicator(name, op) for name in columns for ending, op in WITHOUT_RULE.items() if name.endswith(ending)
    ]
    return list(dict.fromkeys([*indicators, *without_rule]))


def measure_indicators(evaluated: Sequence[EvaluatedClip], rules: Rules) -> Iterator[IndicatorReport]:
    """Measure every indicator on every fault."""
    columns = dict.fromkeys(name for each in evaluated for name in each.signals)
    for indicator in list_indicators(rules, columns):
        scores = np.array([indicator.anomaly_score(each.signals.get(indicator.column)) for each in evaluated])
        faults = np.array([each.clip.fault for each in evaluated])
        sound = scores[faults == SOUND]
        for fault in list_faults(evaluated):
            faulty, clips = scores[faults == fault], count_clips(evaluated, fault)
            auc = estimate(measure_auc(sound, faulty), clips)
            yield IndicatorReport(fault, indicator, len(faulty), auc, estimate(measure_recall(sound, faulty), clips))


def measure_verdicts(evaluated: Sequence[EvaluatedClip], rules: Rules) -> Iterator[VerdictReport]:
    """How often the rules reject, and do not accept, each kind of variant; the sound ones first."""
    for fault in (SOUND, *list_faults(evaluated)):
        verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == fault]
        clips, count = count_clips(evaluated, fault), len(verdicts)
        rejected = estimate(verdicts.count("reject") / count, clips)
        yield VerdictReport(fault, count, rejected, estimate((count - verdicts.count("accept")) / count, clips))


def list_faults(evaluated: Sequence[EvaluatedClip]) -> list[str]:
    return [fault for fault in dict.fromkeys(each.clip.fault for each in evaluated) if fault != SOUND]


def count_clips(evaluated: Sequence[EvaluatedClip], fault: str) -> int:
    """Number of original clips of the variants with a fault."""
    return len({each.clip.original for each in evaluated if each.clip.fault == fault})


def estimate(share: float, clips: int) -> Estimate:
    """Bound a share by Wilson's 95 % interval with the number of clips, not of variants.

    Variants of one clip are correlated. A share over variants varies at most as much as one over clips, and so does an
    AUC (Birnbaum and Klose 1957: its variance is at most A (1 - A) / n of the smaller group), so the bounds are rather
    too wide.
    """
    z2 = 1.96**2
    center = (share + z2 / (2 * clips)) / (1 + z2 / clips)
    half_width = 1.96 / (1 + z2 / clips) * (share * (1 - share) / clips + z2 / (4 * clips**2)) ** 0.5
    return Estimate(share, max(0.0, center - half_width), min(1.0, center + half_width))


def measure_auc(sound: AnomalyScores, faulty: AnomalyScores) -> float:
    """Area under the ROC curve: how often a faulty variant has the higher score of two; ties count half."""
    ordered = np.sort(sound)
    below, up_to = (np.searchsorted(ordered, faulty, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(sound)))


def measure_recall(
    sound: AnomalyScores, faulty: AnomalyScores, false_positive_rate: float = MAX_FALSE_POSITIVE_RATE
) -> float:
    """Share of the faulty scores beyond the limit that at most ``false_positive_rate`` of the sound scores exceed."""
    limit = np.sort(sound)[::-1][int(false_positive_rate * len(sound))]
    return float((faulty > limit).mean())
