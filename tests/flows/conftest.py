"""Fixtures: flows that run in this process and report to a real Prefect server."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

import blocks.box
import blocks.control


@pytest.fixture
def prefect(prefect_server) -> Iterator:
    """A client of the session's Prefect server, to which flows of this process report."""
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def flow_box(box, monkeypatch) -> Iterator:
    """The box with the environment that a flow reads, and a scorer without models."""
    monkeypatch.setattr("validation.worker.chunk.open.load_suite", lambda _name: box.scorer)
    yield box
    for opened in (blocks.box.open_box_services, blocks.control.open_control_services):
        if opened.cache_info().currsize:
            opened().engine.dispose()
            opened.cache_clear()
