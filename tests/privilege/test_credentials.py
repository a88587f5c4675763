"""What a box is lent opens its own folder and the tars, for hours: from Cloudflare by the ledger into the store."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from simulation.fake_cloudflare import FakeCloudflare
from tests.support.guarded_store import start_guarded
from tests.support.ledger_helpers import execute, fetch
from validation.credentials.cloudflare import (
    CloudflareClient,
    CloudflareRefused,
    CloudflareThrottled,
    Scope,
    UnexpectedResponse,
)
from validation.credentials.issuer import TTL_S, CredentialIssuer, choose_scopes, open_issuer
from validation.domain import StoreCredential
from validation.errors import BadInput, FleetError, Unreachable
from validation.ledger.box_credentials import get_credential, issue_box_key, read_credential_status, store_credential
from validation.services import CredentialCache, NoCredentialIssued, open_box_stores
from validation.settings import Settings
from validation.storage.errors import StoreRefused
from validation.storage.store import delete_object, get_bytes, list_keys, put_once

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


def test_a_credential_is_made_for_one_bucket_one_prefix_and_a_time(cloudflare):
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
def test_what_cloudflare_refuses_names_what_to_correct(cloudflare, wrong, says):
    """A token that it does not know, a key of another token, an account that is another's."""
    with client_of(cloudflare, **wrong) as client, pytest.raises(CloudflareRefused, match=says) as refused:
        client.create_credential(SCOPE, ttl_s=900)
    assert "CLOUDFLARE_API_TOKEN" in str(refused.value)


@pytest.mark.parametrize(("status", "error"), [(429, CloudflareThrottled), (500, Unreachable), (502, Unreachable)])
def test_what_may_heal_is_transient(cloudflare, status, error):
    """The next tick asks again."""
    cloudflare.next_statuses.append(status)
    with client_of(cloudflare) as client:
        with pytest.raises(error):
            client.create_credential(SCOPE, ttl_s=900)
        client.create_credential(SCOPE, ttl_s=900)


def test_an_answer_without_a_credential_is_no_credential(monkeypatch, cloudflare):
    """A change of the API is said, not guessed around."""
    monkeypatch.setattr(cloudflare, "_issue", lambda _request: {"accessKeyId": "only"})
    with client_of(cloudflare) as client, pytest.raises(UnexpectedResponse):
        client.create_credential(SCOPE, ttl_s=900)


def test_a_box_is_lent_the_tars_for_reading_and_its_own_folder():
    """And nothing of its neighbour, whose name begins like its own."""
    scopes = choose_scopes("val-1", **URLS)
    assert scopes["source"] == Scope("transcribed", "object-read-only", "tars/")
    assert scopes["results"] == Scope("results", "object-read-write", "shards/val-1/")
    assert choose_scopes("val-1", source_url="s3://t", results_url="s3://r/p")["results"].prefix == "p/shards/val-1/"
    with pytest.raises(BadInput, match="file:///x"):
        choose_scopes("val-1", source_url="file:///x", results_url="s3://r")
    with pytest.raises(BadInput, match="worker id"):
        choose_scopes("../val-2", **URLS)


def test_a_loan_is_renewed_when_half_of_it_is_over(ledger, cloudflare):
    """Every box with a key is lent both credentials; at the next tick nothing is due."""
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
    assert all(TTL_S - 60 < loan.expires_in_s <= TTL_S for loan in read_credential_status(ledger))


def test_a_cloudflare_that_is_away_is_a_note_and_not_the_end_of_a_tick(ledger, cloudflare):
    """Boxes work on with what they hold; an operator reads why it is not renewed."""
    issue_box_key(ledger, "val-1")
    cloudflare.next_statuses.append(503)
    with client_of(cloudflare) as client:
        (note,) = CredentialIssuer(ledger, client, **URLS).renew()
    assert "Cloudflare" in note
    assert fetch(ledger, "SELECT * FROM validation.issued_credentials") == []


def test_who_has_no_token_lends_nothing(ledger, monkeypatch):
    """Then boxes are told keys of the operator's choice; a token without its key is refused."""
    with open_issuer(ledger, Settings()) as issuer:
        assert issuer is None
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "t")
    with pytest.raises(BadInput, match="CLOUDFLARE_ACCOUNT_ID"), open_issuer(ledger, Settings()):
        pass


class Clock:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("validation.services.time", clock)
    return clock


def test_a_box_takes_up_a_newer_credential(ledger, clock):
    """It asks the ledger at most every half minute, however often the store's client asks it."""
    issue_box_key(ledger, "ann")
    borrowed = CredentialCache(ledger, "ann", "results")
    with pytest.raises(NoCredentialIssued, match="CLOUDFLARE_API_TOKEN"):
        borrowed()
    for name in ("one", "two"):
        store_credential(ledger, "ann", "results", StoreCredential(name, "s", "t"), ttl_s=600)
        clock.now += 1 if name == "two" else 31
        assert borrowed().access_key_id == "one"
    clock.now += 30
    assert borrowed().access_key_id == "two"


def test_a_ledger_that_is_away_is_no_matter_while_a_credential_lasts(monkeypatch, ledger, clock):
    """Only when it has ended, the outage is an outage."""

    def away(*_):
        raise Unreachable("the ledger", "h", "check it", "gone")

    lent = StoreCredential("one", "s", "t", datetime.now(UTC) + timedelta(minutes=4))
    monkeypatch.setattr("validation.services.get_credential", lambda *_: lent)
    borrowed = CredentialCache(ledger, "ann", "results")
    assert borrowed() is lent
    monkeypatch.setattr("validation.services.get_credential", away)
    clock.now += 60
    assert borrowed() is lent
    object.__setattr__(lent, "expires_at", datetime.now(UTC) - timedelta(seconds=1))
    clock.now += 60
    with pytest.raises(Unreachable):
        borrowed()


@pytest.fixture(scope="module")
def guarded(session_folder):
    """A store that honours credentials, and a Cloudflare that lends them."""
    store, cloudflare = start_guarded(session_folder / f"guarded-{uuid4().hex[:6]}", "transcribed", "results")
    with cloudflare:
        yield store, cloudflare
    store.stop()


def test_a_box_writes_in_its_own_folder_and_nowhere_else(ledger, log_in, guarded, monkeypatch):
    """From the token of the control plane to the refusal of the store, all of it real but Cloudflare.

    A box in wrong hands reads tars and spoils its own shards. It cannot write, overwrite, delete, read or list a
    neighbour's, nor change a tar.
    """
    store, cloudflare = guarded
    for name, value in (store.admin_environment() | cloudflare.client_environment()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VFLEET_RESULTS_URL", "s3://results")
    monkeypatch.setattr(cloudflare, "parent_access_key_id", store.admin_environment()["R2_ACCESS_KEY_ID"])
    source, results = open_box_stores(Settings(), ledger)  # as the control plane
    put_once(source, "v.tar", b"tar")
    put_once(results, "shards/val-10/theirs", b"theirs")
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
    put_once(results, "shards/val-1/mine", b"mine")
    assert get_bytes(results, "shards/val-1/mine") == b"mine"
    delete_object(results, "shards/val-1/mine")
    intrusions = {
        "write beside": lambda: put_once(results, "shards/val-10/mine", b"x"),
        "write above": lambda: put_once(results, "shards/mine", b"x"),
        "write by a crooked name": lambda: put_once(results, "shards/val-1/../val-10/mine", b"x"),
        "overwrite": lambda: put_once(results, "shards/val-10/theirs", b"x"),
        "delete": lambda: delete_object(results, "shards/val-10/theirs"),
        "read": lambda: get_bytes(results, "shards/val-10/theirs"),
        "list": lambda: list(list_keys(results, "shards/val-10")),
        "change a tar": lambda: put_once(source, "w.tar", b"x"),
        "delete a tar": lambda: delete_object(source, "v.tar"),
        "open the other store": lambda: get_credential(engine, "val-10", "results"),
    }
    for what, intrude in intrusions.items():
        with pytest.raises(FleetError) as refused:
            intrude()
        assert not isinstance(refused.value, Unreachable), what
    with pytest.raises(StoreRefused):
        put_once(results, "shards/val-10/mine", b"x")
