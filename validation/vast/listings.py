"""Rows that Vast.ai lists: offers, with their price including disk and traffic, and rented instances."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

IMAGE_GB = 10.0
"""Size of the worker image with its weights, in GB. Each box pulls the image once."""

TRAFFIC_GB_PER_HOUR: Mapping[str, float] = {"RTX 3090": 15.0, "RTX 4090": 24.5}
"""Upper bound of the tars that a box downloads: GPU -> GB per hour.

The bound is the number of segments that the GPU scores per hour, times 8 s per segment, times 24 kB/s of compressed
audio, times two. The factor two covers audio that is downloaded but not scored, and boxes that are faster than the
median of their GPU."""


class OfferUnreadable(Exception):
    """A required field of an offer is missing or has the wrong type."""

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
    """The vendor's reliability score, from 0 to 1."""
    disk_space: float
    """Free disk space in GB."""
    inet_down: float
    """Download speed in Mb/s."""
    inet_down_cost: float
    """Price of downloaded traffic in dollars per GB."""
    cuda_max_good: float
    """The newest CUDA version that the machine's driver supports."""
    cpu_cores_effective: float
    """Number of hyperthreads of the offer."""
    cpu_ram: float
    """Main memory in MB."""
    duration: float
    """Time in seconds for which the host offers the machine."""
    verified: bool

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of a search.

        Raises:
            OfferUnreadable: a required field is missing or has the wrong type; the error names the field.
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
        """Return the price of the traffic of the image pull, in dollars."""
        return IMAGE_GB * self.inet_down_cost

    @property
    def usd_per_hour(self) -> float:
        """Return the price per hour of GPU, disk and the traffic of the tars, in dollars."""
        upper_bound = max(TRAFFIC_GB_PER_HOUR.values())
        return self.dph_total + TRAFFIC_GB_PER_HOUR.get(self.gpu_name, upper_bound) * self.inet_down_cost


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Offer]):
    """The offers that a search returned, and the number of its rows that could not be read."""

    offers: tuple[Offer, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Number of unreadable rows, by the first field that could not be read."""

    @classmethod
    def parse(cls, rows: Iterable[object]) -> Self:
        """Read the rows of a search. An unreadable row is counted by the field that could not be read."""
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
    """Return a field of an offer as a number. Raises OfferUnreadable if it is missing or not a number."""
    try:
        return float(row[field_name])
    except (KeyError, TypeError, ValueError):
        raise OfferUnreadable(field_name) from None


def _read_text(row: Mapping[str, Any], field_name: str) -> str:
    """Return a field of an offer as a text. Raises OfferUnreadable if it is missing or not a text."""
    if not isinstance(row.get(field_name), str):
        raise OfferUnreadable(field_name)
    return str(row[field_name])


MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Instance:
    """A row of the listing, with only the needed fields, because the row also holds the box's secrets."""

    id: int
    label: str
    machine_id: int | None = None
    actual_status: str | None = None
    """The latest status that the box reported, such as loading, running or exited; None while the box is created."""
    cur_state: str | None = None
    status_msg: str | None = None
    dph_total: float = 0.0
    """Price of the instance in dollars per hour."""

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of the listing. Raises KeyError, TypeError or ValueError if the row has no valid id."""
        message = row.get("status_msg")
        return cls(
            id=int(row["id"]),
            label=str(row.get("label") or ""),
            machine_id=row.get("machine_id"),
            actual_status=row.get("actual_status"),
            cur_state=row.get("cur_state"),
            status_msg=str(message).strip()[:MAX_MESSAGE_CHARS] if message else None,
            dph_total=float(row.get("dph_total") or 0.0),
        )

    @property
    def is_stopped(self) -> bool:
        """Return whether the instance is stopped, for example outbid, out of credit, or past its contract.

        A stopped instance bills its disk and may start again.
        """
        return self.cur_state == "stopped" or self.actual_status in {"stopped", "exited", "frozen"}


@dataclass(frozen=True, slots=True)
class Listing:
    """The listed instances. An incomplete listing proves that an instance exists, never that an instance is gone."""

    instances: tuple[Instance, ...]
    why_incomplete: str | None = None
    """Why the listing is not complete; None if it is complete."""

    @property
    def complete(self) -> bool:
        return self.why_incomplete is None

    def of_fleet(self, label_prefix: str) -> tuple[Instance, ...]:
        """Return the instances whose labels begin with the prefix of one fleet."""
        return tuple(instance for instance in self.instances if instance.label.startswith(label_prefix))
