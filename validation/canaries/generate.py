"""Canaries: probes packed as videos that look like any other of the queue."""

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
from validation.ledger.canaries import KnownAnswer, insert_canaries, sample_videos
from validation.ledger.queries import read_view
from validation.ledger.seed import seed_videos
from validation.models.languages import canonical
from validation.storage.errors import ObjectExists
from validation.storage.store import put_once

TRIES = 100
"""How often an id is drawn before its pattern is given up: a short one leaves no room."""
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


@dataclass(frozen=True, slots=True)
class Canary:
    """A video with known answers."""

    video: Video
    tar: bytes
    answers: tuple[KnownAnswer, ...]
    """One a segment, in order."""


def find_templates(engine: Engine, probes: Sequence[Probe], count: int, draw: np.random.Generator) -> list[Video]:
    """Draw videos of the queue for canaries to imitate, of languages that the probes speak; some twice if it is short.

    Raises:
        BadInput: there is none: a canary in a language that nobody else has would be known at sight.
    """
    spoken = {probe.language for probe in probes}
    spelled = [row["language"] for row in read_view(engine, "queue_progress")]
    drawn = sample_videos(engine, [code for code in spelled if canonical(code) in spoken], count)
    if not drawn:
        told = ", ".join(sorted(spoken)) or "none whose answers stand firm"
        raise BadInput(f"the queue holds no video to hide a canary among: the clips speak {told}")
    return drawn + [drawn[place] for place in draw.integers(len(drawn), size=count - len(drawn))]


def generate_canaries(models: Sequence[Video], probes: Sequence[Probe], draw: np.random.Generator) -> Iterator[Canary]:
    """Make a canary after each video: its language, an id of the same pattern, as many segments as there are clips for.

    A clip stands in a canary once, sound or with a fault, and no two canaries need have the same company.
    """
    clips: dict[str, dict[str, list[Probe]]] = defaultdict(lambda: defaultdict(list))
    for probe in probes:
        clips[probe.language][probe.clip].append(probe)
    letters = {kind: sorted({c for model in models for c in model.video_id} & set(kind)) for kind in _KINDS}
    taken = {model.video_id for model in models}
    for model in models:
        video_id = _draw_id(model.video_id, letters, taken, draw)
        if video_id is None:
            continue
        taken.add(video_id)
        kinds = list(clips[str(canonical(model.language))].values())
        order = draw.permutation(len(kinds))[: model.segment_count or None]
        chosen = [kinds[place][draw.integers(len(kinds[place]))] for place in order]
        video = replace(model, video_id=video_id, segment_count=len(chosen))
        yield Canary(video, pack_video(video, list(_place(chosen))), tuple(probe.answer for probe in chosen))


def add_to_queue(
    engine: Engine,
    source: ObjectStore,
    flock: Sequence[Canary],
    *,
    source_key: str,
    suite: str,
    models: Mapping[str, str],
    basis: Mapping[str, str],
) -> list[Video]:
    """Enter canaries as such, upload their tars, and last let them into the queue. Returns those that are in it.

    Ended anywhere, it leaves at most objects that nobody asks for: none is claimed before its answers are known.

    Args:
        engine: the ledger, by a login that may fill the queue.
        source: where the tars of videos are.
        flock: the canaries.
        source_key: a video's key in the source.
        suite: whose answers they are.
        models: by which revisions.
        basis: what they depend on beside these (``comparability_key``).
    """
    answers = {canary.video.video_id: canary.answers for canary in flock}
    entered = insert_canaries(engine, suite, models, answers, basis=basis)
    planted = [
        canary.video
        for canary in flock
        if canary.video.video_id in entered
        and _upload(source, source_key.format(video_id=canary.video.video_id), canary)
    ]
    seed_videos(engine, planted)
    return planted


def _upload(source: ObjectStore, key: str, canary: Canary) -> bool:
    """Whether the tar is there now. Another object of the name is somebody's, and left alone."""
    try:
        put_once(source, key, canary.tar)
    except ObjectExists:
        return False
    return True


def _draw_id(like: str, letters: Mapping[str, Sequence[str]], taken: set[str], draw: np.random.Generator) -> str | None:
    """An id with small letters, capitals and digits where ``like`` has them, of those that ids of the queue have."""
    pools = [next((letters[kind] for kind in _KINDS if char in kind), [char]) for char in like]
    for _ in range(TRIES):
        drawn = "".join(pool[int(draw.integers(len(pool)))] for pool in pools)
        if drawn not in taken:
            return drawn
    return None


def _place(probes: Sequence[Probe]) -> Iterator[PackedSegment]:
    """One after the other, a breath between them."""
    at_s = 0.0
    for probe in probes:
        ends_s = at_s + probe.duration_s
        yield PackedSegment(probe.flac, probe.text, start_s=round(at_s, 2), end_s=round(ends_s, 2))
        at_s = ends_s + 0.5
