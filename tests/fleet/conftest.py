"""A fake Vast without a socket, and a client of it."""

from collections.abc import Iterator

import pytest
from vast_steps import client_of

from validation.fleet.client import VastClient
from validation.local.fake_vast.api import FakeVast


@pytest.fixture
def fake() -> FakeVast:
    """As strict as the vendor about haste."""
    return FakeVast(strict=True)


@pytest.fixture
def client(fake) -> Iterator[VastClient]:
    with client_of(fake) as client:
        yield client
