"""Probes: segments made of trusted clips, with what it is right to say of them. Canaries are made of them.

A machine's answers may differ a little from another's, and an answer that hangs by a hair may fall to either side. So
nothing is asked that hangs: a probe has an answer of every model that is asked, no number of it is nearer to a limit of
the rules or a bound of the cascade than honest machines differ, and the answer stays when the audio is shaken by as
much as half precision rounds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from validation.calibration.fault_injection import SOUND, FaultyClip, inject_faults
from validation.calibration.trusted_clips import TrustedClip
from validation.canaries.evaluate import Units, find_deviation, find_failure
from validation.canaries.tolerance import tolerance_for
from validation.corpus.audio import decode_audio
from validation.corpus.pack import encode_audio
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Seconds, Segment, Video, Waveform
from validation.inference.client import InferenceClient
from validation.ledger.canaries import KnownAnswer
from validation.models.base import Scorer
from validation.models.rows import Row, build_rows
from validation.models.suite import Suite, find_cascade
from validation.scoring.verdict import Condition
from validation.shards.schema import shard_columns

FAULTS = ("swapped transcript", "wrong language")
"""Faults that leave the speech clear: what is heard in noise or in half a sentence, each machine guesses anew."""
SHAKE = 1e-3
"""Of the speech's level: half precision keeps three digits."""
_PLACES = frozenset({"segment_index", "start_s", "end_s"})
"""Numbers that the tar says, and no model."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A segment to ask about, and the right answer."""

    clip: str
    flac: bytes
    duration_s: Seconds
    text: str
    language: str
    """The declared one."""
    answer: KnownAnswer


def make_probes(suite: Suite | InferenceClient, clips: Sequence[TrustedClip]) -> list[Probe]:
    """Make sound and faulty segments of the clips and ask the suite, twice each. Those whose answers stand are left."""
    columns = [column for column in shard_columns(suite.columns) if column.type in {"float", "int"}]
    units = {column.name: column.unit for column in columns if column.name not in _PLACES}
    specimens = [each for each in inject_faults(clips) if each.fault in {SOUND, *FAULTS}]
    recorded = [encode_audio(each.audio) for each in specimens]
    calm = _hear(suite, specimens, [decode_audio(flac) for flac in recorded])
    shaken = _hear(suite, specimens, [_shake(decode_audio(flac)) for flac in recorded])
    return [
        Probe(each.clip, flac, len(each.audio) / SAMPLE_RATE, each.text, each.language, _know(row, units))
        for each, flac, row, other in zip(specimens, recorded, calm, shaken, strict=True)
        if is_stable(row, other, list_conditions(suite), units)
    ]


def list_conditions(suite: Scorer) -> list[Condition]:
    """List what a number decides: which rules fire, and who is spared."""
    cascade = find_cascade(suite.name)
    return [each for rule in suite.rules.effective for each in rule.when] + list(cascade.bounds if cascade else ())


def is_stable(row: Row, shaken: Row, conditions: Sequence[Condition], units: Units) -> bool:
    """Whether an answer is whole, hangs at no limit, and is the same of shaken audio."""
    if find_failure(row):
        return False
    if row["verdict"] != shaken["verdict"] or find_deviation(_know(row, units), shaken, units):
        return False
    return not any(_hangs(condition, row, units) for condition in conditions)


def _hangs(condition: Condition, row: Row, units: Units) -> bool:
    """Whether an honest machine could find the condition met where another does not."""
    value = row.get(condition.column)
    if condition.value is None or condition.column not in units or not isinstance(value, int | float):
        return False
    reach = tolerance_for(condition.column, value, units[condition.column])
    return len({condition.holds({condition.column: value + step}) for step in (-reach, 0.0, reach)}) > 1


def _know(row: Row, units: Mapping[str, str]) -> KnownAnswer:
    numbers = {name: row.get(name) for name in units}
    return KnownAnswer(str(row["verdict"]), {n: v if isinstance(v, int | float) else None for n, v in numbers.items()})


def _hear(suite: Suite | InferenceClient, specimens: Sequence[FaultyClip], heard: Sequence[Waveform]) -> list[Row]:
    """The rows that a chunk would write."""
    segments = tuple(
        DecodedSegment(Segment("probe", f"{place:06d}", each.text, each.language), audio)
        for place, (each, audio) in enumerate(zip(specimens, heard, strict=True))
    )
    answers = suite.score([asked for segment in segments if (asked := segment.utterance) is not None])
    return build_rows(DecodedVideo(Video("probe", None, None), segments, 0, "pairs"), iter(answers), suite)


def _shake(audio: Waveform) -> Waveform:
    draw = np.random.default_rng(crc32(audio.tobytes()))
    level = SHAKE * float(np.sqrt(np.mean(audio**2)))
    shaken: Waveform = (audio + level * draw.standard_normal(len(audio))).astype(np.float32)
    return shaken
