"""Secrets are put wherever a box or its control plane reads one, and searched wherever anything is written."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import polars as pl
import psycopg
import pytest

from tests.support.ledger_helpers import execute, fetch, statuses
from tests.support.logins import PASSWORD as FIRST_PASSWORD
from tests.support.logins import login_url
from validation.domain import StoreCredential
from validation.ledger.boxes import issue_box_key, store_credential
from validation.local.prefect_client import PROJECT, PrefectClient, RetryingTransport
from validation.local.process import poll_until
from validation.local.stack import WorkerProcess
from validation.storage.store import get_bytes, list_keys

PLANTED = {
    "R2_ACCESS_KEY_ID": "planted-r2-id-4f1a",
    "R2_SECRET_ACCESS_KEY": "planted-r2-secret-9c2e",
    "R2_SESSION_TOKEN": "planted-r2-token-77d0",
    "VAST_API_KEY": "planted-vast-3b8f",
    "CLOUDFLARE_API_TOKEN": "planted-cloudflare-5e6a",
    "HF_TOKEN": "planted-hub-a1d4",
    "PREFECT_API_AUTH_STRING": "planted-user:planted-prefect-c0de",
    "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Box-Token": "planted-gateway-2b2b"}',
}
PASSWORD = "planted-database-8d3c"


def forms_of(secret: str) -> set[bytes]:
    """The forms in which a secret may be written: plain, in a URL, in a header."""
    plain = secret.encode()
    return {plain, quote(secret).encode(), base64.b64encode(plain).rstrip(b"=")[:-2]}


def find_secrets(written: bytes, secrets: set[str]) -> list[str]:
    """The secrets that occur in some bytes in any form."""
    return [secret for secret in sorted(secrets) if any(form in written for form in forms_of(secret))]


def read_everything(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, with its path."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def read_ledger(engine) -> Iterator[tuple[str, bytes]]:
    """Every row of every table and view, except the table of issued credentials."""
    relations = fetch(
        engine,
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'v') AND n.nspname IN ('public', 'validation') AND c.relname <> 'issued_credentials'",
    )
    for (name,) in relations:
        yield f"table {name}", repr(fetch(engine, f"SELECT * FROM {name}")).encode()


def read_store(store) -> Iterator[tuple[str, bytes]]:
    """Every object of the store, and of parquet files also their rows and metadata."""
    for key in list_keys(store):
        content = get_bytes(store, key)
        yield key, content
        if key.endswith(".parquet"):
            metadata = pl.read_parquet_metadata(content)
            yield key, (repr(pl.read_parquet(content).to_dicts()) + repr(metadata)).encode()


@pytest.fixture
def box_with_secrets(box, ledger, prefect_server, log_in, monkeypatch) -> tuple[dict[str, str], set[str]]:
    """The environment of a box with a secret in every variable that can hold one, and the secrets."""
    box.add_videos("a", "b")
    box.add_videos("broken", tar=b"no tar")
    key = issue_box_key(ledger, "val-1")
    role = log_in("validation_worker", key).url.username
    execute(ledger, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
    url = login_url(ledger.url.render_as_string(hide_password=False), role).replace(FIRST_PASSWORD, PASSWORD)
    environment = prefect_server.client_environment() | box.environment | PLANTED
    environment |= {"DATABASE_URL": url, "VFLEET_BOX_KEY": key, "VFLEET_SUITE": "vad", "WORKER_ID": "val-1"}
    secrets = {PASSWORD, key, *PLANTED.values(), "planted-prefect-c0de", "planted-gateway-2b2b"}
    return environment, secrets


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_secret_is_written_anywhere(box_with_secrets, box, ledger, prefect_server, tmp_path):
    """A worker validates a chunk, fails another and stops; three starts by hand are refused.

    Searched: the output of all programs, the files of Prefect's server (logs, parameters, states, artifacts), every
    table and view of the ledger, every shard and manifest.
    """
    environment, secrets = box_with_secrets
    PrefectClient(prefect_server.client_environment()).deploy_all()
    worker = WorkerProcess(tmp_path / "worker", environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"}, name="val-1")
    worker.launch()
    try:
        done = run_chunk(prefect_server)
        assert (done, statuses(box.engine)["a"]) == ("COMPLETED", "validated"), worker.log_tail()
        execute(ledger, "UPDATE video_queue SET validation_status = 'pending', validation_chunk = NULL")
        execute(ledger, "ALTER FUNCTION validation.claim_chunk RENAME TO claim_chunk_is_away")
        assert run_chunk(prefect_server) == "FAILED", worker.log_tail()
        execute(ledger, "ALTER FUNCTION validation.claim_chunk_is_away RENAME TO claim_chunk")
    finally:
        worker.stop()
    runs = [run_vfleet(environment | wrong) for wrong in FAILING_SETTINGS]
    assert [code for code, _ in runs] == [3, 2, 3], runs

    written = [("a command", output) for _, output in runs]
    written += [*read_everything(tmp_path), *read_everything(prefect_server.base_dir)]
    written += [*read_ledger(box.engine), *read_store(box.context.results)]
    assert {where for where, what in written if b"val-1" in what} >= {"table worker_validators", "a command"}
    assert any(b"claim_chunk" in what and b"does not exist" in what for where, what in written if "prefect.db" in where)
    assert any(where.endswith(".parquet") for where, _ in written)
    leaks = {where: found for where, what in written if (found := find_secrets(what, secrets))}
    assert leaks == {}


FAILING_SETTINGS = (
    {"R2_ENDPOINT_URL": "http://127.0.0.1:9"},
    {"VFLEET_BOX_KEY": "planted-key-of-another"},
    {"DATABASE_URL": f"postgresql://box:{PASSWORD}@127.0.0.1:9/val-1"},
)
"""An unreachable store, the key of another box, an unreachable ledger."""


def run_vfleet(environment: dict[str, str]) -> tuple[int, bytes]:
    """Run `vfleet run-chunk`; returns its exit code and its output."""
    command = [sys.executable, "-m", "validation.cli", "run-chunk"]
    done = subprocess.run(command, env=os.environ | environment, cwd=PROJECT, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_chunk(prefect_server, **parameters) -> str:
    """Run the deployment once; returns the type of its final state."""
    with httpx.Client(transport=RetryingTransport(), base_url=prefect_server.api_url, timeout=60) as http:
        deployment = ask(http, "GET", "/deployments/name/validate-chunk/validate-chunk")["id"]
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        run = ask(http, "POST", f"/deployments/{deployment}/create_flow_run", json=body)["id"]

        def state() -> str:
            return ask(http, "GET", f"/flow_runs/{run}")["state_type"]

        poll_until(lambda: state() in {"COMPLETED", "FAILED", "CRASHED"}, within_s=150)
        return state()


def ask(http: httpx.Client, method: str, path: str, **body) -> dict:
    """Send a request to Prefect's API; returns the JSON of the response."""
    return http.request(method, path, **body).raise_for_status().json()


def test_search_finds_secrets_in_every_form():
    """Plain, in a URL, and in a header of basic authentication."""
    secret = "planted-user:planted/pass"
    header = base64.b64encode(secret.encode())
    for written in (b"x planted-user:planted/pass y", b"planted-user%3Aplanted/pass", b"Basic " + header):
        assert find_secrets(written, {secret}) == [secret]
    assert find_secrets(b"planted-user", {secret}) == []


def test_issued_credential_is_in_one_table_and_in_no_view(ledger):
    """No other table and no view shows an issued credential."""
    issue_box_key(ledger, "val-1")
    store_credential(ledger, "val-1", "results", StoreCredential("planted-id", "planted-s", "planted-t"), ttl_s=60)
    leaks = [where for where, what in read_ledger(ledger) if b"planted-" in what]
    assert leaks == []
    with psycopg.connect(ledger.url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        assert connection.execute("SELECT count(*) FROM validation.issued_credentials").fetchone() == (1,)
