from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

import blocks.control
from validation.ledger.engine import open_engine


@pytest.fixture
def prefect(prefect_server) -> Iterator:
    """The session's server, which blocks of this process are kept on."""
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def control(box) -> Iterator:
    """Open the control plane's services anew; what was opened is closed."""

    def open_anew():
        blocks.control.open_control_services.cache_clear()
        return blocks.control.open_control_services()

    yield open_anew
    open_engine(box.environment["DATABASE_URL"]).dispose()
    blocks.control.open_control_services.cache_clear()
