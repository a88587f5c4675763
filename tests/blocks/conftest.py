"""Fixtures: a Prefect server that stores blocks, and the services of the control plane."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

import blocks.control
from validation.ledger.engine import open_engine


@pytest.fixture
def prefect(prefect_server) -> Iterator:
    """A client of the session's Prefect server, which stores the blocks."""
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def control(box) -> Iterator:
    """Open the services of the control plane anew; they are closed at the end."""

    def open_anew():
        blocks.control.open_control_services.cache_clear()
        return blocks.control.open_control_services()

    yield open_anew
    open_engine(box.environment["DATABASE_URL"]).dispose()
    blocks.control.open_control_services.cache_clear()
