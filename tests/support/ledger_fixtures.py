"""A migrated ledger per test, copied from a template."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from tests.support.ledger_helpers import engine_for
from validation.domain import Video, WorkerProfile
from validation.ledger.migrate import migrate
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker

_names = (f"ledger_{os.getpid()}_{n}" for n in itertools.count())


@pytest.fixture(scope="session")
def migrated_template(postgres) -> Iterator[str]:
    """A database at the newest migration."""
    name = next(_names)
    engine = engine_for(postgres.create_database(name))
    migrate(engine)
    engine.dispose()  # a template must have no connections
    yield name
    postgres.drop_database(name)


@pytest.fixture
def connect(postgres, migrated_template) -> Iterator[Callable[[], Engine]]:
    """Engines on one fresh ledger; each call is another client with connections of its own."""
    name = next(_names)
    url = postgres.create_database(name, template=migrated_template)
    opened: list[Engine] = []

    def open_one() -> Engine:
        opened.append(engine_for(url))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.dispose()
    postgres.drop_database(name)


@pytest.fixture
def ledger(connect) -> Engine:
    return connect()


@pytest.fixture
def seed(ledger) -> Callable[..., list[str]]:
    """Enter ``count`` transcribed videos, and the workers that tests use."""

    def enter(count: int, *, language: str = "hi", prefix: str = "v") -> list[str]:
        videos = [Video(f"{prefix}{n:04d}", language, 3) for n in range(count)]
        seed_videos(ledger, videos)
        for worker in ("ann", "bob"):
            register_worker(ledger, WorkerProfile(worker, config={"instance": f"{worker}-1"}))
        return [video.video_id for video in videos]

    return enter
