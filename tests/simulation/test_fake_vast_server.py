"""The fake behind a real socket: what a client sees of it, and what only the vendor knows."""

import httpx
import pytest
from pydantic import SecretStr

from simulation.fake_vast.cloud import ACCOUNT_KEY
from simulation.fake_vast.service import EmbeddedVast
from tests.support.vast_helpers import ORDER
from validation.vast.client import VastClient
from validation.vast.errors import OutcomeUnknown
from validation.vast.offer_filter import OfferFilter


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedVast(tmp_path_factory.mktemp("vast"), seed=3) as server:
        yield server


@pytest.fixture
def http_client(server):
    environment = server.client_environment()
    with VastClient(SecretStr(environment["VAST_API_KEY"]), environment["VAST_URL"]) as client:
        yield client


def get(server, path, **options) -> httpx.Response:
    headers = {"Authorization": f"Bearer {ACCOUNT_KEY}"}
    return httpx.get(f"{server.url}{path}", headers=headers, trust_env=False, **options)


def test_rental_over_http_bills_and_ends(server, http_client):
    """A rental whose create got no response bills as well, although the client does not know its id."""
    server.play(lifecycles={"ok": 1.0})
    offers = http_client.search(OfferFilter().query())
    server.play(next={"create": ["commit_then_drop"]})
    with pytest.raises(OutcomeUnknown):
        http_client.create(offers[0].id, ORDER)
    server.advance(3600)
    (machine,) = http_client.list_instances().instances
    assert (machine.label, machine.actual_status) == ("l", "running")
    state = server.state()
    assert state["living"][0]["speed"] > 0
    assert state["billed_usd"] == pytest.approx(1000.0 - http_client.read_credit(), abs=1e-3)
    http_client.destroy(machine.id)
    assert server.state()["living"] == []
    server.advance(10)
    listing = http_client.list_instances()
    assert listing.complete
    assert listing.instances == ()


def test_fake_has_the_vendors_quirks(server):
    """The old listing is refused, the account's address redirects, and a filter on `id` finds nothing."""
    assert get(server, "/api/v0/instances/").json()["error"] == "deprecated_endpoint"
    assert get(server, "/api/v0/users/current/").status_code == 301
    assert get(server, "/api/v0/instances/5/").json() == {"instances": None}
    body = {"id": {"eq": 20_000_000}}
    headers = {"Authorization": f"Bearer {ACCOUNT_KEY}"}
    found = httpx.post(f"{server.url}/api/v0/bundles/", json=body, headers=headers, trust_env=False)
    assert found.json()["offers"] == []
