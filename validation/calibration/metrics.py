"""How well a signal, or the rules, tell a fault from sound clips. Every figure with what it may be by chance."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.calibration.evaluate import EvaluatedClip
from validation.calibration.fault_injection import SOUND
from validation.domain import Scalar
from validation.scoring.verdict import Rules

AnomalyScores: TypeAlias = NDArray[np.float64]
"""(n,) how suspicious a signal finds each specimen; -inf where it has nothing to say."""
ALARMS = 0.01
"""False alarms at which recall is told."""
WITHOUT_RULE = {
    "edge_cer_start": ">",
    "edge_cer_end": ">",
    "_align_min": "<",
    "_align_frame": "<",
    "_greedy_lp": "<",
    "_sig": "<",
}
"""Endings of columns that are measured though no rule may read them yet, and in which direction they are suspicious."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """A column, and the direction in which it is suspicious."""

    column: str
    op: str
    """``<`` if less is worse, ``>`` if more is."""

    def __str__(self) -> str:
        return f"{self.column} {'low' if self.op == '<' else 'high'}"

    def doubt(self, value: Scalar) -> float:
        """How suspicious a value is. No answer is no alarm."""
        if value is None:
            return -np.inf
        return -float(value) if self.op == "<" else float(value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the bounds between which it lies nineteen times in twenty."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f} {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class SignReport:
    """How well one sign finds one fault."""

    fault: str
    sign: Indicator
    specimens: int
    auc: Estimate
    """Chance that a faulty specimen is more suspicious than a sound one; one half is worth nothing."""
    recall: Estimate
    """Share of the faulty that is found where one sound specimen in a hundred is taken for faulty. The bounds take that
    limit as given; how many false alarms it truly means is as uncertain as any share of so many clips."""


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """What the rules say of one kind of specimen."""

    fault: str
    specimens: int
    rejected: Estimate
    doubted: Estimate
    """Rejected, or sent to review."""


def list_indicators(rules: Rules, columns: Iterable[str] = ()) -> list[Indicator]:
    """The signs that rules compare with a limit, each once, in their order; then those of ``WITHOUT_RULE``."""
    signs = [
        Indicator(condition.column, condition.op[0])
        for rule in rules.rules
        for condition in rule.when
        if condition.op in {"<", "<=", ">", ">="}
    ]
    unruled = [Indicator(name, op) for name in columns for ending, op in WITHOUT_RULE.items() if name.endswith(ending)]
    return list(dict.fromkeys([*signs, *unruled]))


def measure_signs(heard: Sequence[EvaluatedClip], rules: Rules) -> Iterator[SignReport]:
    """Measure every sign on every fault."""
    columns = dict.fromkeys(name for each in heard for name in each.signals)
    for sign in list_indicators(rules, columns):
        doubts = np.array([sign.doubt(each.signals.get(sign.column)) for each in heard])
        faults = np.array([each.specimen.fault for each in heard])
        sound = doubts[faults == SOUND]
        for fault in name_faults(heard):
            faulty, clips = doubts[faults == fault], count_clips(heard, fault)
            auc = estimate(measure_auc(sound, faulty), clips)
            yield SignReport(fault, sign, len(faulty), auc, estimate(measure_recall(sound, faulty), clips))


def measure_verdicts(heard: Sequence[EvaluatedClip], rules: Rules) -> Iterator[VerdictReport]:
    """Say how often the rules reject and doubt each kind of specimen, the sound ones first."""
    for fault in (SOUND, *name_faults(heard)):
        verdicts = [rules.evaluate(each.signals).verdict for each in heard if each.specimen.fault == fault]
        clips, count = count_clips(heard, fault), len(verdicts)
        rejected = estimate(verdicts.count("reject") / count, clips)
        yield VerdictReport(fault, count, rejected, estimate((count - verdicts.count("accept")) / count, clips))


def name_faults(heard: Sequence[EvaluatedClip]) -> list[str]:
    return [fault for fault in dict.fromkeys(each.specimen.fault for each in heard) if fault != SOUND]


def count_clips(heard: Sequence[EvaluatedClip], fault: str) -> int:
    """How many clips stand behind the specimens of a fault."""
    return len({each.specimen.clip for each in heard if each.specimen.fault == fault})


def estimate(share: float, clips: int) -> Estimate:
    """Bound a share by Wilson's interval at 95 %, counting clips and not specimens.

    Those of one clip stand or fall together. A share over specimens varies at most as one over clips does, and so does
    an AUC (Birnbaum and Klose 1957: its variance is at most A (1 - A) / n of the smaller group), so the bounds are
    rather too wide.
    """
    z2 = 1.96**2
    middle = (share + z2 / (2 * clips)) / (1 + z2 / clips)
    reach = 1.96 / (1 + z2 / clips) * (share * (1 - share) / clips + z2 / (4 * clips**2)) ** 0.5
    return Estimate(share, max(0.0, middle - reach), min(1.0, middle + reach))


def measure_auc(sound: AnomalyScores, faulty: AnomalyScores) -> float:
    """The area under the ROC curve: how often a faulty specimen is the more suspicious of two; ties count half."""
    ordered = np.sort(sound)
    below, up_to = (np.searchsorted(ordered, faulty, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(sound)))


def measure_recall(sound: AnomalyScores, faulty: AnomalyScores, alarms: float = ALARMS) -> float:
    """Share of the faulty beyond the limit that at most ``alarms`` of the sound pass; of few, none may pass."""
    limit = np.sort(sound)[::-1][int(alarms * len(sound))]
    return float((faulty > limit).mean())
