"""The client rents at most once, trusts only complete listings, and tells refusals apart."""

import logging

import pytest
from pydantic import SecretStr

from tests.support.vast_helpers import ORDER, client_of
from validation.errors import Unreachable
from validation.vast.client import VastClient
from validation.vast.errors import (
    CreatedButFailed,
    CreditExhausted,
    OfferGone,
    OutcomeUnknown,
    RequestRefused,
    SearchQuotaExceeded,
    Throttled,
    VastKeyMissing,
    VastKeyRefused,
)
from validation.vast.offer_filter import OfferFilter


def free_offer(fake, n=0) -> int:
    return [number for number, offer in fake.cloud.offers.items() if offer["rentable"]][n]


def rent(client, fake, count) -> list[int]:
    return [client.create(free_offer(fake), ORDER | {"label": f"l{n}"}).instance_id for n in range(count)]


@pytest.mark.parametrize("failure", ["commit_then_drop", "commit_then_504", "slow", "truncated"])
def test_create_with_a_lost_response_is_not_repeated(fake, client, failure):
    """The vendor's own client would have rented three times: this one rents once, and reports that the outcome is
    unknown."""
    fake.connection.play_next("create", failure)
    with pytest.raises(OutcomeUnknown):
        client.create(free_offer(fake), ORDER)
    assert len(fake.cloud.rentals) == 1
    assert [method for method, _ in fake.requests] == ["PUT"]


def test_create_answered_by_a_proxy_is_unknown(fake, client):
    """A 502 with effect and one without look the same."""
    fake.connection.play_next("create", "reject_then_502", "html_502", "error_500")
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            client.create(free_offer(fake), ORDER)
    assert fake.cloud.rentals == {}


def test_refusals_of_a_create_are_told_apart(fake, client):
    """A stale offer, an empty account, a bad request and a refusal with status 200 have their own errors, and nothing
    was rented."""
    taken = free_offer(fake)
    client.create(taken, ORDER)
    with pytest.raises(OfferGone, match=str(taken)):
        client.create(taken, ORDER)
    with pytest.raises(RequestRefused, match="invalid_args"):
        client.create(free_offer(fake), {"label": "no image"})
    fake.connection.play_next("create", "refuse_politely")
    with pytest.raises(RequestRefused, match="200 internal"):
        client.create(free_offer(fake), ORDER)
    fake.cloud.credit_usd = 0
    with pytest.raises(CreditExhausted, match="top it up"):
        client.create(free_offer(fake), ORDER)
    assert len(fake.cloud.rentals) == 1


def test_refused_create_that_left_an_instance_names_it(fake, client):
    """A bid that is too low is refused, and yet leaves a stopped instance that bills its disk."""
    with pytest.raises(CreatedButFailed) as caught:
        client.create(free_offer(fake), ORDER | {"price": 0.001})
    assert caught.value.instance_id in fake.cloud.rentals


def test_wrong_key_is_reported_as_such(fake):
    """The vendor answers 404 to a bad key: read by its status, every instance would seem to be gone."""
    with client_of(fake, "wrong") as client:
        for call in (client.list_instances, client.read_credit, lambda: client.destroy(1), lambda: client.search({})):
            with pytest.raises(VastKeyRefused, match=r"Invalid user key.*check VAST_API_KEY"):
                call()


def test_missing_key_is_bad_input():
    """Before anything is sent."""
    with pytest.raises(VastKeyMissing, match="VAST_API_KEY is not set"):
        VastClient(SecretStr(""), "http://fake")


def test_rate_limiter_keeps_the_vendors_limits(fake, client):
    """Thirty creates take thirty intervals, and none is throttled."""
    started = fake.cloud.now
    numbers = rent(client, fake, 30)
    assert fake.cloud.now - started > 29 * 4.5
    for number in numbers:
        client.destroy(number)
    assert len(client.list_instances().instances) <= 3  # listings lag
    assert fake.throttle.refusals == 0


def test_throttled_create_is_not_repeated_and_delays_the_next(fake, client):
    """Another program on the same key was faster: nothing was rented, and the next create is later."""
    fake.throttle.free_at["create", "account-key"] = fake.cloud.now + 10
    with pytest.raises(Throttled):
        client.create(free_offer(fake), ORDER)
    client.create(free_offer(fake), ORDER)
    assert len(fake.cloud.rentals) == 1


def test_reads_and_destroys_are_retried(fake, client):
    """A repeated read or destroy has no further effect, so the client retries transient failures."""
    (number,) = rent(client, fake, 1)
    fake.connection.play_next("account", "html_502", "error_500")
    assert client.read_credit() > 0
    fake.connection.play_next("destroy", "commit_then_drop")
    client.destroy(number)  # the second request finds nothing, and that is success
    assert fake.cloud.living() == []
    fake.connection.play_next("destroy", *["html_502"] * 3)
    with pytest.raises(OutcomeUnknown):
        client.destroy(number)
    fake.connection.play_next("account", *["slow"] * 3)
    with pytest.raises(Unreachable):
        client.read_credit()


def test_listing_of_many_pages_is_complete(fake, client):
    """Sixty instances are three pages, each instance once."""
    fake.throttle.strict = False
    numbers = rent(client, fake, 60)
    fake.advance(10)
    fake.cloud.lifecycles = {"ok": 1}
    listing = client.list_instances()
    assert listing.complete
    assert [instance.id for instance in listing.instances] == numbers
    assert len(listing.of_fleet("l1")) == 11


@pytest.mark.parametrize(
    "failures",
    [
        ["none", *["error_500"] * 3],  # the second page
        ["none", *["truncated"] * 3],
        ["wrong_total", "wrong_total"],
        ["refuse_politely"],
        ["slow"] * 3,
    ],
    ids=lambda failures: failures[-1],
)
def test_incomplete_listing_says_so(fake, client, failures):
    """An incomplete listing carries the reason, so it is not mistaken for one with fewer instances."""
    rent(client, fake, 30)
    fake.advance(10)
    fake.connection.play_next("list", *failures)
    listing = client.list_instances()
    assert not listing.complete
    assert listing.why_incomplete


def test_search_returns_readable_offers(fake, client):
    """At most 64, cheapest first, each meeting the filter; rows with missing fields are left out."""
    bounds = OfferFilter()
    found = client.search(bounds.query())
    assert 10 < len(found) <= 64
    assert [offer.dph_total for offer in found] == sorted(offer.dph_total for offer in found)
    assert {bounds.rejection_reason(offer) for offer in found} <= {None, "usd_per_hour"}
    number = found[0].id
    fake.cloud.offers[number]["cuda_max_good"] = "none"
    assert number not in {offer.id for offer in client.search({"limit": 64})}


def test_search_quota_is_told_from_throttling(fake, client):
    """One passes in seconds, the other tomorrow, so the request is not repeated."""
    fake.throttle.rows_read[int(fake.cloud.now // 86_400)] = 19_990
    with pytest.raises(SearchQuotaExceeded, match="daily search quota"):
        client.search({"limit": 64})
    assert len(fake.requests) == 1


def test_secrets_reach_neither_logs_nor_instances(fake, client, caplog):
    """A listing contains every box's environment in clear text: none of it is kept, and the key is in no message."""
    caplog.set_level(logging.DEBUG)
    rent(client, fake, 1)
    fake.advance(10)
    fake.connection.play_next("list", "html_502")
    listing = client.list_instances()
    shown = caplog.text + repr(listing)
    assert "attempt 1 of 3" in shown
    assert "account-key" not in shown
    assert "s3cret" not in shown
