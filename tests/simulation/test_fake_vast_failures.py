"""The fake's failures are those of the vendor."""

import pytest

from simulation.fake_vast.cloud import ACCOUNT_KEY
from simulation.fake_vast.failures import STANDARD, WEIGHTS, FailureMix
from simulation.fake_vast.lifecycle import draw_phases
from simulation.fake_vast.transport import KINDS, Request
from tests.support.vast_helpers import ORDER, client_of
from validation.vast.errors import CreatedButFailed, OfferGone, SpendLimited, VastKeyRefused
from validation.vast.offer_filter import OfferFilter


def ask(fake, method, path, body=None, *, key=ACCOUNT_KEY):
    return fake.handle(Request(method, path, {}, key, body or {}))


def free_offers(fake) -> list[int]:
    return [number for number, offer in fake.cloud.offers.items() if offer["rentable"]]


@pytest.fixture
def calm(fake):
    """A vendor without fault."""
    fake.play(FailureMix())
    return fake


def test_standard_mix_has_every_failure_of_the_fake(fake):
    """Every lifecycle has phases, every connection failure is known, and the mix has every kind of both."""
    assert sum(WEIGHTS.values()) == 100
    offer = next(iter(fake.cloud.offers.values()))
    healthy = draw_phases(fake.cloud.rng, "ok", offer, "i")
    for lifecycle in set(STANDARD.lifecycles) - {"ok"}:
        life = draw_phases(fake.cloud.rng, lifecycle, offer, "i")
        assert [phase.status for phase in life] != [phase.status for phase in healthy] or life[-1].speed != 1
    played = {kind for kinds in STANDARD.transport.values() for kind in kinds}
    assert played == set(KINDS)


def test_lifecycle_of_a_machine_depends_only_on_the_seed(calm):
    """Two strategies meet the same market with the same failing machines."""
    other = type(calm)(seed=0)
    for each in (calm, other):
        each.cloud.lifecycles = WEIGHTS
    first, second = free_offers(calm)[:2]
    mine = {calm.cloud.create(n, ORDER).offer["machine_id"]: calm.cloud.rentals for n in (first, second)}
    theirs = [other.cloud.create(n, ORDER) for n in (second, first)]
    lifecycles = {rental.offer["machine_id"]: rental.lifecycle for rental in calm.cloud.rentals.values()}
    assert lifecycles == {rental.offer["machine_id"]: rental.lifecycle for rental in theirs}
    assert len(mine) == 2


def test_second_create_for_one_offer(calm):
    """A second create is refused in the vendor's way or in the documented way, or accepted within three seconds and
    fails."""
    number = free_offers(calm)[0]
    calm.cloud.create(number, ORDER)
    assert ask(calm, "PUT", f"/api/v0/asks/{number}/", ORDER).status == 400
    calm.play(FailureMix(race_mode="refuse_410"))
    assert ask(calm, "PUT", f"/api/v0/asks/{number}/", ORDER).status == 410
    with client_of(calm) as client, pytest.raises(OfferGone):
        client.create(number, ORDER)
    calm.play(FailureMix(race_mode="accept_both"))
    again = free_offers(calm)[0]
    assert ask(calm, "PUT", f"/api/v0/asks/{again}/", ORDER).status == 200
    assert ask(calm, "PUT", f"/api/v0/asks/{again}/", ORDER).status == 200
    calm.advance(60)
    second = calm.cloud.living()[-1]
    assert "port is already allocated" in second.phase(calm.cloud.now).message
    assert ask(calm, "PUT", f"/api/v0/asks/{again}/", ORDER).status == 400, "later than three seconds it is gone"


def test_filter_rejects_offers_that_a_search_leaks(calm):
    """The vendor's searches return some rows that break their filter; such a row is never ranked."""
    calm.play(FailureMix(leaky_share=1.0))
    bounds = OfferFilter(max_usd_per_hour=0.3)
    with client_of(calm) as client:
        found = client.search(bounds.query())
    broken = [offer for offer in found if bounds.rejection_reason(offer) not in {None, "usd_per_hour"}]
    assert broken


def test_create_at_the_spend_limit_is_refused(calm):
    """The error is neither about credit nor about the offer, and nothing was rented."""
    calm.play(FailureMix(spend_limit_usd_per_hour=0.0))
    calm.cloud.create(free_offers(calm)[0], ORDER)
    with client_of(calm) as client, pytest.raises(SpendLimited, match="ask the vendor to raise it"):
        client.create(free_offers(calm)[0], ORDER)
    assert len(calm.cloud.rentals) == 1


def test_refusal_that_left_an_instance_names_it(calm):
    """The result of a create that half succeeded."""
    calm.connection.play_next("create", "commit_then_refuse")
    with client_of(calm) as client, pytest.raises(CreatedButFailed) as caught:
        client.create(free_offers(calm)[0], ORDER)
    assert [rental.id for rental in calm.cloud.living()] == [caught.value.instance_id]


def test_interruptible_rentals_are_outbid_and_some_resume(calm):
    """By chance, and on-demand ones never. Those that resume bill again."""
    calm.play(FailureMix(outbids_per_hour=3.0))
    bids = [calm.cloud.create(number, ORDER | {"price": 1.0}) for number in free_offers(calm)[:20]]
    firm = calm.cloud.create(free_offers(calm)[0], ORDER)
    calm.advance(1800)
    calm.advance(1800)
    outbid = [rental for rental in bids if rental.stopped_at is not None]
    assert len(outbid) > 10
    assert {rental.status(calm.cloud.now) for rental in outbid} == {"exited", "stopped"}
    assert firm.stopped_at is None
    calm.play(FailureMix())
    calm.advance(7200)
    calm.advance(120)
    assert 0 < sum(rental.stopped_at is None for rental in outbid) < len(outbid)


def test_other_accounts_rent_and_return_offers(calm):
    """A found offer may be gone when it is requested; it returns under another id."""
    before = set(free_offers(calm))
    calm.play(FailureMix(takings_per_hour=0.5))
    calm.advance(3600)
    gone = before - set(free_offers(calm))
    assert 100 < len(gone) < 220
    calm.play(FailureMix())
    calm.advance(30_000)
    assert len(free_offers(calm)) == len(before)
    assert not gone & set(free_offers(calm))


@pytest.mark.parametrize("status", [404, 401])
def test_wrong_key_is_refused_with_either_status(calm, status):
    """The vendor answers 404 and documents 401; an instance's own key opens nothing else."""
    calm.play(FailureMix(auth_status=status))
    assert ask(calm, "GET", "/api/v1/instances/", key="wrong").status == status
    with client_of(calm, "wrong") as client, pytest.raises(VastKeyRefused, match="check VAST_API_KEY"):
        client.read_credit()
    rental = calm.cloud.create(free_offers(calm)[0], ORDER)
    assert ask(calm, "GET", "/api/v1/instances/", key=rental.key).status == 403
    assert ask(calm, "GET", f"/api/v0/instances/{rental.id}/", key=rental.key).status == 200


def test_bulk_calls_rent_change_and_destroy(calm):
    """A bulk call takes at most 64 items, and an offer that is gone does not stop the others."""
    numbers = free_offers(calm)[:3]
    calm.cloud.create(numbers[0], ORDER)
    made = ask(calm, "POST", "/api/v0/asks/bulk/", ORDER | {"ids": numbers}).body["new_contracts"]
    assert len(made) == 2
    ask(calm, "PUT", "/api/v0/instances/", {"ids": made, "label": "both"})
    assert [calm.cloud.rentals[number].label for number in made] == ["both", "both"]
    ask(calm, "DELETE", "/api/v0/instances/", {"instance_ids": made})
    assert len(calm.cloud.living()) == 1
    assert ask(calm, "POST", "/api/v0/asks/bulk/", ORDER | {"ids": list(range(65))}).status == 400


def test_market_metrics_show_supply_and_prices(calm):
    """By GPU, without charge."""
    shown = {gpu["gpu_name"]: gpu for gpu in ask(calm, "GET", "/api/v0/metrics/gpu/current/").body["gpus"]}
    assert set(shown) == {"RTX 3090", "RTX 4090"}
    for gpu in shown.values():
        assert gpu["price_p10"] < gpu["price_median"] < gpu["price_p90"]
    assert sum(gpu["available"] for gpu in shown.values()) == len(free_offers(calm))


def test_traffic_of_a_worker_is_billed(calm):
    """The offer's price does not include traffic, so a cheap GPU on an expensive line is expensive."""
    number = free_offers(calm)[0]
    calm.cloud.offers[number] |= {"inet_down": 5000.0, "inet_down_cost": 0.026}
    rental = calm.cloud.create(number, ORDER)
    calm.advance(600)
    before = rental.usd_billed
    calm.advance(3600)
    traffic = rental.usd_billed - before - rental.dph_total
    assert 0.8 * 11.4 * 0.026 < traffic < 1.2 * 18.7 * 0.026
