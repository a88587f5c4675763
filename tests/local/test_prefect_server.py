"""The embedded Prefect server answers, keeps to itself, and is tuned as measured."""

import json
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import psycopg
import pytest

from validation.local.prefect_server import EmbeddedPrefect


def read_json(url):
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


def test_the_server_answers_with_the_settings_that_we_rely_on(prefect_server):
    """One start serves every claim: health, a home of its own, no telemetry, batches, and pages that find the API."""
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
def test_the_server_keeps_its_history_in_postgres_when_told_to(postgres, open_folder):
    """The driver that a URL names is libpq's affair; Prefect is given its own."""
    url = postgres.create_database("prefect")
    with EmbeddedPrefect(open_folder / "prefect", database_url=url) as server:
        assert read_json(f"{server.api_url}/health") is True
        assert not (server.base_dir / "prefect.db").exists()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    postgres.drop_database("prefect")
