"""Probes: segments made of trusted clips, with their known answers. Canaries are made of probes.

Answers of correct boxes differ a little, so a borderline answer may differ in its verdict. Only stable answers are
used: every model that was run has answered, no number is closer to a limit of the rules or a bound of the cascade than
the tolerance, and the answer stays the same when noise at the level of half-precision rounding is added to the audio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from validation.calibration.fault_injection import FaultyClip, inject_faults
from validation.calibration.trusted_clips import TrustedClip
from validation.canaries.evaluate import Units, find_deviation, find_failure
from validation.canaries.tolerance import tolerance_for
from validation.corpus.audio import decode_audio
from validation.corpus.pack import encode_audio
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Seconds, Segment, Video, Waveform
from validation.inference.client import InferenceClient
from validation.ledger.canaries import KnownAnswer
from validation.models.rows import Row, build_rows
from validation.models.scorer import Scorer
from validation.models.suite import Suite
from validation.models.suites import find_cascade
from validation.scoring.verdict import LANGUAGE, Condition
from validation.shards.schema import shard_columns

FAULTS = ("swapped transcript", "wrong language")
"""Faults that leave the speech clear. Answers for noisy or cut speech differ between boxes."""
NOISE_SCALE = 1e-3
"""Level of the added noise relative to the speech: half precision keeps three digits."""
_FROM_TAR = frozenset({"segment_index", "start_s", "end_s"})
"""Numbers that come from the tar, not from a model."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A segment and its known answer."""

    clip: str
    flac: bytes
    duration_s: Seconds
    text: str
    language: str
    """The declared language."""
    answer: KnownAnswer


def make_probes(suite: Suite | InferenceClient, clips: Sequence[TrustedClip]) -> list[Probe]:
    """Make sound and faulty segments of the clips, score each twice, and keep those with a stable answer."""
    columns = [column for column in shard_columns(suite.columns) if column.type in {"float", "int"}]
    units = {column.name: column.unit for column in columns if column.name not in _FROM_TAR}
    variants = inject_faults(clips, FAULTS)
    recorded = [encode_audio(each.audio) for each in variants]
    plain = _run(suite, variants, [decode_audio(flac) for flac in recorded])
    perturbed = _run(suite, variants, [_perturb(decode_audio(flac)) for flac in recorded])
    return [
        Probe(each.original, flac, len(each.audio) / SAMPLE_RATE, each.text, each.language, _expected(row, units))
        for each, flac, row, other in zip(variants, recorded, plain, perturbed, strict=True)
        if is_stable(row, other, list_conditions(suite), units)
    ]


def list_conditions(suite: Scorer) -> list[Condition]:
    """The conditions on numbers: those of the rules, and the bounds of the cascade."""
    cascade = find_cascade(suite.name)
    return [each for rule in suite.rules.effective for each in rule.when] + list(cascade.bounds if cascade else ())


def is_stable(row: Row, perturbed: Row, conditions: Sequence[Condition], units: Units) -> bool:
    """Whether an answer is complete, not near a threshold, and the same for perturbed audio."""
    if find_failure(row):
        return False
    if row["verdict"] != perturbed["verdict"] or find_deviation(_expected(row, units), perturbed, units):
        return False
    return not any(_near_threshold(condition, row, units) for condition in conditions)


def _near_threshold(condition: Condition, row: Row, units: Units) -> bool:
    """Whether two correct boxes may disagree about the condition."""
    value = row.get(condition.column)
    if condition.value is None or condition.column not in units or not isinstance(value, int | float):
        return False
    tolerance = tolerance_for(condition.column, value, units[condition.column])
    steps, language = (-tolerance, 0.0, tolerance), str(row.get(LANGUAGE))
    return len({condition.holds({LANGUAGE: language, condition.column: value + step}) for step in steps}) > 1


_NOT_EXPECTED = {"length_difference_s", "margin"}
"""Columns of which a canary expects no value: one depends on the tar's records, the other is the verdict's."""


def _expected(row: Row, units: Mapping[str, str]) -> KnownAnswer:
    numbers = {name: row.get(name) for name in units if name not in _NOT_EXPECTED}
    return KnownAnswer(str(row["verdict"]), {n: v if isinstance(v, int | float) else None for n, v in numbers.items()})


def _run(suite: Suite | InferenceClient, variants: Sequence[FaultyClip], evaluated: Sequence[Waveform]) -> list[Row]:
    """The rows that a chunk would write for these segments."""
    segments = tuple(
        DecodedSegment(Segment("probe", f"{place:06d}", each.text, each.language), audio)
        for place, (each, audio) in enumerate(zip(variants, evaluated, strict=True))
    )
    known = suite.roles.known_languages
    answers = suite.score([heard for segment in segments if (heard := segment.utterance_for(known)) is not None])
    return build_rows(DecodedVideo(Video("probe", None, None), segments, 0, "pairs"), iter(answers), suite)


def _perturb(audio: Waveform) -> Waveform:
    rng = np.random.default_rng(crc32(audio.tobytes()))
    level = NOISE_SCALE * float(np.sqrt(np.mean(audio**2)))
    perturbed: Waveform = (audio + level * rng.standard_normal(len(audio))).astype(np.float32)
    return perturbed
