"""Report the verdicts of the rules on injected faults, by language and by group of clips, as JSON and as tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from validation.calibration.fault_injection import SOUND
from validation.calibration.metrics import (
    AnomalyScores,
    Estimate,
    EvaluatedClip,
    list_faults,
    measure_auc,
    measure_indicators,
    measure_verdicts,
)
from validation.scoring.verdict import Rules

SET_ON_CLIPS = frozenset(
    {
        "en_librivox_0920", "en_librivox_0930", "es_pangrama", "fr_bonjour_monde", "ja_kazoeru", "ja_konnichiwa_sekai",
        "ja_pangrama",
    }
)  # fmt: skip
"""The clips of natural speech that were used to choose limits. All other natural clips are held out."""
SET_ON_LANGUAGES = frozenset({"bn", "en", "fr", "kn", "ml", "mr", "pa", "ur"})
"""The languages whose synthetic speech was used to choose limits. The synthetic speech of others is held out."""
INDIC = frozenset({"as", "bn", "gu", "hi", "kn", "ml", "mr", "ne", "or", "pa", "sd", "ta", "te", "ur"})
"""Languages of the corpus for which espeak-ng has a voice."""


@dataclass(frozen=True, slots=True)
class Group:
    """A named group of evaluated variants. It is false if it has no sound variant."""

    name: str
    evaluated: Sequence[EvaluatedClip]

    def __bool__(self) -> bool:
        return any(each.clip.fault == SOUND for each in self.evaluated)


def group_clips(evaluated: Sequence[EvaluatedClip]) -> list[Group]:
    """Group the variants: all, by kind of speech, by kind of language, and by whether limits were chosen on them.

    A variant is in several groups.
    """
    kinds: Mapping[str, Callable[[EvaluatedClip], bool]] = {
        "all": lambda _: True,
        "natural": lambda each: not each.clip.is_synthetic,
        "synthetic": lambda each: each.clip.is_synthetic,
        "Indic": lambda each: each.clip.spoken_language in INDIC,
        "other": lambda each: each.clip.spoken_language not in INDIC,
        "natural, set on": lambda each: not each.clip.is_synthetic and not _is_held_out(each),
        "natural, held out": lambda each: not each.clip.is_synthetic and _is_held_out(each),
        "synthetic, set on": lambda each: each.clip.is_synthetic and not _is_held_out(each),
        "synthetic, held out": lambda each: each.clip.is_synthetic and _is_held_out(each),
    }
    return [Group(name, [each for each in evaluated if belongs(each)]) for name, belongs in kinds.items()]


def _is_held_out(each: EvaluatedClip) -> bool:
    if each.clip.is_synthetic:
        return each.clip.spoken_language not in SET_ON_LANGUAGES
    return each.clip.original not in SET_ON_CLIPS


def group_languages(evaluated: Sequence[EvaluatedClip]) -> list[Group]:
    """Group the variants by their spoken language, which may differ from the declared language."""
    languages = sorted({each.clip.spoken_language for each in evaluated})
    return [Group(name, [each for each in evaluated if each.clip.spoken_language == name]) for name in languages]


def describe_group(group: Group, rules: Rules) -> dict[str, Any]:
    """Return, for the sound variants and for each fault of a group, the number of variants and the shares of verdicts.

    For faults, also return the AUC of the margin, which combines all rules, and the AUC of each indicator.
    """
    verdicts = {report.fault: report for report in measure_verdicts(group.evaluated, rules)}
    clean = verdicts[SOUND]
    aucs: dict[str, dict[str, float]] = {}
    for report in measure_indicators(group.evaluated, rules):
        aucs.setdefault(report.fault, {})[str(report.indicator)] = round(report.auc.value, 4)
    margins = {fault: _margins(group, rules, fault) for fault in (SOUND, *aucs)}
    return {
        "clips": len({each.clip.original for each in group.evaluated}),
        "clean": {
            "variants": clean.count,
            "rejected": _describe(clean.rejected),
            "not_accepted": _describe(clean.not_accepted),
        },
        "faults": {
            fault: {
                "planted": verdicts[fault].count,
                "rejected": _describe(verdicts[fault].rejected),
                "not_accepted": _describe(verdicts[fault].not_accepted),
                "margin_auc": round(measure_auc(margins[SOUND], margins[fault]), 4),
                "auc": dict(sorted(aucs[fault].items(), key=lambda item: -item[1])),
            }
            for fault in list_faults(group.evaluated)
        },
    }


def format_table(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: the sound variants first, then one line per fault.

    A cell is the share of variants that are not accepted in one group.
    """
    yield f"{'found':22}" + "".join(f"{name:>22}" for name in told)
    yield f"{'clips':22}" + "".join(f"{group['clips']:>22}" for group in told.values())
    for verdict in ("rejected", "not_accepted"):
        yield f"{'clean, ' + verdict:22}" + "".join(_cell(group["clean"][verdict]) for group in told.values())
    for fault in dict.fromkeys(fault for group in told.values() for fault in group["faults"]):
        cells = (group["faults"].get(fault) for group in told.values())
        yield f"{fault:22}" + "".join(f"{'':>22}" if cell is None else _cell(cell["not_accepted"]) for cell in cells)


def format_languages(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table with a row per language.

    A cell is the percentage of the sound variants or of a fault's variants that are not accepted, with its interval.
    """
    faults = list(dict.fromkeys(fault for group in told.values() for fault in group["faults"]))
    yield "| | clips | nothing | " + " | ".join(faults) + " |"
    yield "|---" * (3 + len(faults)) + "|"
    for name, group in told.items():
        cells = [group["clean"], *(group["faults"].get(fault) for fault in faults)]
        shares = ["" if cell is None else _percent(cell["not_accepted"]) for cell in cells]
        yield f"| {name} | {group['clips']} | " + " | ".join(shares) + " |"


def _margins(group: Group, rules: Rules, fault: str) -> AnomalyScores:
    return np.array([rules.margin(each.signals) for each in group.evaluated if each.clip.fault == fault])


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:.0f} [{100 * estimate['low']:.0f} {100 * estimate['high']:.0f}]"


def _describe(estimate: Estimate) -> dict[str, float]:
    return {name: round(getattr(estimate, name), 4) for name in ("value", "low", "high")}


def _cell(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f} {estimate['high']:.2f}]".rjust(22)
