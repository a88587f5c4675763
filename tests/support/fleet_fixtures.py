"""A fake Vast without a socket, and a client of it."""

from collections.abc import Iterator

import pytest

from simulation.fake_vast.api import FakeVast
from tests.support.vast_helpers import client_of
from validation.vast.client import VastClient


@pytest.fixture
def fake() -> FakeVast:
    """As strict as the vendor about haste."""
    return FakeVast(strict=True)


@pytest.fixture
def client(fake) -> Iterator[VastClient]:
    with client_of(fake) as client:
        yield client
