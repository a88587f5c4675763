"""Each tick issues box keys and store credentials to the boxes that it rents, and renews them at half of their life."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from simulation.fake_cloudflare import FakeCloudflare
from tests.support.fleet_world import World
from tests.support.ledger_helpers import execute, fetch
from validation.credentials.issuer import CloudflareClient, CredentialIssuer
from validation.ledger.boxes import read_credential_status


@pytest.fixture
def cloudflare():
    with FakeCloudflare() as fake:
        yield fake


@pytest.fixture
def world(ledger, cloudflare):
    """A fleet of two whose reconciler has an R2 token."""
    world = World(ledger)
    client = CloudflareClient(
        SecretStr(cloudflare.api_token), account_id=cloudflare.account_id,
        parent_access_key_id=SecretStr(cloudflare.parent_access_key_id), base_url=cloudflare.url,
    )  # fmt: skip
    world.context = replace(world.context, issuer=CredentialIssuer(ledger, client, "s3://transcribed", "s3://results"))
    world.queue(50)
    world.want(2)
    with client, world.client:
        yield world


def test_each_rented_box_gets_its_own_key_and_credentials(world, ledger, cloudflare):
    """The environment of a box has its own box key and no key of a store; its credentials are in the ledger."""
    world.ticks(3)
    environments = [contract.order["env"] for contract in world.cloud.living()]
    assert (
        {env["WORKER_ID"] for env in environments}
        == {"val-1", "val-2"}
        == {issued.worker_id for issued in read_credential_status(ledger)}
    )
    assert len({env["VFLEET_BOX_KEY"] for env in environments}) == 2
    assert not any("R2_ACCESS_KEY_ID" in env for env in environments)
    assert {tuple(request.get("prefixes", ())) for request in cloudflare.granted} == {
        (),
        ("shards/val-1/",),
        ("shards/val-2/",),
    }


def test_nothing_is_rented_while_credentials_cannot_be_issued(world, cloudflare):
    """While Cloudflare is down the tick rents nothing and says so; the next tick rents."""
    cloudflare.next_statuses.append(503)
    report = world.tick()
    assert world.cloud.living() == []
    assert "Cloudflare" in report.problem
    world.tick()
    assert len(world.cloud.living()) == 2


def test_tick_renews_credentials_that_are_half_over(world, ledger, cloudflare):
    """Only the credentials that are due are renewed."""
    world.ticks(3)
    granted = len(cloudflare.granted)
    world.tick()
    assert len(cloudflare.granted) == granted
    execute(ledger, "UPDATE validation.issued_credentials SET issued_at = issued_at - interval '4 h', "
                    "expires_at = expires_at - interval '4 h' WHERE worker_id = 'val-1'")  # fmt: skip
    world.tick()
    assert len(cloudflare.granted) == granted + 2
    assert not any(issued.is_due for issued in read_credential_status(ledger))


def test_box_gets_a_key_without_a_cloudflare_token(ledger):
    """Without an R2 token the operator's keys open the stores, and each box still has its own box key."""
    world = World(ledger)
    world.queue(50)
    world.want(1)
    with world.client:
        world.ticks(2)
    (contract,) = world.cloud.living()
    assert contract.order["env"]["VFLEET_BOX_KEY"]
    assert fetch(ledger, "SELECT label IS NOT NULL FROM validation.box_keys") == [(True,)]
