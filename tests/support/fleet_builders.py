"""Builders of fleet planner inputs."""

from datetime import UTC, datetime, timedelta

from validation.vast.listings import Offer

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PREFIX = "vfleet/blue-1/"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def make_offer(n: int, *, usd=0.25, host=None, machine=None) -> Offer:
    return Offer(
        id=n, machine_id=machine or 1000 + n, host_id=host or 500 + n, gpu_name="RTX 3090", num_gpus=1, dph_total=usd,
        reliability=0.99, disk_space=100, inet_down=500, inet_down_cost=0.0026, cuda_max_good=13.0,
        cpu_cores_effective=8, cpu_ram=32_000, duration=1e6, verified=True,
    )  # fmt: skip
