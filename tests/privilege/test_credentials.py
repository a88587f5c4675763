"""The store credentials of a box open its own folder and the tars, for hours: from Cloudflare by the ledger to the
store."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from simulation.fake_cloudflare import FakeCloudflare
from tests.support.guarded_store import start_guarded
from tests.support.ledger_helpers import execute, fetch
from validation.credentials.issuer import (
    TTL_S,
    CloudflareClient,
    CloudflareRefused,
    CloudflareThrottled,
    CredentialIssuer,
    Scope,
    UnexpectedResponse,
    choose_scopes,
    open_issuer,
)
from validation.domain import StoreCredential
from validation.errors import BadInput, FleetError, Unreachable
from validation.ledger.boxes import get_credential, issue_box_key, read_credential_status, store_credential
from validation.services import CredentialCache, NoCredentialIssued, open_box_stores
from validation.settings import Settings
from validation.storage.errors import StoreRefused
from validation.storage.store import delete_object, get_bytes, list_keys, put_if_absent

SCOPE = Scope("results", "object-read-write", "shards/val-1/")
URLS = {"source_url": "s3://transcribed/tars", "results_url": "s3://results"}


@pytest.fixture
def cloudflare():
    with FakeCloudflare() as fake:
        yield fake


def client_of(fake, **other) -> CloudflareClient:
    given = {
        "api_token": SecretStr(fake.api_token), "account_id": fake.account_id,
        "parent_access_key_id": SecretStr(fake.parent_access_key_id), "base_url": fake.url,
    } | other  # fmt: skip
    return CloudflareClient(given.pop("api_token"), **given)


def test_credential_is_for_one_bucket_one_prefix_and_a_time(cloudflare):
    """The request is the one that Cloudflare's reference describes."""
    with client_of(cloudflare) as client:
        made = client.create_credential(SCOPE, ttl_s=900)
    assert (made.access_key_id, made.secret_access_key, made.session_token) == ("issued-1", "s-1", "t-1")
    assert cloudflare.granted == [
        {"bucket": "results", "permission": "object-read-write", "prefixes": ["shards/val-1/"], "ttlSeconds": 900,
         "parentAccessKeyId": "r2-token-id"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"api_token": SecretStr("no")}, "10000"), ({"parent_access_key_id": SecretStr("no")}, "10042"),
     ({"account_id": "f" * 32}, "7003")],
)  # fmt: skip
def test_cloudflare_refusal_names_the_settings(cloudflare, wrong, says):
    """An unknown token, a key of another token, and a wrong account."""
    with client_of(cloudflare, **wrong) as client, pytest.raises(CloudflareRefused, match=says) as refused:
        client.create_credential(SCOPE, ttl_s=900)
    assert "CLOUDFLARE_API_TOKEN" in str(refused.value)


@pytest.mark.parametrize(("status", "error"), [(429, CloudflareThrottled), (500, Unreachable), (502, Unreachable)])
def test_throttling_and_outages_are_transient(cloudflare, status, error):
    """The next tick sends the request again."""
    cloudflare.next_statuses.append(status)
    with client_of(cloudflare) as client:
        with pytest.raises(error):
            client.create_credential(SCOPE, ttl_s=900)
        client.create_credential(SCOPE, ttl_s=900)


def test_response_without_a_credential_is_an_error(monkeypatch, cloudflare):
    """A change of the API is reported and not guessed around."""
    monkeypatch.setattr(cloudflare, "_issue", lambda _request: {"accessKeyId": "only"})
    with client_of(cloudflare) as client, pytest.raises(UnexpectedResponse):
        client.create_credential(SCOPE, ttl_s=900)


def test_scopes_are_the_tars_for_reading_and_the_boxs_own_folder():
    """The prefix of val-1 does not open the folder of val-10."""
    scopes = choose_scopes("val-1", **URLS)
    assert scopes["source"] == Scope("transcribed", "object-read-only", "tars/")
    assert scopes["results"] == Scope("results", "object-read-write", "shards/val-1/")
    assert choose_scopes("val-1", source_url="s3://t", results_url="s3://r/p")["results"].prefix == "p/shards/val-1/"
    with pytest.raises(BadInput, match="file:///x"):
        choose_scopes("val-1", source_url="file:///x", results_url="s3://r")
    with pytest.raises(BadInput, match="worker id"):
        choose_scopes("../val-2", **URLS)


def test_credential_is_renewed_when_half_of_its_life_is_over(ledger, cloudflare):
    """Every box with a key gets both credentials; at the next tick nothing is due."""
    for name in ("val-1", "val-2"):
        issue_box_key(ledger, name)
    with client_of(cloudflare) as client:
        issuer = CredentialIssuer(ledger, client, **URLS)
        assert issuer.renew() == []
        assert issuer.renew() == []
        assert len(cloudflare.granted) == 4
        execute(ledger, "UPDATE validation.issued_credentials SET issued_at = issued_at - interval '4 h', "
                        "expires_at = expires_at - interval '4 h' WHERE worker_id = 'val-2'")  # fmt: skip
        assert issuer.renew() == []
    assert [request.get("prefixes") for request in cloudflare.granted[4:]] == [["tars/"], ["shards/val-2/"]]
    assert all(TTL_S - 60 < issued.expires_in_s <= TTL_S for issued in read_credential_status(ledger))


def test_cloudflare_outage_is_a_note_of_the_tick(ledger, cloudflare):
    """Boxes go on with their credentials; the operator reads why they are not renewed."""
    issue_box_key(ledger, "val-1")
    cloudflare.next_statuses.append(503)
    with client_of(cloudflare) as client:
        (note,) = CredentialIssuer(ledger, client, **URLS).renew()
    assert "Cloudflare" in note
    assert fetch(ledger, "SELECT * FROM validation.issued_credentials") == []


def test_nothing_is_issued_without_a_token(ledger, monkeypatch):
    """Without an R2 token boxes get keys of the operator's choice; an incomplete token is refused."""
    with open_issuer(ledger, Settings()) as issuer:
        assert issuer is None
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "t")
    with pytest.raises(BadInput, match="CLOUDFLARE_ACCOUNT_ID"), open_issuer(ledger, Settings()):
        pass


class Clock:
    """A monotonic clock that tests advance."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("validation.services.time", clock)
    return clock


def test_box_reads_a_newer_credential(ledger, clock):
    """It asks the ledger at most every half minute, however often the store's client asks for the credential."""
    issue_box_key(ledger, "ann")
    cache = CredentialCache(ledger, "ann", "results")
    with pytest.raises(NoCredentialIssued, match="CLOUDFLARE_API_TOKEN"):
        cache()
    for name in ("one", "two"):
        store_credential(ledger, "ann", "results", StoreCredential(name, "s", "t"), ttl_s=600)
        clock.now += 1 if name == "two" else 31
        assert cache().access_key_id == "one"
    clock.now += 30
    assert cache().access_key_id == "two"


def test_ledger_outage_does_not_matter_while_a_credential_is_valid(monkeypatch, ledger, clock):
    """The outage is an error once the credential has expired."""

    def away(*_):
        raise Unreachable("the ledger", "h", "check it", "gone")

    credential = StoreCredential("one", "s", "t", datetime.now(UTC) + timedelta(minutes=4))
    monkeypatch.setattr("validation.services.get_credential", lambda *_: credential)
    cache = CredentialCache(ledger, "ann", "results")
    assert cache() is credential
    monkeypatch.setattr("validation.services.get_credential", away)
    clock.now += 60
    assert cache() is credential
    object.__setattr__(credential, "expires_at", datetime.now(UTC) - timedelta(seconds=1))
    clock.now += 60
    with pytest.raises(Unreachable):
        cache()


@pytest.fixture(scope="module")
def guarded(session_folder):
    """A store that enforces credentials, and a fake Cloudflare that issues them."""
    store, cloudflare = start_guarded(session_folder / f"guarded-{uuid4().hex[:6]}", "transcribed", "results")
    with cloudflare:
        yield store, cloudflare
    store.stop()


def test_box_can_write_only_in_its_own_folder(ledger, log_in, guarded, monkeypatch):
    """From the R2 token of the control machine to the refusal of the store; only Cloudflare is a fake.

    A compromised box can read tars and corrupt its own shards. It cannot write, overwrite, delete, read or list
    another box's shards, nor change a tar.
    """
    store, cloudflare = guarded
    for name, value in (store.admin_environment() | cloudflare.client_environment()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VFLEET_RESULTS_URL", "s3://results")
    monkeypatch.setattr(cloudflare, "parent_access_key_id", store.admin_environment()["R2_ACCESS_KEY_ID"])
    source, results = open_box_stores(Settings(), ledger)  # as the control machine
    put_if_absent(source, "v.tar", b"tar")
    put_if_absent(results, "shards/val-10/theirs", b"theirs")
    with open_issuer(ledger, Settings()) as issuer:
        key = issue_box_key(ledger, "val-1")
        issuer.store("val-1", issuer.create("val-1"))

    for name in ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", *cloudflare.client_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("VFLEET_BOX_KEY", key)
    monkeypatch.setenv("WORKER_ID", "val-1")
    engine = log_in("validation_worker", key)
    source, results = open_box_stores(Settings(), engine)
    assert get_bytes(source, "v.tar") == b"tar"
    put_if_absent(results, "shards/val-1/mine", b"mine")
    assert get_bytes(results, "shards/val-1/mine") == b"mine"
    delete_object(results, "shards/val-1/mine")
    intrusions = {
        "write beside": lambda: put_if_absent(results, "shards/val-10/mine", b"x"),
        "write above": lambda: put_if_absent(results, "shards/mine", b"x"),
        "write by a crooked name": lambda: put_if_absent(results, "shards/val-1/../val-10/mine", b"x"),
        "overwrite": lambda: put_if_absent(results, "shards/val-10/theirs", b"x"),
        "delete": lambda: delete_object(results, "shards/val-10/theirs"),
        "read": lambda: get_bytes(results, "shards/val-10/theirs"),
        "list": lambda: list(list_keys(results, "shards/val-10")),
        "change a tar": lambda: put_if_absent(source, "w.tar", b"x"),
        "delete a tar": lambda: delete_object(source, "v.tar"),
        "open the other store": lambda: get_credential(engine, "val-10", "results"),
    }
    for what, intrude in intrusions.items():
        with pytest.raises(FleetError) as refused:
            intrude()
        assert not isinstance(refused.value, Unreachable), what
    with pytest.raises(StoreRefused):
        put_if_absent(results, "shards/val-10/mine", b"x")
