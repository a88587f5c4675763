"""Each check of the doctor finds its problem and says what to do."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import httpx
import psycopg
import pytest

from simulation.fake_cloudflare import FakeCloudflare
from simulation.fake_vast.service import EmbeddedVast
from tests.support.certificates import make_certificate
from tests.support.fake_prefect_cloud import serve_prefect_cloud
from tests.support.tls_proxy import serve_tls
from validation.cli.main import main
from validation.credentials.issuer import CloudflareRefused
from validation.doctor import machine, runner
from validation.doctor.check import CheckWarning
from validation.doctor.database import (
    SessionPooler,
    WrongRole,
    check_box_role,
    check_control_role,
    check_database,
    check_pooler,
    check_tls,
)
from validation.doctor.machine import (
    check_clock,
    check_disk,
    check_driver,
    check_gpu,
    check_onnx_session,
    check_onnxruntime,
)
from validation.doctor.prefect_server import (
    PrefectRefused,
    check_control_worker,
    check_deployments,
    check_pool,
    check_prefect,
    check_tokens,
    read_headers,
)
from validation.doctor.runner import CONTROL_CHECKS, check_box, run_check, run_checks
from validation.doctor.stores import check_cloudflare, check_results, check_source, check_vast, describe_expiry
from validation.errors import BadInput, FleetError, Unreachable
from validation.hardware.gpu import DriverTooOld, _read_cuda_major, check_cuda_support
from validation.ledger.engine import open_engine, parse_database_url
from validation.ledger.migrate import SchemaMismatch
from validation.vast.errors import VastKeyRefused

pytestmark = pytest.mark.timeout(300)  # the first test waits for the start of the Prefect server


def test_control_machine_passes_every_check(healthy, deployed):
    """On the real stack no check fails, and every result has a message."""
    findings = list(run_checks(healthy(), CONTROL_CHECKS))
    assert [finding for finding in findings if finding.status == "failed"] == []
    assert all(finding.message for finding in findings)


def test_warnings_do_not_stop_a_worker(healthy, pool):
    """A login with more rights than a box needs is a warning, with which a worker starts."""
    (warning,) = check_box(healthy())
    assert "reaches everything: give boxes a login that has the role validation_worker" in warning


@pytest.mark.parametrize(
    ("variables", "check", "error", "says"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, check_database, BadInput, "needs Postgres"),
        ({"DATABASE_URL": "host=x dbname=y"}, check_database, BadInput, "cannot be read"),
        ({"DATABASE_URL": "postgresql://me:secret@127.0.0.1:9/x"}, check_database, Unreachable, "127.0.0.1:9/x"),
        (
            {"DATABASE_URL": "postgresql://me:secret@aws-0-eu-central-1.pooler.supabase.com:5432/postgres"},
            check_pooler,
            SessionPooler,
            "session mode.*write port 6543",
        ),
        ({"PREFECT_API_URL": "localhost:4200"}, check_prefect, BadInput, "as https://HOST/api"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, check_prefect, Unreachable, "check PREFECT_API_URL"),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": "token"}, check_prefect, BadInput, "gateway token add"),
        ({"VFLEET_RESULTS_URL": "s3://no-such-bucket"}, check_results, FleetError, "NoSuchBucket.*VFLEET_RESULTS_URL"),
        ({"VFLEET_RESULTS_URL": "https://bucket"}, check_results, BadInput, "write s3://bucket"),
        ({"R2_ENDPOINT_URL": "abc.r2.cloudflarestorage.com"}, check_results, BadInput, "write https://<account>"),
        (
            {"VFLEET_GATEWAY_TOKENS": "/nowhere/boxes"},
            check_tokens,
            BadInput,
            "let this account write it and its folder",
        ),
        ({"VFLEET_DEVICE": "cuda"}, check_gpu, BadInput, "no GPU"),
        ({"VFLEET_DEVICE": "cuda"}, check_driver, BadInput, "NVML"),
        ({"VFLEET_DEVICE": "cuda"}, check_onnxruntime, BadInput, r"validation-fleet\[gpu\]"),
        ({"VFLEET_DEVICE": "cuda"}, check_onnx_session, BadInput, r"validation-fleet\[gpu\]"),
        ({"VFLEET_SOURCE_URL": "s3://no-such-bucket"}, check_source, FleetError, "NoSuchBucket.*VFLEET_SOURCE_URL"),
        ({"PREFECT_API_URL": "http://me:secret@127.0.0.1:9/api"}, check_prefect, Unreachable, "http://127.0.0.1:9/api"),
        ({"PREFECT_API_URL": "ftp://me:secret@127.0.0.1:9/api"}, check_prefect, BadInput, "'ftp://127.0.0.1:9/api'"),
        ({"PREFECT_API_SSL_CERT_FILE": "/nowhere/ca.pem"}, check_prefect, BadInput, "PREFECT_API_SSL_CERT_FILE is"),
        ({"CLOUDFLARE_API_TOKEN": "t"}, check_cloudflare, BadInput, "needs CLOUDFLARE_ACCOUNT_ID"),
    ],
)
def test_each_problem_is_named_with_its_remedy(healthy, *, variables, check, error, says):
    """One sentence with the variable to change, and no secret."""
    with pytest.raises(error, match=says) as raised:
        check(healthy(**variables))
    assert "secret" not in str(raised.value)


def test_token_file_check_writes_the_file(healthy, monkeypatch, tmp_path):
    """A writable folder is not enough, because nginx must be able to read the new file."""
    tokens = tmp_path / "boxes"
    tokens.touch()
    settings = healthy(VFLEET_GATEWAY_TOKENS=str(tokens))
    assert "0 boxes may pass" in check_tokens(settings)
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(BadInput, match="cannot be changed"):
        check_tokens(settings)


def refuse(*_):
    """Raise the error of a file system that does not permit the call."""
    raise PermissionError(1, "Operation not permitted")


def test_revoked_gateway_token_is_named(healthy, monkeypatch):
    """A status of 401 behind the gateway means a revoked or mistyped token."""
    monkeypatch.setattr("httpx.request", lambda *_, **__: httpx.Response(401))
    with pytest.raises(PrefectRefused, match=r"revoked or mistyped.*gateway token add"):
        check_prefect(healthy())


def test_password_in_prefect_address_is_hidden(healthy, prefect_server):
    """Also in the message of a check that passes, because users paste it."""
    address = prefect_server.api_url.replace("//", "//me:secret@")
    assert check_prefect(healthy(PREFECT_API_URL=address)).endswith(f" at {prefect_server.api_url}")


def test_prefect_cloud_is_checked_without_a_version(healthy, prefect_server, pool, tmp_path):
    """It reports no version and serves every client; an invalid key still fails."""
    with serve_prefect_cloud(prefect_server.api_url, tmp_path) as environment:
        assert check_prefect(healthy(**environment)) == f"Prefect Cloud, at {environment['PREFECT_API_URL']}"
        assert check_pool(healthy(**environment)).startswith("vast-gpu")
        with pytest.raises(PrefectRefused, match="PREFECT_API_KEY"):
            check_prefect(healthy(**environment | {"PREFECT_API_KEY": "pnu_dead"}))


def test_custom_header_overrides_password_which_overrides_api_key():
    """The order is that of Prefect's own client, so the doctor tests what a worker sends."""
    environment = {"PREFECT_API_KEY": "k"}
    assert read_headers(environment) == {"Authorization": "Bearer k"}
    environment["PREFECT_API_AUTH_STRING"] = "a:b"
    assert read_headers(environment) == {"Authorization": "Basic YTpi"}
    environment["PREFECT_CLIENT_CUSTOM_HEADERS"] = '{"Authorization": "Basic own", "User-Agent": "me"}'
    assert read_headers(environment) == {"Authorization": "Basic own"}


def test_unset_accounts_are_skipped(healthy):
    """A control machine need not rent boxes or issue credentials."""
    assert run_check(healthy(), check_vast).status == "skipped"
    assert run_check(healthy(), check_cloudflare).status == "skipped"


def test_invalid_vast_key_is_found(healthy, open_folder):
    """With a valid key the check shows the credit."""
    with EmbeddedVast(open_folder) as vast:
        settings = healthy(**vast.client_environment())
        assert re.fullmatch(r"\$\d+\.\d\d of credit, 0 instances", check_vast(settings))
        with pytest.raises(VastKeyRefused, match="check VAST_API_KEY"):
            check_vast(healthy(VAST_API_KEY="dead"))


def test_invalid_cloudflare_token_is_found(healthy):
    """The credential that the check creates is short-lived and opens no more than a box's would."""
    with FakeCloudflare() as cloudflare:
        environment = cloudflare.client_environment() | {"R2_ACCESS_KEY_ID": cloudflare.parent_access_key_id}
        assert "object-read-only" in check_cloudflare(healthy(**environment))
        assert {request["ttlSeconds"] for request in cloudflare.granted} == {900}
        assert {tuple(request.get("prefixes", ())) for request in cloudflare.granted} == {(), ("shards/doctor/",)}
        with pytest.raises(CloudflareRefused, match="CLOUDFLARE_API_TOKEN"):
            check_cloudflare(healthy(CLOUDFLARE_API_TOKEN="dead"))


def test_onnxruntime_that_cannot_load_cuda_is_found(healthy, monkeypatch):
    """ONNX Runtime may be built for CUDA and yet not load it, so the check opens a session."""
    assert check_onnx_session(healthy()) == "computes with CPUExecutionProvider"
    built_with = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: built_with)
    settings = healthy(VFLEET_DEVICE="cuda")
    assert run_check(settings, check_onnxruntime).status == "ok"
    assert run_check(settings, check_onnx_session).status == "failed"


def test_missing_work_pool_is_named(healthy, monkeypatch):
    """A worker behind the gateway cannot create the pool itself."""
    monkeypatch.setattr("validation.doctor.prefect_server.POOL", f"none-{uuid4().hex}")
    with pytest.raises(BadInput, match="run `vfleet bootstrap`"):
        check_pool(healthy())


def test_unmigrated_ledger_fails_one_check_only(healthy, postgres):
    """Every check runs, whatever the others found."""
    url = postgres.create_database("doctor_unmigrated")
    findings = {finding.check: finding for finding in run_checks(healthy(DATABASE_URL=url), CONTROL_CHECKS)}
    assert {name for name, finding in findings.items() if finding.status == "failed"} >= {"migration"}
    assert findings["database"].status == "ok"
    assert findings["results"].status == "ok"
    with pytest.raises(SchemaMismatch):
        check_box(healthy(DATABASE_URL=url))
    open_engine(url).dispose()
    postgres.drop_database("doctor_unmigrated")


@pytest.fixture
def login(healthy, box):
    """Make a login in the ledger's database with the given roles, and return settings that use it."""
    owner = box.environment["DATABASE_URL"].replace("+psycopg", "")
    name = f"doctor_{uuid4().hex[:8]}"

    def make(*roles: str):
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
            for role in roles:
                connection.execute(f"GRANT {role} TO {name}")
        head, _, tail = owner.partition("://")
        return healthy(DATABASE_URL=f"{head}://{name}:x@{tail.partition('@')[2]}")

    yield make
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {name}")


def test_box_login_passes_as_box_and_fails_as_control(login):
    """The role validation_worker suffices for a box and not for the control plane."""
    settings = login("validation_worker")
    assert "read no table" in check_box_role(settings)
    with pytest.raises(WrongRole, match="GRANT validation_control TO doctor_"):
        check_control_role(settings)


def test_control_login_on_a_box_is_a_warning(login):
    """It works, but the owner of the rented machine would have the rights of the control machine."""
    settings = login("validation_worker", "validation_control")
    assert "functions" in check_control_role(settings)
    with pytest.raises(CheckWarning, match="give boxes a login that has the role validation_worker and no other"):
        check_box_role(settings)


def test_login_without_a_role_gets_the_grant_statement(login):
    """The message holds the statement to run."""
    with pytest.raises(WrongRole, match=r"may not execute claim_chunk.*GRANT validation_worker TO doctor_"):
        check_box_role(login())


def test_boxes_per_unshared_connections_are_counted(healthy):
    """Without a pooler each connection of a box is a connection of Postgres, whose maximum limits the fleet."""
    assert "100 of them are enough for 33 boxes" in check_pooler(healthy())


@pytest.mark.parametrize(
    ("skew_s", "verdict"), [(0, "ok"), (60, "warning"), (-60, "warning"), (1200, "failed"), (-1200, "failed")]
)
def test_clock_skew_is_found(healthy, monkeypatch, skew_s, verdict):
    """At ten minutes object stores refuse signatures; at one minute the order of events is unknown."""
    real = machine.time.time
    monkeypatch.setattr(machine.time, "time", lambda: real() + skew_s)
    assert run_check(healthy(), check_clock).status == verdict


def test_full_disk_is_found(healthy, monkeypatch):
    """The message says how much space must be free."""
    monkeypatch.setattr(machine, "MIN_DISK_BYTES", 1 << 60)
    with pytest.raises(BadInput, match="free at least"):
        check_disk(healthy())


@pytest.mark.parametrize(
    ("driver", "needs", "supports"),
    [("525.60.13", 12, None), ("570.1", 11, None), ("580.65.06", 13, None), ("999.1", 14, None),
     ("570.133.07", 13, "CUDA 12 at most"), ("525.60", 13, "CUDA 12 at most"), ("450.80.02", 12, "CUDA 11 at most"),
     ("390.157", 12, "no known CUDA version")],
)  # fmt: skip
def test_driver_supports_its_own_cuda_and_older(driver, needs, supports):
    """A driver runs programs of its CUDA major version and of older ones."""
    if supports is None:
        check_cuda_support(driver, needs)
        return
    with pytest.raises(DriverTooOld, match=f"{driver} supports {supports}.*built for CUDA {needs}: rent a machine"):
        check_cuda_support(driver, needs)


@pytest.fixture
def old_driver(monkeypatch):
    """A machine whose driver, as NVML reports it, supports CUDA 12 at most; the image needs CUDA 13."""
    answers = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 3090", "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=24 << 30),
        "nvmlSystemGetDriverVersion": "535.183.01",
    }  # fmt: skip
    nvml = {name: (lambda *_, answer=answer: answer) for name, answer in answers.items()}
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=OSError, **nvml))
    monkeypatch.setattr(machine, "find_built_cuda_major", lambda: 13)


def test_old_driver_stops_a_worker_before_it_claims(healthy, old_driver, monkeypatch):
    """The worker refuses to start before it asks the ledger, with the sentence that the doctor shows."""
    settings = healthy(VFLEET_DEVICE="cuda", DATABASE_URL="postgresql://me:secret@127.0.0.1:9/x")
    with pytest.raises(DriverTooOld, match=r"535\.183\.01 .* CUDA 13: rent a machine with driver 580\.65 or newer"):
        check_box(settings)
    assert run_check(settings, check_driver).status == "failed"
    monkeypatch.setattr(machine, "find_built_cuda_major", lambda: 12)
    assert run_check(settings, check_driver).status == "ok"


@pytest.mark.parametrize(("declared", "major"), [("'13.0'", 13), ("'12.8'", 12), ("None", None)])
def test_cuda_version_of_a_package_is_read_without_importing_it(tmp_path, monkeypatch, declared, major):
    """Importing the package may crash on a driver that is too old."""
    package = tmp_path / "netlib"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libcuda.so.1')")
    (package / "version.py").write_text(f"cuda = {declared}")
    monkeypatch.syspath_prepend(tmp_path)
    assert _read_cuda_major("netlib", "version.py", "cuda") == major
    assert _read_cuda_major("no_such_netlib", "version.py", "cuda") is None


def test_expiring_store_credential_is_a_warning():
    """A credential with less than half an hour left is not being renewed."""
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert describe_expiry(None, now=now) == "keys that do not expire"
    assert describe_expiry(now + timedelta(hours=2), now=now) == "valid until 14:00 UTC"
    with pytest.raises(CheckWarning, match="expires at 12:10"):
        describe_expiry(now + timedelta(minutes=10), now=now)
    with pytest.raises(BadInput, match="expired at 11:59"):
        describe_expiry(now - timedelta(minutes=1), now=now)


def test_doctor_prints_lines_or_json_and_exits_1_on_failure(healthy, pool, monkeypatch, capsys):
    """One line or one JSON object per check; exit code 1 exactly if a check failed.

    Without the checks of deployments and their worker, which have tests of their own: this server has neither.
    """
    kept = [check for check in CONTROL_CHECKS if check not in (check_deployments, check_control_worker)]
    monkeypatch.setattr(runner, "CONTROL_CHECKS", kept)
    healthy()
    assert main(["doctor", "--json"]) == 0
    printed = capsys.readouterr()
    findings = [json.loads(line) for line in printed.out.splitlines()]
    assert {"database", "migration", "control role", "prefect"} <= {finding["check"] for finding in findings}
    assert (len(findings), printed.err) == (len(kept), "")
    healthy(VFLEET_RESULTS_URL="s3://no-such-bucket")
    assert main(["doctor"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert failed
    assert all("no-such-bucket" in line for line in failed)


@pytest.fixture
def tls_postgres(postgres, tmp_path):
    """The URL of a Postgres behind TLS, and the certificate that signs it."""
    certificate, key = make_certificate(tmp_path)
    with serve_tls(postgres.port, certificate, key) as port:
        yield postgres.libpq_url().replace(f":{postgres.port}/", f":{port}/"), certificate


def test_tls_to_another_machine_must_be_verified(tls_postgres, healthy, tmp_path):
    """A certificate of the named authority passes, any other fails, and a mode without verification is a warning."""
    url, authority = tls_postgres
    assert (
        check_tls(healthy(DATABASE_URL=f"{url}?sslmode=verify-full&sslrootcert={authority}"))
        == "TLS, verified (verify-full)"
    )
    with pytest.raises(CheckWarning, match="TLS without verification"):
        check_tls(healthy(DATABASE_URL=f"{url}?sslmode=require"))
    with pytest.raises(BadInput, match="not encrypted"):
        check_tls(healthy(DATABASE_URL=f"{url}?sslmode=disable"))
    with pytest.raises(Unreachable, match=r"/nowhere/database\.crt.* does not exist"):
        check_tls(healthy(DATABASE_URL=f"{url}?sslmode=verify-full&sslrootcert=/nowhere/database.crt"))
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    with pytest.raises(Unreachable, match="certificate verify failed"):
        check_tls(healthy(DATABASE_URL=f"{url}?sslmode=verify-full&sslrootcert={other}"))


def test_remote_database_address_defaults_to_verify_full():
    """libpq by itself verifies nothing; an explicit `sslmode` or `sslrootcert` is kept."""
    far = parse_database_url("postgresql://me:x@db.example.org/x").query
    assert (far["sslmode"], Path(far["sslrootcert"]).is_file()) == ("verify-full", True)
    own = parse_database_url("postgresql://me:x@db.example.org/x?sslrootcert=/ca.crt").query
    assert (own["sslmode"], own["sslrootcert"]) == ("verify-full", "/ca.crt")
    assert parse_database_url("postgresql://me:x@10.0.0.5/x?sslmode=disable").query == {"sslmode": "disable"}
    for here in ("127.0.0.1", "localhost", "/run/postgresql"):
        assert "sslmode" not in parse_database_url(f"postgresql:///x?host={here}").query
