"""Offers: machines on the market, and what each costs with its disk and traffic."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

IMAGE_GB = 10.0
"""The worker image with its weights: each box pulls it once."""

TRAFFIC_GB_PER_HOUR: Mapping[str, float] = {"RTX 3090": 15.0, "RTX 4090": 24.5}
"""Tars that a box downloads per hour, an upper bound: the segments that its GPU scores, of about 8 s, at 24 kB/s of
compressed audio, times two for what is downloaded and not scored and for boxes faster than the median of their GPU."""


class OfferUnreadable(Exception):
    """A field of an offer that decides is missing or not a number."""

    def __init__(self, field_name: str) -> None:
        self.field_name = field_name
        super().__init__(f"field {field_name} of an offer is missing or not a number")


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine on the market. The field names are the vendor's."""

    id: int
    machine_id: int
    host_id: int
    gpu_name: str
    num_gpus: int
    dph_total: float
    """Dollars per hour with the disk that the search asked for."""
    reliability: float
    disk_space: float
    """GB."""
    inet_down: float
    """Mb/s."""
    inet_down_cost: float
    """Dollars per GB."""
    cuda_max_good: float
    """Newest CUDA whose programs the machine's driver runs."""
    cpu_cores_effective: float
    """Hyperthreads."""
    cpu_ram: float
    """MB."""
    duration: float
    """Seconds for which the machine's host offers it."""
    verified: bool

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of a search.

        Raises:
            OfferUnreadable: a field that decides is missing or not a number; names it.
        """
        return cls(
            id=int(_read_number(row, "id")),
            machine_id=int(_read_number(row, "machine_id")),
            host_id=int(_read_number(row, "host_id")),
            gpu_name=_read_text(row, "gpu_name"),
            num_gpus=int(_read_number(row, "num_gpus")),
            dph_total=_read_number(row, "dph_total"),
            reliability=_read_number(row, "reliability2" if row.get("reliability2") else "reliability"),
            disk_space=_read_number(row, "disk_space"),
            inet_down=_read_number(row, "inet_down"),
            inet_down_cost=_read_number(row, "inet_down_cost") if row.get("inet_down_cost") else 0.0,
            cuda_max_good=_read_number(row, "cuda_max_good"),
            cpu_cores_effective=_read_number(row, "cpu_cores_effective"),
            cpu_ram=_read_number(row, "cpu_ram"),
            duration=_read_number(row, "duration"),
            verified=row.get("verification") == "verified",
        )

    @property
    def usd_once(self) -> float:
        """Dollars for the traffic of the image pull."""
        return IMAGE_GB * self.inet_down_cost

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour for GPU, disk and the traffic of the work."""
        upper_bound = max(TRAFFIC_GB_PER_HOUR.values())
        return self.dph_total + TRAFFIC_GB_PER_HOUR.get(self.gpu_name, upper_bound) * self.inet_down_cost


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Offer]):
    """The offers that a search returned, and how many rows could not be read."""

    offers: tuple[Offer, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Number of rows by the field that could not be read."""

    @classmethod
    def parse(cls, rows: Iterable[object]) -> Self:
        """Read the rows of a search; a row that cannot be read is counted by its field."""
        offers: list[Offer] = []
        unreadable = Counter[str]()
        for row in rows:
            try:
                offers.append(Offer.parse(row if isinstance(row, Mapping) else {}))
            except OfferUnreadable as error:
                unreadable[error.field_name] += 1
        return cls(tuple(offers), unreadable)

    @overload
    def __getitem__(self, index: int) -> Offer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Offer]: ...
    def __getitem__(self, index: int | slice) -> Offer | Sequence[Offer]:
        return self.offers[index]

    def __len__(self) -> int:
        return len(self.offers)


def _read_number(row: Mapping[str, Any], field_name: str) -> float:
    try:
        return float(row[field_name])
    except (KeyError, TypeError, ValueError):
        raise OfferUnreadable(field_name) from None


def _read_text(row: Mapping[str, Any], field_name: str) -> str:
    if not isinstance(row.get(field_name), str):
        raise OfferUnreadable(field_name)
    return str(row[field_name])
