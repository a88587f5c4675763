"""The ranking of offers: expected dollars for the work, and what the ledger keeps of the offer that is rented."""

from collections.abc import Iterable, Mapping

from validation.domain import Seconds
from validation.ledger.fleet import RentalRequest
from validation.vast.offer_filter import OfferFilter
from validation.vast.offers import IMAGE_GB, Offer

PREDICTED_SEGMENTS_PER_S: Mapping[str, float] = {"RTX 3090": 11.0, "RTX 4090": 18.0}
"""Speed of the suite on one GPU. The 3090 was measured (all four models); the 4090 is predicted from it, by the
mean of the ratios of memory bandwidth (1.08) and of dense FP16 rate (2.3). Measured speeds replace both."""

MEAN_STAY_HOURS = 12.0
"""Hours over which the cost of the image pull is spread when offers are compared."""

MAX_BOOT_TIMEOUT_S: Seconds = 1200.0


def success_probability(reliability: float) -> float:
    """The share of rentals that became a working box: 23 % below a reliability of 0.98, 45 % above (54 rentals)."""
    return 0.45 if reliability >= 0.98 else 0.23  # noqa: PLR2004 - see above


def expected_usd_per_1000_segments(offer: Offer, measured: Mapping[str, float]) -> float:
    """Dollars per 1,000 segments, including the cost of rentals that fail after their pull.

    Args:
        offer: the machine.
        measured: segments per second by GPU, where boxes of the fleet have shown it.
    """
    rate = measured.get(offer.gpu_name) or PREDICTED_SEGMENTS_PER_S.get(offer.gpu_name) or 1.0
    per_hour = offer.usd_per_hour + offer.usd_once / MEAN_STAY_HOURS
    return per_hour / (3.6 * rate * success_probability(offer.reliability))


def rank_offers(offers: Iterable[Offer], offer_filter: OfferFilter, measured: Mapping[str, float]) -> list[Offer]:
    """The offers that meet the filter, best value first; one per machine, however many slices of it are offered."""
    best: dict[int, Offer] = {}
    for offer in sorted(offers, key=lambda offer: (expected_usd_per_1000_segments(offer, measured), offer.id)):
        if offer_filter.rejection_reason(offer) is None:
            best.setdefault(offer.machine_id, offer)
    return list(best.values())


def boot_timeout_s(offer: Offer) -> int:
    """Seconds from the request to a running container: twice the pull at the line's own speed, and two minutes."""
    pull_s = IMAGE_GB * 8_000 / offer.inet_down
    return int(min(MAX_BOOT_TIMEOUT_S, 120.0 + 2 * pull_s))


def to_rental_request(offer: Offer) -> RentalRequest:
    """What the ledger keeps of an offer."""
    return RentalRequest(
        offer_id=offer.id,
        machine_id=offer.machine_id,
        host_id=offer.host_id,
        gpu_name=offer.gpu_name,
        usd_per_hour=round(offer.usd_per_hour, 6),
        usd_once=round(offer.usd_once, 6),
        boot_timeout_s=boot_timeout_s(offer),
    )
