"""deploy/prefect-server.env: Prefect knows its settings, and a server runs with them."""

import re

import pytest
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields

from validation.local.stack import SETTINGS_FILE, read_settings_file


def test_every_name_is_a_prefect_setting():
    """Prefect ignores unknown names without an error; names in comments are for copying, so they count."""
    named = set(re.findall(r"PREFECT_\w+", SETTINGS_FILE.read_text()))
    assert named - set(_get_settings_fields(Settings)) == set()


def test_every_setting_differs_from_the_default_and_has_a_reason():
    """Defaults are not repeated; a blank line and a comment begin each group."""
    fields = _get_settings_fields(Settings)
    bound = {"PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT"}  # written down because other files name them
    for name, value in read_settings_file(SETTINGS_FILE).items():
        assert name in bound or str(fields[name].value()) != value, name
    for group in SETTINGS_FILE.read_text().split("\n\n"):
        assert group.startswith("#")


@pytest.mark.stack
def test_server_runs_with_the_settings(gateway):
    """The server reports batches, leases that survive it, and retention."""
    server = gateway.as_operator("GET", "/admin/settings")["server"]
    assert server["services"]["event_persister"]["batch_size"] == 200
    assert server["concurrency"]["initial_deployment_lease_duration"] == 30
    assert server["concurrency"]["lease_storage"].endswith("filesystem")
    vacuum = server["services"]["db_vacuum"]
    assert set(vacuum["enabled"]) == {"events", "flow_runs"}
    assert vacuum["event_retention_overrides"] == {"prefect.flow-run.heartbeat": "PT1H"}
    assert server["api"]["auth_string"] == "**********"
