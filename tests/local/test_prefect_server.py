"""The embedded Prefect server answers, sends no telemetry, and has the production settings."""

import json
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import psycopg
import pytest

from validation.local.prefect_server import EmbeddedPrefect


def read_json(url):
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


def test_server_has_the_production_settings(prefect_server):
    """One start checks health, home, telemetry, batch sizes, and the UI's API address."""
    assert read_json(f"{prefect_server.api_url}/health") is True

    settings = read_json(f"{prefect_server.api_url}/admin/settings")
    services = settings["server"]["services"]
    assert Path(settings["home"]) == prefect_server.base_dir
    assert settings["server"]["analytics_enabled"] is False
    assert services["task_run_recorder"]["batch_size"] == 200
    assert services["task_run_recorder"]["read_batch_size"] == 200
    assert services["task_run_recorder"]["flush_interval"] == 1.0
    assert services["event_persister"]["batch_size"] == 200
    assert services["event_persister"]["read_batch_size"] == 200
    assert services["triggers"]["read_batch_size"] == 200

    assert read_json(f"{prefect_server.ui_url}/ui-settings")["api_url"] == prefect_server.api_url


@pytest.mark.slow
@pytest.mark.stack
def test_server_can_keep_its_history_in_postgres(postgres, open_folder):
    """The driver in the URL is replaced by the one that Prefect needs."""
    url = postgres.create_database("prefect")
    with EmbeddedPrefect(open_folder / "prefect", database_url=url) as server:
        assert read_json(f"{server.api_url}/health") is True
        assert not (server.base_dir / "prefect.db").exists()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    postgres.drop_database("prefect")
