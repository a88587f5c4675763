"""Filter offers and rank them by value.

The operator's filter gives a search query, and checks the offers that the search returns. Offers that pass are ranked
by the expected dollars per 1,000 segments.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from validation.domain import Seconds
from validation.errors import BadInput
from validation.ledger.fleet import RentalRequest
from validation.vast.listings import IMAGE_GB, Offer, SearchResult

MAX_OFFERS = 64
"""The vendor's maximum number of offers per search."""
MB_PER_GB = 1000
MAX_BANNED_IN_QUERY = 50
"""Maximum number of machine ids that a search excludes. The plan checks all bans again."""


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """Bounds that an offer must meet.

    The operator can set GPU, CUDA version, disk, download speed and price. The other bounds exclude machines that are
    known to fail.

    Raises:
        BadInput: the filter has no GPU, or a bound is out of its range.
    """

    gpu_names: tuple[str, ...] = ("RTX 3090", "RTX 4090")
    disk_gb: float = 50.0
    """Disk space to rent, in GB."""
    inet_down_mbps: float = 200.0
    """Minimum download speed in Mb/s."""
    max_usd_per_hour: float = 0.60
    """The maximum price of GPU, disk and traffic together."""
    min_reliability: float = 0.95
    """Minimum of the vendor's reliability score, from 0 to 1."""
    max_inet_usd_per_gb: float = 0.01
    min_cuda: float = 13.0
    """The CUDA version that the image was built for. A machine whose driver supports only an older version cannot run
    the image."""
    min_cpu_cores: float = 6.0
    """Number of hyperthreads. docs/sizing.md: the 25 segments/s of an RTX 3090 need 4 cores for 48 kHz Opus. The factor
    1.5 is applied because the vendor counts hyperthreads as cores."""
    min_ram_gb: float = 16.0
    """docs/sizing.md: two flow runs take at most 5.4 GiB plus the videos being fetched; loading weights takes 4 GB."""
    min_duration_h: float = 24.0
    """Minimum time for which the host offers the machine, in hours."""
    max_per_host: int = 3
    """Maximum number of a fleet's boxes on machines of one host."""

    def __post_init__(self) -> None:
        if not self.gpu_names:
            raise BadInput("the filter names no GPU: give at least one, such as RTX 3090")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise BadInput(f"the filter's {field.name} is {value}: it cannot be below zero")
        if self.min_reliability > 1:
            raise BadInput(f"the filter's min_reliability is {self.min_reliability}: it is a share, at most 1")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the output of ``to_json``. A missing field gets its default, and an unknown field is ignored."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        if "gpu_names" in values:
            values["gpu_names"] = tuple(values["gpu_names"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"gpu_names": list(self.gpu_names)}

    def query(self, *, banned_machines: Collection[int] = ()) -> dict[str, Any]:
        """Return the body of a search for offers within these bounds, cheapest first."""
        query: dict[str, Any] = {
            "type": "on-demand",
            "verified": {"eq": True},
            "external": {"eq": False},
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "num_gpus": {"eq": 1},
            "gpu_name": {"in": list(self.gpu_names)},
            "disk_space": {"gte": self.disk_gb},
            "inet_down": {"gte": self.inet_down_mbps},
            "inet_down_cost": {"lte": self.max_inet_usd_per_gb},
            "reliability2": {"gte": self.min_reliability},
            "cuda_max_good": {"gte": self.min_cuda},
            "cpu_cores_effective": {"gte": self.min_cpu_cores},
            "cpu_ram": {"gte": self.min_ram_gb * MB_PER_GB},
            "duration": {"gte": self.min_duration_h * 3600},
            "dph_total": {"lte": self.max_usd_per_hour},
            "allocated_storage": self.disk_gb,
            "order": [["dph_total", "asc"]],
            "limit": MAX_OFFERS,
        }
        if banned_machines:
            query["machine_id"] = {"notin": sorted(banned_machines)[:MAX_BANNED_IN_QUERY]}
        return query

    def rejection_reason(self, offer: Offer) -> str | None:
        """Return the name of the first bound that an offer breaks; None if the offer meets all bounds.

        All bounds of the query are checked again, because some rows of a search do not match the query.
        """
        bounds = {
            "gpu_name": offer.gpu_name in self.gpu_names,
            "num_gpus": offer.num_gpus == 1,
            "verified": offer.verified,
            "disk_space": offer.disk_space >= self.disk_gb,
            "inet_down": offer.inet_down >= self.inet_down_mbps,
            "inet_down_cost": offer.inet_down_cost <= self.max_inet_usd_per_gb,
            "reliability": offer.reliability >= self.min_reliability,
            "cuda_max_good": offer.cuda_max_good >= self.min_cuda,
            "cpu_cores_effective": offer.cpu_cores_effective >= self.min_cpu_cores,
            "cpu_ram": offer.cpu_ram >= self.min_ram_gb * MB_PER_GB,
            "duration": offer.duration >= self.min_duration_h * 3600,
            "usd_per_hour": 0 < offer.usd_per_hour <= self.max_usd_per_hour,
        }
        return next((name for name, holds in bounds.items() if not holds), None)

    def without_price_limit(self) -> Self:
        """Return this filter without its price limit, to find the offers that the price limit excludes."""
        return replace(self, max_usd_per_hour=1000.0)


def explain_no_offers(offers: SearchResult, offer_filter: OfferFilter) -> str:
    """Return one sentence that explains to the operator why no offer meets the filter.

    Args:
        offers: the result of the search; if it was empty, the result of a search without the price limit.
        offer_filter: the operator's filter, with its price limit.
    """
    too_expensive = [offer for offer in offers if offer_filter.rejection_reason(offer) == "usd_per_hour"]
    if too_expensive:
        cheapest = min(offer.usd_per_hour for offer in too_expensive)
        return (
            f"no offer costs at most ${offer_filter.max_usd_per_hour:.3f} per hour all in: the cheapest costs "
            f"${cheapest:.3f}; raise --max-price"
        )
    if offers.unreadable and not offers:
        fields = ", ".join(f"{name} ({count})" for name, count in sorted(offers.unreadable.items()))
        return (
            f"{sum(offers.unreadable.values())} offers were found and none could be read, because a field is missing "
            f"or not a number: {fields}; the vendor's API may have changed, so this program must be updated"
        )
    return (
        f"the market has no {' or '.join(offer_filter.gpu_names)} that meets the filter at "
        f"${offer_filter.max_usd_per_hour:.3f} per hour: relax it, or wait"
    )


PREDICTED_SEGMENTS_PER_S: Mapping[str, float] = {"RTX 3090": 11.0, "RTX 4090": 18.0}
"""Segments per second of the suite on one GPU. The speed of the RTX 3090 was measured with all four models. The speed
of the RTX 4090 is predicted from it: the mean of the ratios of memory bandwidth (1.08) and of dense FP16 rate (2.3).
The speeds that a fleet measures replace both values."""

MEAN_STAY_HOURS = 12.0
"""Hours over which the cost of the image pull is spread in the comparison of offers."""

MAX_BOOT_TIMEOUT_S: Seconds = 1200.0


def success_probability(reliability: float) -> float:
    """Return the share of rentals that became a working box: 23 % below a reliability of 0.98, else 45 %.

    The shares were measured on 54 rentals.
    """
    return 0.45 if reliability >= 0.98 else 0.23  # noqa: PLR2004 - see above


def expected_usd_per_1000_segments(offer: Offer, measured: Mapping[str, float]) -> float:
    """Return the expected dollars per 1,000 segments, including the cost of rentals that fail after their image pull.

    Args:
        offer: the offer of a machine.
        measured: segments per second by GPU, for the GPUs whose speed boxes of the fleet have shown.
    """
    rate = measured.get(offer.gpu_name) or PREDICTED_SEGMENTS_PER_S.get(offer.gpu_name) or 1.0
    per_hour = offer.usd_per_hour + offer.usd_once / MEAN_STAY_HOURS
    return per_hour / (3.6 * rate * success_probability(offer.reliability))


def rank_offers(offers: Iterable[Offer], offer_filter: OfferFilter, measured: Mapping[str, float]) -> list[Offer]:
    """Return the offers that meet the filter, best value first. A machine with several offers occurs once."""
    best: dict[int, Offer] = {}
    for offer in sorted(offers, key=lambda offer: (expected_usd_per_1000_segments(offer, measured), offer.id)):
        if offer_filter.rejection_reason(offer) is None:
            best.setdefault(offer.machine_id, offer)
    return list(best.values())


def boot_timeout_s(offer: Offer) -> int:
    """Return the time-out in seconds from the request to a running container.

    It is two minutes plus twice the time of the image pull at the machine's download speed, at most
    ``MAX_BOOT_TIMEOUT_S``.
    """
    pull_s = IMAGE_GB * 8_000 / offer.inet_down
    return int(min(MAX_BOOT_TIMEOUT_S, 120.0 + 2 * pull_s))


def to_rental_request(offer: Offer) -> RentalRequest:
    """Return the fields of an offer that the ledger stores."""
    return RentalRequest(
        offer_id=offer.id,
        machine_id=offer.machine_id,
        host_id=offer.host_id,
        gpu_name=offer.gpu_name,
        usd_per_hour=round(offer.usd_per_hour, 6),
        usd_once=round(offer.usd_once, 6),
        boot_timeout_s=boot_timeout_s(offer),
    )
