"""Generate canaries: videos that are made of probes and look like the other videos of the queue.

A probe is a segment made from a trusted clip, with its known answer. Correct boxes give slightly different numbers, so
their verdicts may differ if a number is near a limit. Only probes with stable answers are used. An answer is stable if
every model that ran has answered, every number is further from the limits of the rules and of the cascade than its
tolerance, and noise at the level of half-precision rounding changes neither the verdict nor a number beyond its
tolerance.
"""

import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.calibration.fault_injection import ClipVariant, inject_faults
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
from validation.storage.store import put_if_absent

FAULTS = ("swapped transcript", "wrong language")
"""The faults of probes. They do not change the audio, because answers for noisy or cut speech differ between boxes."""
NOISE_SCALE = 1e-3
"""RMS level of the added noise relative to the speech. Half precision has about three significant digits."""
_FROM_TAR = frozenset({"segment_index", "start_s", "end_s"})
"""Numeric columns that are read from the tar. They are not compared."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A segment made from a trusted clip, with its known answer."""

    clip: str
    """Name of the trusted clip."""
    flac: bytes
    """The audio as a FLAC file."""
    duration_s: Seconds
    text: str
    language: str
    """The declared language."""
    answer: KnownAnswer


def make_variants(clips: Sequence[TrustedClip]) -> list[ClipVariant]:
    """Make the sound and the faulty segments of clips that ``make_probes`` tries."""
    return inject_faults(clips, FAULTS)


def make_probes(suite: Suite | InferenceClient, variants: Sequence[ClipVariant]) -> list[Probe]:
    """Score segments, and return those with a stable answer.

    Each segment is scored twice: as it is, and with noise added.
    """
    columns = [column for column in shard_columns(suite.columns) if column.type in {"float", "int"}]
    units = {column.name: column.unit for column in columns if column.name not in _FROM_TAR}
    recorded = [encode_audio(each.audio) for each in variants]
    plain = _score_variants(suite, variants, [decode_audio(flac) for flac in recorded])
    perturbed = _score_variants(suite, variants, [_perturb(decode_audio(flac)) for flac in recorded])
    return [
        Probe(each.original, flac, len(each.audio) / SAMPLE_RATE, each.text, each.language, _known_answer(row, units))
        for each, flac, row, other in zip(variants, recorded, plain, perturbed, strict=True)
        if is_stable(row, other, list_conditions(suite), units)
    ]


def list_conditions(suite: Scorer) -> list[Condition]:
    """List the conditions of the suite's rules and the bounds of its cascade."""
    cascade = find_cascade(suite.name)
    return [each for rule in suite.rules.effective for each in rule.when] + list(cascade.bounds if cascade else ())


def is_stable(row: Row, perturbed: Row, conditions: Sequence[Condition], units: Units) -> bool:
    """Return whether an answer is stable, as the module defines it.

    ``perturbed`` is the answer for the same audio with noise.
    """
    if find_failure(row):
        return False
    if row["verdict"] != perturbed["verdict"] or find_deviation(_known_answer(row, units), perturbed, units):
        return False
    return not any(_is_near_limit(condition, row, units) for condition in conditions)


def _is_near_limit(condition: Condition, row: Row, units: Units) -> bool:
    """Return whether a change of the signal by its tolerance (``tolerance_for``) changes the condition."""
    value = row.get(condition.column)
    if condition.value is None or condition.column not in units or not isinstance(value, int | float):
        return False
    tolerance = tolerance_for(condition.column, value, units[condition.column])
    steps, language = (-tolerance, 0.0, tolerance), str(row.get(LANGUAGE))
    return len({condition.holds({LANGUAGE: language, condition.column: value + step}) for step in steps}) > 1


_NOT_EXPECTED = {"length_difference_s", "margin"}
"""Numeric columns without a known answer: the first depends on the metadata of the tar, the second on other numbers."""


def _known_answer(row: Row, units: Mapping[str, str]) -> KnownAnswer:
    """Return the verdict and the numbers of a row. ``units`` has the columns whose numbers are compared."""
    numbers = {name: row.get(name) for name in units if name not in _NOT_EXPECTED}
    return KnownAnswer(str(row["verdict"]), {n: v if isinstance(v, int | float) else None for n, v in numbers.items()})


def _score_variants(
    suite: Suite | InferenceClient, variants: Sequence[ClipVariant], evaluated: Sequence[Waveform]
) -> list[Row]:
    """Score the variants, with ``evaluated`` as their audio, and return the rows that a chunk would write for them."""
    segments = tuple(
        DecodedSegment(Segment("probe", f"{place:06d}", each.text, each.language), audio)
        for place, (each, audio) in enumerate(zip(variants, evaluated, strict=True))
    )
    known = suite.roles.known_languages
    answers = suite.score([heard for segment in segments if (heard := segment.utterance_for(known)) is not None])
    return build_rows(DecodedVideo(Video("probe", None, None), segments, 0, "pairs"), iter(answers), suite)


def _perturb(audio: Waveform) -> Waveform:
    """Add white noise with a level of ``NOISE_SCALE`` of the audio's level. Equal audio gets equal noise."""
    rng = np.random.default_rng(crc32(audio.tobytes()))
    level = NOISE_SCALE * float(np.sqrt(np.mean(audio**2)))
    perturbed: Waveform = (audio + level * rng.standard_normal(len(audio))).astype(np.float32)
    return perturbed


MAX_ID_DRAWS = 100
"""Maximum number of random ids that are tried per template. If ids are short, every id of a pattern may be taken."""
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
"""The kinds of characters in a video id. Characters of no kind are copied from the template."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A video with known answers."""

    video: Video
    tar: bytes
    answers: tuple[KnownAnswer, ...]
    """One known answer per segment, in order."""


def draw_templates(engine: Engine, probes: Sequence[Probe], count: int, rng: np.random.Generator) -> list[Video]:
    """Draw ``count`` transcribed videos of the queue, without canaries, as templates in the languages of the probes.

    If the queue has fewer such videos, some are used more than once.

    Raises:
        BadInput: the queue has no video in these languages. A canary in a language of its own could be recognised.
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
    """Make a canary like each template, with the same language and an id of the same pattern.

    A canary has as many segments as its template, or fewer if the clips do not suffice: a clip occurs only once per
    canary, sound or with a fault. A canary of a template without a segment count has all clips of its language. Clips
    are drawn anew for each canary. A template is skipped if ``_draw_id`` finds no id for it.
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
    """Register canaries in the ledger, upload their tars, then add them to the queue. Return the added videos.

    A canary is left out if the queue or the ledger has its id already, or if its tar's key exists. No canary is claimed
    before its answers are registered. If the function is interrupted, only unused answers and tars remain.

    Args:
        engine: the ledger, with a login that may seed videos.
        source: the object store that holds the tars of videos.
        canaries: the canaries to add.
        source_key: the template of a tar's key, with the placeholder ``{video_id}``.
        suite: the suite that gave the answers.
        models: the revisions of the suite's models.
        basis: other versions on which the answers depend (``results_basis``).
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
    """Upload the tar. Return False if the key exists: that object belongs to another video and is kept."""
    try:
        put_if_absent(source, key, canary.tar)
    except ObjectExists:
        return False
    return True


def _draw_id(like: str, letters: Mapping[str, Sequence[str]], taken: set[str], rng: np.random.Generator) -> str | None:
    """Draw an id with lower-case letters, capitals and digits at the same positions as in ``like``.

    The id is not in ``taken``; the queue is not asked. Only characters that occur in the templates' ids are used.
    Return None after ``MAX_ID_DRAWS`` ids that are taken.
    """
    pools = [next((letters[kind] for kind in _KINDS if char in kind), [char]) for char in like]
    for _ in range(MAX_ID_DRAWS):
        drawn = "".join(pool[int(rng.integers(len(pool)))] for pool in pools)
        if drawn not in taken:
            return drawn
    return None


def _concatenate(probes: Sequence[Probe]) -> Iterator[PackedSegment]:
    """Yield the probes as segments whose times follow each other with pauses of half a second."""
    at_s = 0.0
    for probe in probes:
        ends_s = at_s + probe.duration_s
        yield PackedSegment(probe.flac, probe.text, start_s=round(at_s, 2), end_s=round(ends_s, 2))
        at_s = ends_s + 0.5
