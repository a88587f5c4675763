"""Machines on the market: which are good enough, and which are the best value for the work."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from validation.errors import BadInput
from validation.ledger.fleet import RentalRequest

PREDICTED_SEGMENTS_PER_S: Mapping[str, float] = {"RTX 3090": 11.0, "RTX 4090": 18.0}
"""What the suite does on one card. The 3090 was measured (all four models); the 4090 is predicted from it, by the
mean of the ratios of memory bandwidth (1.08) and of dense FP16 rate (2.3). Measured figures replace both."""

IMAGE_GB = 10.0
"""The worker image with its weights: what a machine pulls once."""

TRAFFIC_GB_PER_HOUR: Mapping[str, float] = {"RTX 3090": 15.0, "RTX 4090": 24.5}
"""Tars that a card reads in an hour, an upper bound: its segments of about 8 s, as 24 kB/s of compressed audio, twice,
for what is downloaded and not scored and for machines faster than their class."""

STAY_HOURS = 12.0
"""Over how long the pull is spread when offers are compared."""


def success_probability(reliability: float) -> float:
    """The share of rentals that became a useful machine: 23 % below a reliability of 0.98, 45 % above (54 rentals)."""
    return 0.45 if reliability >= 0.98 else 0.23  # noqa: PLR2004 - see above


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine on the market. The names are the vendor's; units are stated where they surprise."""

    id: int
    machine_id: int
    host_id: int
    gpu_name: str
    num_gpus: int
    dph_total: float
    """$/h with the disk that was asked for."""
    reliability: float
    disk_space: float
    """GB."""
    inet_down: float
    """Mb/s."""
    inet_down_cost: float
    """$/GB."""
    cuda_max_good: float
    cpu_cores_effective: float
    duration: float
    """Seconds for which its owner offers it."""
    verified: bool
    min_bid: float = 0.0
    """$/h from which it can be had, interruptibly."""

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self | None:
        """Read a row of a search; None if a field that decides is missing or not a number."""
        try:
            return cls(
                id=int(row["id"]),
                machine_id=int(row["machine_id"]),
                host_id=int(row["host_id"]),
                gpu_name=str(row["gpu_name"]),
                num_gpus=int(row["num_gpus"]),
                dph_total=float(row["dph_total"]),
                reliability=float(row.get("reliability2") or row["reliability"]),
                disk_space=float(row["disk_space"]),
                inet_down=float(row["inet_down"]),
                inet_down_cost=float(row.get("inet_down_cost") or 0.0),
                cuda_max_good=float(row["cuda_max_good"]),
                cpu_cores_effective=float(row["cpu_cores_effective"]),
                duration=float(row["duration"]),
                verified=row.get("verification") == "verified",
                min_bid=float(row.get("min_bid") or 0.0),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def usd_once(self) -> float:
        """What the first pull costs in traffic."""
        return IMAGE_GB * self.inet_down_cost

    @property
    def usd_per_hour(self) -> float:
        """Card, disk and the traffic of the work."""
        most = max(TRAFFIC_GB_PER_HOUR.values())
        return self.dph_total + TRAFFIC_GB_PER_HOUR.get(self.gpu_name, most) * self.inet_down_cost


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """What a machine must be. Card, disk and bandwidth are the user's; the rest keeps out what is known to fail."""

    gpu_names: tuple[str, ...] = ("RTX 3090", "RTX 4090")
    disk_gb: float = 50.0
    inet_down_mbps: float = 200.0
    max_usd_per_hour: float = 0.60
    """All in: card, disk and traffic."""
    min_reliability: float = 0.95
    max_inet_usd_per_gb: float = 0.01
    min_cuda: float = 13.0
    """Of the CUDA that the image was built for: a machine whose driver knows only an older one cannot run it."""
    min_cpu_cores: float = 4.0
    min_duration_h: float = 24.0
    max_per_host: int = 3

    def __post_init__(self) -> None:
        if not self.gpu_names:
            raise BadInput("the filter names no card: give at least one, such as RTX 3090")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise BadInput(f"the filter's {field.name} is {value}: it cannot be below zero")
        if self.min_reliability > 1:
            raise BadInput(f"the filter's min_reliability is {self.min_reliability}: it is a share, at most 1")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote; what it lacks has its default."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        if "gpu_names" in values:
            values["gpu_names"] = tuple(values["gpu_names"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"gpu_names": list(self.gpu_names)}

    def query(self, *, banned_machines: Collection[int] = (), limit: int = 64) -> dict[str, Any]:
        """The search as the vendor wants it. It returns at most 64 offers, whatever is asked for."""
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
            "duration": {"gte": self.min_duration_h * 3600},
            "dph_total": {"lte": self.max_usd_per_hour},
            "allocated_storage": self.disk_gb,
            "order": [["dph_total", "asc"]],
            "limit": limit,
        }
        if banned_machines:
            query["machine_id"] = {"notin": sorted(banned_machines)[:50]}
        return query

    def rejection_reason(self, offer: Offer) -> str | None:
        """Check every bound again: the vendor's filters let some rows through that break them."""
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
            "duration": offer.duration >= self.min_duration_h * 3600,
            "usd_per_hour": 0 < offer.usd_per_hour <= self.max_usd_per_hour,
        }
        return next((name for name, holds in bounds.items() if not holds), None)


def expected_usd_per_1000_segments(offer: Offer, measured: Mapping[str, float]) -> float:
    """Dollars for a thousand segments, counting that the machine may turn out useless after its pull.

    Args:
        offer: the machine.
        measured: segments per second by card, where machines of ours have shown it.
    """
    rate = measured.get(offer.gpu_name) or PREDICTED_SEGMENTS_PER_S.get(offer.gpu_name) or 1.0
    per_hour = offer.usd_per_hour + offer.usd_once / STAY_HOURS
    return per_hour / (3.6 * rate * success_probability(offer.reliability))


def rank_offers(offers: Iterable[Offer], bounds: OfferFilter, measured: Mapping[str, float]) -> list[Offer]:
    """The offers that are good enough, best value first; one a machine, however many slices it is offered in."""
    best: dict[int, Offer] = {}
    for offer in sorted(offers, key=lambda o: (expected_usd_per_1000_segments(o, measured), o.id)):
        if bounds.rejection_reason(offer) is None:
            best.setdefault(offer.machine_id, offer)
    return list(best.values())


def explain_no_offers(offers: Sequence[Offer], bounds: OfferFilter) -> str:
    """One sentence for an operator whose filter nothing meets."""
    dearer = [o for o in offers if bounds.rejection_reason(o) == "usd_per_hour"]
    if dearer:
        cheapest = min(o.usd_per_hour for o in dearer)
        return (
            f"no offer costs at most ${bounds.max_usd_per_hour:.3f} an hour all in: the cheapest costs "
            f"${cheapest:.3f}; raise --max-price"
        )
    return (
        f"the market has no {' or '.join(bounds.gpu_names)} that meets the filter at ${bounds.max_usd_per_hour:.3f} "
        "an hour: relax it, or wait"
    )


def without_price_limit(bounds: OfferFilter) -> OfferFilter:
    """The same filter at any price: what would be there, and for how much."""
    return replace(bounds, max_usd_per_hour=1000.0)


def boot_timeout_s(offer: Offer) -> int:
    """How long its first start may take: twice the pull at its own speed and two minutes, at most twenty in all."""
    pull_s = IMAGE_GB * 8_000 / offer.inet_down
    return int(min(1200.0, 120.0 + 2 * pull_s))


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
