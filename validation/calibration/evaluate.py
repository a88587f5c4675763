"""Put specimens to a suite: what it says of each, as the columns of a shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from validation.calibration.fault_injection import FaultyClip
from validation.domain import Answer, Column, ColumnType, DecodedSegment, Scalar, Segment, Utterance
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles, segment_signals


class Scorer(Protocol):
    """A suite."""

    roles: SuiteRoles

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]: ...


def describe_columns(models: Mapping[str, Sequence[Column]]) -> dict[str, ColumnType]:
    """The signals that rules may read of a trial, with their types; ``models`` are a suite's columns by model."""
    own = {f"{model}_{column.name}": column.type for model, columns in models.items() for column in columns}
    faults = ["fault", *(f"{model}_fault" for model in models)]
    return {column.name: column.type for column in DERIVED_SIGNALS} | own | dict.fromkeys(faults, "str")


@dataclass(frozen=True, slots=True)
class EvaluatedClip:
    """A specimen, and every signal that the suite's rules may read."""

    specimen: FaultyClip
    signals: Mapping[str, Scalar]


def evaluate_clips(suite: Scorer, specimens: Sequence[FaultyClip]) -> list[EvaluatedClip]:
    """Ask the suite about every specimen, in order."""
    decoded = [
        DecodedSegment(Segment("trial", f"{s.clip}/{s.variant}", s.text, s.language), s.audio) for s in specimens
    ]
    answers = suite.score([Utterance(s.audio, s.text, s.language) for s in specimens])
    return [
        EvaluatedClip(specimen, segment_signals(segment, said, language=specimen.language, roles=suite.roles))
        for specimen, segment, said in zip(specimens, decoded, answers, strict=True)
    ]
