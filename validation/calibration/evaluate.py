"""Run a suite on variants of clips and compute the signals of each, as a shard would hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from validation.calibration.fault_injection import FaultyClip
from validation.domain import Answer, Column, ColumnType, DecodedSegment, Scalar, Segment, Utterance
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles, segment_signals


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
