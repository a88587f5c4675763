"""Fixtures: a box with a ledger, two real buckets and a scorer without models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import pytest

from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Answer, Column, Scored, Utterance, Video
from validation.ledger.seed import seed_videos
from validation.models.scorer import SyncScorerMixin
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent
from validation.worker.chunk.context import ChunkContext


@dataclass
class PeakScorer(SyncScorerMixin):
    """A scorer that answers at once with the loudest sample. `before` is called before each call, and may raise."""

    name: str = "tiny"
    roles: SuiteRoles = field(default_factory=lambda: SuiteRoles(("ear",)))
    rules: Rules = field(default_factory=lambda: Rules(version="tiny-1", required_models=("ear",), rules=()))
    revisions: Mapping[str, str] = field(default_factory=lambda: {"ear": "1"})
    columns: Mapping[str, Sequence[Column]] = field(
        default_factory=lambda: {"ear": (Column("peak", "float", "ratio", "Loudest sample."),)}
    )
    before: Callable[[], None] = lambda: None
    scored: int = 0

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        self.before()
        self.scored += len(utterances)
        return [{"ear": Scored({"peak": float(np.abs(u.audio).max())})} for u in utterances]


@dataclass
class Box:
    """A worker `ann` with its ledger, stores and scorer."""

    context: ChunkContext
    scorer: PeakScorer
    environment: Mapping[str, str]
    engine: object

    def add_videos(self, *names: str, segments: int = 2, tar: bool | bytes = True, language: str | None = "hi") -> None:
        """Queue videos; upload for each a valid tar, the given bytes, or nothing."""
        videos = [Video(name, language, segments) for name in names]
        for video in videos:
            if tar is not False:
                payload = tar if isinstance(tar, bytes) else pack_tone(video, segments)
                put_if_absent(self.context.source, f"{video.video_id}.tar", payload)
        seed_videos(self.engine, videos)


def pack_tone(video: Video, segments: int) -> bytes:
    """A tar of segments of half a second of a tone."""
    tone = 0.1 * np.sin(np.arange(SAMPLE_RATE // 2, dtype=np.float32))
    return pack_video(video, [PackedSegment(tone, f"text {n}") for n in range(segments)])


@pytest.fixture
def box(connect, seed, object_store, monkeypatch) -> Box:
    """A box whose worker is `ann`; an empty queue; nothing uploaded. Its settings are also the environment's."""
    seed(0)
    buckets = {kind: f"{kind}-{uuid4().hex[:8]}" for kind in ("source", "results")}
    for bucket in buckets.values():
        object_store.create_bucket(bucket)
    engine = connect()
    environment = {
        **object_store.client_environment(),
        "DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "WORKER_ID": "ann",
        "VFLEET_SOURCE_URL": f"s3://{buckets['source']}",
        "VFLEET_RESULTS_URL": f"s3://{buckets['results']}",
        "VFLEET_GROUP_VIDEOS": "3",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings, scorer = Settings(), PeakScorer()
    context = ChunkContext(
        settings=settings,
        engine=engine,
        source=open_store(settings.source_url, settings),
        results=open_store(settings.results_url, settings),
        scorer=scorer,
        draining=lambda: False,
    )
    return Box(context, scorer, environment, engine)
