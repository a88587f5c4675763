"""Every command and alert on the pages works. `make docs-check` also runs the commands in their order."""

import re
import subprocess
from configparser import ConfigParser

import pytest
import yaml

from tests.support.cli_parsing import parse_command
from tests.support.doc_pages import DOCS, read_blocks, words_of
from tests.support.ledger_helpers import claim
from validation.doctor.database import CONNECTIONS_PER_BOX
from validation.domain import StoreCredential
from validation.fleet.launch_spec import ALLOWED, PREFIX
from validation.ledger.boxes import issue_box_key, store_credential
from validation.ledger.engine import open_engine, parse_database_url
from validation.settings import Settings

ROOT = DOCS.parent
PAGES = ("deploy.md", "operate.md")
MADE_BY_THE_READER = {"deploy/image/weights.lock", "deploy/image/database.crt"}
COMMANDS = [
    line for page in PAGES for block in read_blocks(page) if block.kind.startswith("sh") for line in block.lines
]
ALERTS = {block.heading: block.body for block in read_blocks("operate.md") if block.kind == "sql"}


def test_pages_have_commands_and_alerts():
    """The other tests of this file would pass on pages without commands."""
    assert len(COMMANDS) > 40
    assert len(ALERTS) >= 12


@pytest.mark.parametrize("line", sorted({line for line in COMMANDS if line.startswith("vfleet ")}))
def test_vfleet_commands_of_the_pages_parse(line):
    """With their options and the options' values."""
    assert parse_command(words_of(line)[1:]).command.callback


def test_deployments_that_the_pages_run_exist():
    """`prefect deployment run FLOW/NAME` names a flow and a deployment of prefect.yaml."""
    known = {d["entrypoint"].partition(":")[2].replace("_", "-") + "/" + d["name"]
             for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}  # fmt: skip
    named = {words_of(line)[3] for line in COMMANDS if line.startswith("prefect deployment run")}
    assert named
    assert named <= known


@pytest.mark.parametrize("page", PAGES)
def test_targets_files_and_links_of_the_pages_exist(page):
    """Make targets, files of the repository and linked pages."""
    text = (DOCS / page).read_text()
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert targets - set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) == set()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (DOCS / link).exists(), link
    for path in re.findall(r"`((?:deploy|validation|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / path).exists() or path in MADE_BY_THE_READER, path


def test_environment_variables_of_the_page_are_read():
    """Each variable is a setting, a setting of Prefect, or a variable that a box may get."""
    lines = [line for block in read_blocks("deploy.md") if block.kind == "env" for line in block.lines]
    aliases = {f"VFLEET_{name.upper()}" for name in Settings.model_fields}
    for field in Settings.model_fields.values():
        aliases |= {str(choice) for choice in getattr(field.validation_alias, "choices", [])}
    names = {line.partition("=")[0] for line in lines}
    boxes = {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}
    assert boxes <= ALLOWED
    assert {n for n in names if not n.startswith((PREFIX, "PREFECT_"))} <= aliases


SETTINGS = [
    (block.heading[:2], line) for block in read_blocks("deploy.md") if block.kind == "env" for line in block.lines
]


@pytest.mark.parametrize("line", [line for section, line in SETTINGS if section != "6."])
def test_control_settings_mean_the_same_to_a_shell_and_to_systemd(line):
    """Values are quoted: an unquoted `&` in an address would run its beginning in the background."""
    name, _, value = line.partition("=")
    said = subprocess.run(
        ["sh", "-euc", f'set -a; {line}\nprintf %s "${name}"'], capture_output=True, text=True, check=True
    )
    assert said.stdout == (value[1:-1] if value.startswith("'") else value)


def test_box_settings_are_not_quoted():
    """Docker takes each line of --env-file literally, quotes included."""
    lines = [line for section, line in SETTINGS if section == "6."]
    assert {"WORKER_ID", "VFLEET_BOX_KEY", "DATABASE_URL"} <= {line.partition("=")[0] for line in lines}
    assert not [line for line in lines if line.partition("=")[2].startswith(("'", '"'))]


def test_database_addresses_of_the_page_verify_the_server():
    """The certificate file exists on the control machine (project in /app) and in the image (.dockerignore)."""
    addresses = [line.partition("=")[2].strip("'") for _, line in SETTINGS if "DATABASE_URL=" in line]
    queries = [parse_database_url(address).query for address in addresses]
    assert len(queries) == 3
    assert {query["sslmode"] for query in queries} == {"verify-full"}
    (authority,) = {query["sslrootcert"] for query in queries}
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(authority.startswith(f"/app/{folder}/") for folder in let_in)
    assert "COPY --from=build /app /app" in (ROOT / "Dockerfile.validation").read_text()


def test_secret_files_of_the_page_are_ignored_by_git():
    """The page writes these files into the project, and tells its reader to commit the lock."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    page = (DOCS / "deploy.md").read_text()
    for name in ("hf_token", "control.env", "box.env"):
        assert name in page
        assert f"/{name}" in ignored


def test_shutdown_drops_every_login_that_the_page_creates():
    """The shutdown drops every login that the page creates."""
    page = (DOCS / "deploy.md").read_text()
    assert set(re.findall(r"^DROP ROLE (\w+)", page, re.MULTILINE)) == set(
        re.findall(r"^CREATE ROLE (\w+)", page, re.MULTILINE)
    )


def test_control_service_runs_the_command_of_the_page():
    """In the folder that the deployments name, with the environment file of section 2."""
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(ROOT / "deploy/systemd/vfleet-control.service")
    service, page = unit["Service"], (DOCS / "deploy.md").read_text()
    command = service["ExecStart"].removeprefix("/app/.venv/bin/")
    assert f"{command} &" in page
    assert service["WorkingDirectory"] == "/app"
    assert service["EnvironmentFile"] in page


def test_connection_counts_of_the_page_match_the_engine():
    """Client connections of the pooler, idle and in a burst, per box and for a hundred boxes."""
    pool = open_engine("postgresql://box@127.0.0.1/x").pool
    held, burst = CONNECTIONS_PER_BOX * pool.size(), CONNECTIONS_PER_BOX * (pool.size() + pool._max_overflow)
    page = (DOCS / "deploy.md").read_text()
    assert f"| box (worker and two flow runs) | {held} | {burst} |" in page
    assert f"| 100 boxes | {100 * held} | {100 * burst} |" in page
    for clients, usual, at_once in re.findall(r"^\| [\w, ]+ \| ([\d,]+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE):
        assert int(usual) == int(clients.replace(",", "")) * 9 // (10 * held)
        assert int(at_once) == int(clients.replace(",", "")) // burst


def find_alerts(engine) -> list[str]:
    """The headings of the alerts that return rows now."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE validation_reader")
        found = [name for name, query in ALERTS.items() if connection.exec_driver_sql(query).fetchall()]
        connection.rollback()
        connection.exec_driver_sql("RESET ROLE")
    return found


def test_no_alert_fires_in_a_healthy_fleet(ledger, seed):
    """One worker, one open chunk, and credentials that are valid for hours."""
    seed(5)
    claim(ledger, size=2)
    issue_box_key(ledger, "ann")
    store_credential(ledger, "ann", "source", StoreCredential("i", "s", "t"), ttl_s=20_000)
    assert find_alerts(ledger) == []


FLEET = """
    INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)
    VALUES ('f', 'f/', 1, 1, 1, '{}', now());
    INSERT INTO fleet_instances (label, fleet, slot, worker_id, state, offer_id, machine_id, host_id, gpu_name,
        usd_per_hour, usd_once, boot_timeout_s, instance_id, requested_at, changed_at, accepted_at, reason)
    VALUES ('f/1', 'f', 1, 'val-1', 'destroying', 1, 1, 1, 'g', 1, 0.95, 1, 1, now() - interval '20 min',
            now() - interval '16 min', now(), 'r');
"""
WRONG = {
    "no-worker-online": "UPDATE worker_validators SET status = 'offline'",
    "worker-stale": "UPDATE worker_validators SET last_heartbeat_at = now() - interval '3 min'",
    "nothing-committed": "UPDATE validation_chunks SET claimed_at = now() - interval '40 min'",
    "sweep-missing": "UPDATE validation_chunks SET lease_expires_at = now() - interval '4 min'",
    "many-videos-fail": "UPDATE video_queue SET validation_status = 'validation_failed', validation_error = 'e' "
    "WHERE validation_status = 'pending'",
    "chunks-expire": "INSERT INTO validation_chunks (chunk_id, worker_id, shard_number, suite, state, closed_at, "
    "lease_expires_at, videos_claimed) SELECT gen_random_uuid(), 'ann', 100 + n, 's', 'expired', now(), now(), 1 "
    "FROM generate_series(1, 20) n",
    "credentials-expire": "INSERT INTO validation.box_keys VALUES ('ann', NULL, sha256('k')); INSERT INTO "
    "validation.issued_credentials VALUES ('ann', 'source', 'i', 's', 't', now(), now() + interval '1 hour')",
    "budget-nearly-spent": FLEET,
    "credit-falls-faster": FLEET + "INSERT INTO fleet_credit_readings VALUES ('f', now() - interval '1 hour', 100, 0), "
    "('f', now(), 50, 1)",
    "worker-quarantined": "UPDATE validation_chunks SET state = 'committed', closed_at = now(); "
    "INSERT INTO validation.canaries VALUES ('c', 's', '{}', '[{}]'); INSERT INTO validation.canary_evaluations "
    "SELECT 'c', chunk_id, 'wrong', 'segment 0' FROM validation_chunks",
    "failures-refuted": "UPDATE video_queue SET validation_witness = 'ann' WHERE validation_status = 'pending'; "
    "INSERT INTO validation.box_decisions SELECT now(), 'ann', NULL, 'ann', gen_random_uuid(), video_id, 'failed', 1, "
    "now() FROM video_queue",
    # Of this database alone, so that it ends with it. A role is the same in all databases of a cluster.
    "box-login-altered": "DO $$ BEGIN EXECUTE format('ALTER ROLE validation_worker IN DATABASE %I "
    "SET statement_timeout = 1', current_database()); END $$",
    "box-stays": FLEET,
    "many-bans": "INSERT INTO fleet_blacklist SELECT 'machine', n, 'slow', 1, now(), now() + interval '1 day' "
    "FROM generate_series(1, 21) n",
    "ledger-inconsistent": "UPDATE validation_chunks SET state = 'released', closed_at = now()",
}


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires_in_its_case(ledger, seed, alert):
    """Each alert returns rows once its problem is set up in the ledger."""
    seed(25)
    claim(ledger, size=2)
    with ledger.begin() as connection:
        connection.connection.driver_connection.execute(WRONG[alert])
    assert alert in find_alerts(ledger)


def test_every_alert_has_a_case():
    """Each alert of the page is tested, and each case has its alert."""
    assert WRONG.keys() == ALERTS.keys()
