"""A tick gives each machine that it rents a key and credentials of its own, and renews what is half over."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from simulation.fake_cloudflare import FakeCloudflare
from tests.support.fleet_world import World
from tests.support.ledger_helpers import execute, fetch
from validation.credentials.cloudflare import CloudflareClient
from validation.credentials.issuer import CredentialIssuer
from validation.ledger.box_credentials import read_credential_status


@pytest.fixture
def cloudflare():
    with FakeCloudflare() as fake:
        yield fake


@pytest.fixture
def world(ledger, cloudflare):
    """A fleet of two whose control plane has a token to lend from."""
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


def test_each_rented_machine_has_a_key_and_a_loan_of_its_own(world, ledger, cloudflare):
    """Its environment has its key, which opens its name alone; no key of the store travels with the order."""
    world.ticks(3)
    told = [contract.order["env"] for contract in world.cloud.living()]
    assert (
        {env["WORKER_ID"] for env in told}
        == {"val-1", "val-2"}
        == {loan.worker_id for loan in read_credential_status(ledger)}
    )
    assert len({env["VFLEET_BOX_KEY"] for env in told}) == 2
    assert not any("R2_ACCESS_KEY_ID" in env for env in told)
    assert {tuple(request.get("prefixes", ())) for request in cloudflare.granted} == {
        (),
        ("shards/val-1/",),
        ("shards/val-2/",),
    }


def test_nothing_is_rented_that_could_open_no_store(world, cloudflare):
    """A Cloudflare that is away costs no money; the tick says so, and the next one rents."""
    cloudflare.next_statuses.append(503)
    report = world.tick()
    assert world.cloud.living() == []
    assert "Cloudflare" in report.problem
    world.tick()
    assert len(world.cloud.living()) == 2


def test_a_tick_renews_what_is_half_over(world, ledger, cloudflare):
    """Of the machines that are there, and of no other."""
    world.ticks(3)
    minted = len(cloudflare.granted)
    world.tick()
    assert len(cloudflare.granted) == minted
    execute(ledger, "UPDATE validation.issued_credentials SET issued_at = issued_at - interval '4 h', "
                    "expires_at = expires_at - interval '4 h' WHERE worker_id = 'val-1'")  # fmt: skip
    world.tick()
    assert len(cloudflare.granted) == minted + 2
    assert not any(loan.is_due for loan in read_credential_status(ledger))


def test_without_a_token_a_machine_still_has_its_key(ledger):
    """Then the operator tells boxes what opens the stores; who they are is told by the key all the same."""
    world = World(ledger)
    world.queue(50)
    world.want(1)
    with world.client:
        world.ticks(2)
    (contract,) = world.cloud.living()
    assert contract.order["env"]["VFLEET_BOX_KEY"]
    assert fetch(ledger, "SELECT label IS NOT NULL FROM validation.box_keys") == [(True,)]
