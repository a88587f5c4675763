"""A rental of a machine: its status over time, and its bill."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulation.fake_vast.lifecycle import IMAGE_BITS_M, Phase
from validation.domain import Seconds

HOURS_PER_MONTH = 730
READ_GB_PER_HOUR: Mapping[str, float] = {"RTX 3090": 11.4, "RTX 4090": 18.7}
"""Gigabytes per hour that a worker downloads at its GPU's normal speed: 11 or 18 segments per second, with 8 s per
segment and 24 kB per second of compressed audio, times 1.5."""


@dataclass
class Rental:
    """A rental. All times are virtual, in epoch seconds."""

    id: int
    key: str
    """The API key that the box receives. It gives access to this instance only."""
    offer: Mapping[str, Any]
    order: Mapping[str, Any]
    lifecycle: str
    phases: tuple[Phase, ...]
    created_at: Seconds
    listed_from: Seconds
    is_bid: bool
    usd_per_hour: float
    label: str
    phases_from: Seconds = 0.0
    stopped_at: Seconds | None = None
    stopped_status: str = "exited"
    resumes_at: Seconds | None = None
    """The time at which an outbid rental starts again by itself; None if it does not."""
    destroyed_at: Seconds | None = None
    unlisted_at: Seconds | None = None
    billed_to: Seconds = 0.0
    pull_billed: bool = False
    usd_billed: float = 0.0
    running_s: Seconds = 0.0
    """Seconds for which the GPU was billed."""
    log_reads: int = field(default=0)

    def __post_init__(self) -> None:
        self.phases_from = self.phases_from or self.created_at
        self.billed_to = self.created_at

    def phase(self, now: Seconds) -> Phase:
        """Return the phase that the lifecycle has reached. Stops by the vendor or a client are ignored."""
        past = [phase for phase in self.phases if self.phases_from + phase.at_s <= now]
        return past[-1] if past else self.phases[0]

    def is_alive(self, now: Seconds) -> bool:
        """Return whether the rental still exists: it was not destroyed, and did not vanish with its host."""
        return self.destroyed_at is None and self.phase(now).listed

    def is_stopped(self, now: Seconds) -> bool:
        return self.stopped_at is not None or self.phase(now).stopped

    def is_listed(self, now: Seconds) -> bool:
        """Return whether listings contain the rental. Listings change some seconds after a create or a destroy."""
        if self.unlisted_at is not None and now >= self.unlisted_at:
            return False
        return now >= self.listed_from and self.phase(now).listed

    def status(self, now: Seconds) -> str | None:
        return self.stopped_status if self.is_stopped(now) else self.phase(now).status

    def speed(self, now: Seconds) -> float:
        """Return the speed of the worker, as a share of the GPU's normal speed; 0 if no worker runs."""
        works = self.is_alive(now) and not self.is_stopped(now)
        return self.phase(now).speed if works else 0.0

    def bill(self, now: Seconds) -> float:
        """Bill the time since the last bill, and return dollars.

        The bill covers the GPU while it ran, the disk, the download of the image once, and the traffic of the worker.
        """
        until = now if self.destroyed_at is None else min(now, self.destroyed_at)
        since, self.billed_to = self.billed_to, max(until, self.billed_to)
        if until <= since:
            return 0.0
        usd: float = (until - since) / 3600 * self.storage_per_hour
        for phase, seconds in self._elapsed_phases(since, until):
            if phase.status == "running" and not phase.stopped:
                self.running_s += seconds
                usd += seconds / 3600 * self.usd_per_hour
                read_gb = READ_GB_PER_HOUR[self.offer["gpu_name"]] * phase.speed * seconds / 3600
                usd += read_gb * self.offer["inet_down_cost"]
        if not self.pull_billed and self.phase(until).status == "running":
            self.pull_billed = True
            usd += IMAGE_BITS_M / 8_000 * self.offer["inet_down_cost"]
        self.usd_billed += usd
        return usd

    def _elapsed_phases(self, since: Seconds, until: Seconds) -> Iterator[tuple[Phase, Seconds]]:
        """Yield the phases between two times, each with its seconds in the interval. Time after a stop is left out."""
        until = until if self.stopped_at is None else min(until, self.stopped_at)
        starts = [self.phases_from + phase.at_s for phase in self.phases]
        for phase, start, end in zip(self.phases, starts, [*starts[1:], float("inf")], strict=True):
            if (seconds := min(end, until) - max(start, since)) > 0:
                yield phase, seconds

    @property
    def storage_per_hour(self) -> float:
        """Dollars per hour for the disk."""
        return float(self.order.get("disk") or 10) * float(self.offer["storage_cost"]) / HOURS_PER_MONTH

    @property
    def dph_total(self) -> float:
        """Dollars per hour for the GPU and the disk."""
        return self.usd_per_hour + self.storage_per_hour

    def row(self, now: Seconds) -> dict[str, Any]:
        """Return the rental as a row of a listing, with every key of the vendor's rows.

        As at the vendor, the row contains the environment of the box, with its secrets in plain text.
        """
        status, stopped, phase = self.status(now), self.is_stopped(now), self.phase(now)
        up = status == "running"
        state = "stopped" if stopped else "running"
        disk_gb = float(self.order.get("disk") or 10)
        storage = self.storage_per_hour
        environment = self.order.get("env") or {}
        shared = {
            name: self.offer[name]
            for name in (
                "machine_id", "host_id", "gpu_name", "num_gpus", "gpu_ram", "gpu_frac", "cpu_cores", "cpu_ram",
                "cpu_cores_effective", "disk_bw", "inet_down", "inet_up", "inet_down_cost", "inet_up_cost", "dlperf",
                "storage_cost", "reliability2", "geolocation", "hosting_type", "verification", "cuda_max_good",
                "driver_version", "direct_port_count", "score", "end_date", "compute_cap", "min_bid", "rentable",
            )
        }  # fmt: skip
        return shared | {
            "id": self.id, "label": self.label or None, "actual_status": status, "cur_state": state,
            "next_state": state, "intended_status": state, "status_msg": phase.message or None,
            "start_date": self.created_at, "duration": self.offer["end_date"] - now,
            "uptime_mins": max(0.0, (now - self.phases_from) / 60) if up else None,
            "dph_total": round(self.dph_total, 6), "dph_base": self.usd_per_hour,
            "storage_total_cost": round(storage, 6), "is_bid": self.is_bid, "gpu_util": 90.0 if phase.speed else 0.0,
            "gpu_temp": 60.0, "cpu_util": 0.2, "mem_usage": 0.3, "mem_limit": 32.0, "vmem_usage": 0.1,
            "disk_util": 10.0, "disk_usage": 0.2, "disk_space": disk_gb, "disk_name": "nvme", "cpu_name": "EPYC",
            "image_uuid": self.order["image"], "image_runtype": self.order.get("runtype") or "ssh",
            "image_args": self.order.get("args") or [], "extra_env": [[k, str(v)] for k, v in environment.items()],
            "onstart": self.order.get("onstart"), "public_ipaddr": "203.0.113.7\n", "local_ipaddrs": "10.0.0.7\n",
            "ports": {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40000"}]} if up else None,  # noqa: S104 - data
            "ssh_host": "ssh1.vast.ai", "ssh_port": 12345, "ssh_idx": "1", "machine_dir_ssh_port": 12345,
            "template_hash_id": None, "volume_info": [], "credit_balance": None, "webpage": None, "country_code": None,
            "mobo_name": "X", "gpu_lanes": 16, "gpu_mem_bw": 900.0, "pcie_bw": 20.0, "pci_gen": 4.0, "bw_nvlink": 0.0,
            "total_flops": 35.0, "flops_per_dphtotal": 100.0, "dlperf_per_dphtotal": 100.0, "os_version": "22.04",
            "static_ip": False, "host_run_time": 2_592_000.0, "client_run_time": 1.0, "time_remaining": "",
            "time_remaining_isbid": "", "logo": "", "external": False, "rented": True, "bundle_id": self.offer["id"],
            "internet_down_cost_per_tb": self.offer["inet_down_cost"] * 1000, "internet_up_cost_per_tb": 2.6,
            "cpu_arch": "amd64", "gpu_arch": "nvidia", "has_avx": 1, "is_vm_deverified": False, "resource_type": "gpu",
        }  # fmt: skip
