"""Score the variants of trusted clips, and measure how well signals and rules separate faulty from sound variants.

Every share and every AUC has confidence bounds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.calibration.fault_injection import SOUND, ClipVariant
from validation.domain import Answer, Column, ColumnType, DecodedSegment, Scalar, Segment, Utterance
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles, segment_signals
from validation.scoring.verdict import Rules


class Scorer(Protocol):
    """The interface of a suite that the calibration needs: the roles of its models, and a method that scores."""

    roles: SuiteRoles

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]: ...


def signal_types(models: Mapping[str, Sequence[Column]]) -> dict[str, ColumnType]:
    """Return the type of each signal that rules may read in a calibration, by its column in a shard.

    They are the columns of ``EvaluatedClip.signals`` without ``language``. Trusted clips have no other columns.

    Args:
        models: the columns of each model of a suite, without the prefix of the model, by the model's name.
    """
    own = {f"{model}_{column.name}": column.type for model, columns in models.items() for column in columns}
    faults = ["fault", *(f"{model}_fault" for model in models)]
    return {column.name: column.type for column in DERIVED_SIGNALS} | own | dict.fromkeys(faults, "str")


@dataclass(frozen=True, slots=True)
class EvaluatedClip:
    """A variant of a clip with the signals that ``segment_signals`` computes, by column."""

    clip: ClipVariant
    signals: Mapping[str, Scalar]


def evaluate_clips(suite: Scorer, variants: Sequence[ClipVariant]) -> list[EvaluatedClip]:
    """Score the variants with a suite, and return the results in the order of the variants."""
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
"""(n,) anomaly scores, one per variant. A higher score is more suspicious; a missing signal gives -inf."""
MAX_FALSE_POSITIVE_RATE = 0.01
"""Share of the sound variants that may exceed the threshold at which recall is measured."""
WITHOUT_RULE = {
    "edge_cer_start": ">",
    "edge_cer_end": ">",
    "_align_min": "<",
    "_align_frame": "<",
    "_greedy_lp": "<",
    "_sig": "<",
}
"""Suffixes of columns that are measured even if no rule reads them. ``<`` means that low values are suspicious."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """A column, and whether its low or its high values are suspicious."""

    column: str
    op: str
    """``<`` if low values are suspicious, ``>`` if high values are."""

    def __str__(self) -> str:
        return f"{self.column} {'low' if self.op == '<' else 'high'}"

    def anomaly_score(self, value: Scalar) -> float:
        """Return the anomaly score of a value, higher for a more suspicious value; -inf for a missing value."""
        if value is None:
            return -np.inf
        return -float(value) if self.op == "<" else float(value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated share or AUC, with its 95 % confidence bounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f} {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class IndicatorReport:
    """The AUC and recall of one indicator for one fault."""

    fault: str
    indicator: Indicator
    count: int
    """Number of variants with the fault."""
    auc: Estimate
    """Probability that a faulty variant has a higher anomaly score than a sound variant; 0.5 is chance."""
    recall: Estimate
    """Share of the faulty variants above the threshold that at most 1 % of the sound variants exceed. The bounds ignore
    that the threshold itself is estimated from the sound variants."""


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """The verdicts of the rules on the variants with one fault, or on the sound variants."""

    fault: str
    count: int
    rejected: Estimate
    not_accepted: Estimate
    """Share of the variants that are rejected or sent to review."""


def list_indicators(rules: Rules, columns: Iterable[str] = ()) -> list[Indicator]:
    """List the columns that rules of the file compare with a limit, in their order, then those of ``WITHOUT_RULE``.

    An indicator is listed once. Of ``columns``, only those with a suffix of ``WITHOUT_RULE`` are added.
    """
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
    """Yield the AUC and the recall of every indicator for every fault."""
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
    """Yield the shares of rejected and of not accepted variants, first for the sound variants, then per fault."""
    for fault in (SOUND, *list_faults(evaluated)):
        verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == fault]
        clips, count = count_clips(evaluated, fault), len(verdicts)
        rejected = estimate(verdicts.count("reject") / count, clips)
        yield VerdictReport(fault, count, rejected, estimate((count - verdicts.count("accept")) / count, clips))


def list_faults(evaluated: Sequence[EvaluatedClip]) -> list[str]:
    """Return the faults of the variants, without ``SOUND``, in the order of their first variant."""
    return [fault for fault in dict.fromkeys(each.clip.fault for each in evaluated) if fault != SOUND]


def count_clips(evaluated: Sequence[EvaluatedClip], fault: str) -> int:
    """Count the original clips that have a variant with this fault."""
    return len({each.clip.original for each in evaluated if each.clip.fault == fault})


def estimate(share: float, clips: int) -> Estimate:
    """Return a share with Wilson's 95 % interval. The sample size is the number of clips, not of variants.

    Variants of one clip are correlated. The variance of a share over variants is at most that of a share over clips.
    The same holds for an AUC A: its variance is at most A (1 - A) / n, with n of the smaller group (Birnbaum and Klose
    1957). So the interval is conservative.
    """
    z2 = 1.96**2
    center = (share + z2 / (2 * clips)) / (1 + z2 / clips)
    half_width = 1.96 / (1 + z2 / clips) * (share * (1 - share) / clips + z2 / (4 * clips**2)) ** 0.5
    return Estimate(share, max(0.0, center - half_width), min(1.0, center + half_width))


def measure_auc(sound: AnomalyScores, faulty: AnomalyScores) -> float:
    """Return the area under the ROC curve: the probability that a faulty variant has a higher score than a sound one.

    Ties count one half.
    """
    ordered = np.sort(sound)
    below, up_to = (np.searchsorted(ordered, faulty, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(sound)))


def measure_recall(
    sound: AnomalyScores, faulty: AnomalyScores, false_positive_rate: float = MAX_FALSE_POSITIVE_RATE
) -> float:
    """Return the share of the faulty scores above a threshold.

    The threshold is the lowest sound score that at most ``false_positive_rate`` of the sound scores exceed.
    """
    limit = np.sort(sound)[::-1][int(false_positive_rate * len(sound))]
    return float((faulty > limit).mean())
