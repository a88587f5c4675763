from pathlib import Path

import pytest

from tests.support.speech_samples import Clip, read_clips
from tests.support.tiny_indic import save_tiny_weights
from validation.domain import Answer
from validation.models.base import SegmentModel
from validation.models.suite import Suite, load_suite


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here that loads the real weights of the suite `local` the marker `speech`."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "suite" in fixtures and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("speech")


@pytest.fixture(scope="session")
def clips() -> dict[str, Clip]:
    return read_clips()


@pytest.fixture(scope="session")
def suite() -> Suite:
    return load_suite("local")


@pytest.fixture(scope="session")
def models(suite) -> dict[str, SegmentModel]:
    return {model.name: model for model in suite._models}


@pytest.fixture(scope="session")
def own_answers(suite, clips) -> dict[str, dict[str, Answer]]:
    """The answers of the whole suite to each unchanged clip, by clip and model."""
    return dict(zip(clips, suite.score([clip.utterance() for clip in clips.values()]), strict=True))


@pytest.fixture(scope="session")
def weights_root(tmp_path_factory):
    """The weights of a tiny `indic`, locked. Read only."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))
