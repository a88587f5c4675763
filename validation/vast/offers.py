"""Offers: machines on the market, and what each costs with its disk and traffic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

IMAGE_GB = 10.0
"""The worker image with its weights: each box pulls it once."""

TRAFFIC_GB_PER_HOUR: Mapping[str, float] = {"RTX 3090": 15.0, "RTX 4090": 24.5}
"""Tars that a box downloads per hour, an upper bound: the segments that its GPU scores, of about 8 s, at 24 kB/s of
compressed audio, times two for what is downloaded and not scored and for boxes faster than the median of their GPU."""


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
    duration: float
    """Seconds for which the machine's host offers it."""
    verified: bool

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
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def usd_once(self) -> float:
        """Dollars for the traffic of the image pull."""
        return IMAGE_GB * self.inet_down_cost

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour for GPU, disk and the traffic of the work."""
        upper_bound = max(TRAFFIC_GB_PER_HOUR.values())
        return self.dph_total + TRAFFIC_GB_PER_HOUR.get(self.gpu_name, upper_bound) * self.inet_down_cost
