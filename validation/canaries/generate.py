"""Generate canaries: probes packed as videos that look like the other videos of the queue.

A probe is a segment made of a trusted clip, with its known answer. Answers of correct boxes differ a little, so a
borderline answer may differ in its verdict. Only stable answers are used: every model that was run has answered, no
number is closer to a limit of the rules or a bound of the cascade than the tolerance, and the answer stays the same
when noise at the level of half-precision rounding is added to the audio.
"""

import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.calibration.fault_injection import FaultyClip, inject_faults
from validation.calibration.trusted_clips import TrustedClip
from validation.canaries.evaluate import Units, find_deviation, find_failure, tolerance_for
from validation.corpus.audio import decode_audio
from validation.corpus.pack import PackedSegment, encode_audio, pack_video
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Seconds, Segment, Video, Waveform
from validation.errors import BadInput
from validation.inference.client import InferenceClient
from validation.languages import normalize_language_code
from validation.ledger.canaries import KnownAnswer, insert_canaries, sample_videos
from validation.ledger.queries import read_view
from validation.ledger.seed import seed_videos
from validation.models.scorer import Row, Scorer, build_rows
from validation.models.suite import Suite
from validation.models.suites import find_cascade
from validation.scoring.verdict import LANGUAGE, Condition
from validation.shards.schema import shard_columns
from validation.storage.errors import ObjectExists
from validation.storage.store import put_once

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


MAX_ID_DRAWS = 100
"""How often a free id of a pattern is drawn before the pattern is given up: short patterns may be full."""
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


@dataclass(frozen=True, slots=True)
class Canary:
    """A video with known answers."""

    video: Video
    tar: bytes
    answers: tuple[KnownAnswer, ...]
    """One per segment, in order."""


def find_templates(engine: Engine, probes: Sequence[Probe], count: int, rng: np.random.Generator) -> list[Video]:
    """Draw videos of the queue as templates, in languages of the probes; some twice if the queue is short.

    Raises:
        BadInput: there is none. A canary in a language that no other video has could be recognised.
    """
    languages = {probe.language for probe in probes}
    labels = [row["language"] for row in read_view(engine, "queue_progress")]
    drawn = sample_videos(engine, [code for code in labels if normalize_language_code(code) in languages], count)
    if not drawn:
        named = ", ".join(sorted(languages)) or "no language with a stable answer"
        raise BadInput(f"no canary can be hidden: the queue has no video in a language of the clips ({named})")
    return drawn + [drawn[place] for place in rng.integers(len(drawn), size=count - len(drawn))]


def generate_canaries(
    templates: Sequence[Video], probes: Sequence[Probe], rng: np.random.Generator
) -> Iterator[Canary]:
    """Make a canary like each template: its language, an id of the same pattern, as many segments as clips allow.

    A clip occurs once in a canary, sound or with a fault; clips are drawn anew for each canary.
    """
    clips: dict[str, dict[str, list[Probe]]] = defaultdict(lambda: defaultdict(list))
    for probe in probes:
        clips[probe.language][probe.clip].append(probe)
    letters = {kind: sorted({c for template in templates for c in template.video_id} & set(kind)) for kind in _KINDS}
    taken = {template.video_id for template in templates}
    for template in templates:
        video_id = _draw_id(template.video_id, letters, taken, rng)
        if video_id is None:
            continue
        taken.add(video_id)
        kinds = list(clips[str(normalize_language_code(template.language))].values())
        order = rng.permutation(len(kinds))[: template.segment_count or None]
        chosen = [kinds[place][rng.integers(len(kinds[place]))] for place in order]
        video = replace(template, video_id=video_id, segment_count=len(chosen))
        yield Canary(video, pack_video(video, list(_concatenate(chosen))), tuple(probe.answer for probe in chosen))


def add_to_queue(
    engine: Engine,
    source: ObjectStore,
    canaries: Sequence[Canary],
    *,
    source_key: str,
    suite: str,
    models: Mapping[str, str],
    basis: Mapping[str, str],
) -> list[Video]:
    """Register canaries, upload their tars, then enter them into the queue. Returns those that are in the queue.

    If it is interrupted, at most unused objects remain: no canary is claimed before its answers are registered.

    Args:
        engine: the ledger, with a login that may seed.
        source: where the tars of videos are.
        canaries: the canaries.
        source_key: a video's key in the source.
        suite: the suite that gave the answers.
        models: its model revisions.
        basis: what the answers depend on besides these (``comparability_key``).
    """
    answers = {canary.video.video_id: canary.answers for canary in canaries}
    entered = insert_canaries(engine, suite, models, answers, basis=basis)
    uploaded = [
        canary.video
        for canary in canaries
        if canary.video.video_id in entered
        and _upload(source, source_key.format(video_id=canary.video.video_id), canary)
    ]
    seed_videos(engine, uploaded)
    return uploaded


def _upload(source: ObjectStore, key: str, canary: Canary) -> bool:
    """Whether the tar was uploaded. An object that has the name already belongs to another video and stays."""
    try:
        put_once(source, key, canary.tar)
    except ObjectExists:
        return False
    return True


def _draw_id(like: str, letters: Mapping[str, Sequence[str]], taken: set[str], rng: np.random.Generator) -> str | None:
    """A free id with lower-case letters, capitals and digits where ``like`` has them, all found in ids of the queue."""
    pools = [next((letters[kind] for kind in _KINDS if char in kind), [char]) for char in like]
    for _ in range(MAX_ID_DRAWS):
        drawn = "".join(pool[int(rng.integers(len(pool)))] for pool in pools)
        if drawn not in taken:
            return drawn
    return None


def _concatenate(probes: Sequence[Probe]) -> Iterator[PackedSegment]:
    """The probes one after the other, with pauses of half a second."""
    at_s = 0.0
    for probe in probes:
        ends_s = at_s + probe.duration_s
        yield PackedSegment(probe.flac, probe.text, start_s=round(at_s, 2), end_s=round(ends_s, 2))
        at_s = ends_s + 0.5
