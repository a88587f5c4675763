"""Generate canaries: probes packed as videos that look like the other videos of the queue."""

import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.canaries.probes import Probe
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import Video
from validation.errors import BadInput
from validation.languages import normalize_language_code
from validation.ledger.canaries import KnownAnswer, insert_canaries, sample_videos
from validation.ledger.queries import read_view
from validation.ledger.seed import seed_videos
from validation.storage.errors import ObjectExists
from validation.storage.store import put_once

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
