"""Generate the offers of the fake vendor, and change them over time."""

import random
from collections.abc import Mapping
from typing import Any, TypeAlias

from validation.domain import Seconds

GPUS = {"RTX 3090": (0.18, 0.12, 0.40, 24_268, 860), "RTX 4090": (0.40, 0.25, 0.97, 24_564, 890)}
"""The median, lowest and highest price of a GPU in dollars per hour, its memory in MB, and its compute capability times
100. The values are from the vendor's market in 2026."""
PLACES = ("Texas, US", "Quebec, CA", "Bavaria, DE", "Norway, NO", "Tokyo, JP", "Iceland, IS")
DRIVERS = (("535.183.01", 12.2), ("570.133.07", 12.8), ("580.65.06", 13.0), ("580.95.05", 13.0), ("590.44.01", 13.1),
           ("590.48.01", 13.1))  # fmt: skip
"""Pairs of a driver's version and the newest CUDA version that the driver supports."""
QUANTILES = {"price_p10": 0.1, "price_median": 0.5, "price_p90": 0.9}
FIRST_OFFER = 20_000_000

Offers: TypeAlias = dict[int, dict[str, Any]]
"""The offers by id. An offer with ``rentable`` false is rented; ``back_at`` is the end of another account's rental."""


def make_market(rng: random.Random, now: Seconds, *, offers: int = 320, machines: int = 230) -> Offers:
    """Draw random offers. Some offers share a machine, many share a host, and about one in ten is not verified."""
    ids = [30_000 + n for n in range(machines)]
    owner = {machine: 5_000 + rng.randrange(machines // 2) for machine in ids}
    drawn = {}
    for n in range(offers):
        machine = ids[n] if n < machines else rng.choice(ids)
        drawn[FIRST_OFFER + n] = _draw_offer(rng, FIRST_OFFER + n, machine, owner[machine], now)
    drawn[FIRST_OFFER]["cpu_cores"] = None  # as in some offers of the vendor
    return drawn


def advance_market(offers: Offers, rng: random.Random, now: Seconds, *, takings: float) -> None:
    """End the rentals of other accounts that are due, and let other accounts rent a share of the free offers.

    Args:
        offers: the market, which is changed.
        rng: the source of randomness.
        now: the virtual time, as epoch seconds.
        takings: the share of the free offers that is rented, each for one to six hours.
    """
    for offer in [offer for offer in offers.values() if offer.get("back_at", now) < now]:
        release(offers, offer)
    free = [offer for offer in offers.values() if offer["rentable"]] if takings else []
    for offer in rng.sample(free, min(len(free), int(takings * len(free) + rng.random()))):
        offer |= {"rentable": False, "back_at": now + rng.uniform(3_600, 20_000)}


def release(offers: Offers, taken: Mapping[str, Any]) -> None:
    """Put a rented offer on the market again, under a new id."""
    fresh = max(offers) + 1
    offer = {name: value for name, value in taken.items() if name not in {"back_at", "taken_at"}}
    offers.pop(taken["id"], None)
    offers[fresh] = {**offer, "id": fresh, "ask_contract_id": fresh, "rentable": True}


def describe_market(offers: Offers) -> list[dict[str, Any]]:
    """Return, per GPU, the numbers of free and rented offers, and three quantiles of the price in dollars per hour."""
    return [_describe_gpu(gpu, [offer for offer in offers.values() if offer["gpu_name"] == gpu]) for gpu in GPUS]


def _describe_gpu(gpu: str, offers: list[dict[str, Any]]) -> dict[str, Any]:
    prices = sorted(offer["dph_base"] for offer in offers if offer["rentable"])
    marks = {name: prices[int(share * (len(prices) - 1))] for name, share in QUANTILES.items()} if prices else {}
    return {"gpu_name": gpu, "available": len(prices), "rented": len(offers) - len(prices), **marks}


def _draw_driver(rng: random.Random) -> dict[str, Any]:
    driver, cuda = rng.choice(DRIVERS)
    return {"driver_version": driver, "cuda_max_good": cuda}


def _draw_offer(rng: random.Random, offer: int, machine: int, host: int, now: Seconds) -> dict[str, Any]:
    gpu = rng.choice(list(GPUS))
    median, lowest, highest, memory_mb, capability = GPUS[gpu]
    price = round(min(max(rng.lognormvariate(0, 0.35) * median, lowest), highest), 4)
    cores = rng.choice((8, 12, 16, 24, 32))
    reliability = round(min(rng.betavariate(40, 1), 0.9999), 4)
    lasts_s = rng.uniform(0.2, 60) * 86_400
    return {
        "id": offer, "ask_contract_id": offer, "machine_id": machine, "host_id": host, "gpu_name": gpu, "num_gpus": 1,
        "gpu_ram": memory_mb, "gpu_total_ram": memory_mb, "compute_cap": capability, "gpu_frac": 1.0,
        "cpu_cores": cores, "cpu_cores_effective": float(cores), "cpu_ram": rng.choice((32_000, 64_000, 128_000)),
        "disk_space": round(rng.uniform(30, 900), 1), "disk_bw": round(rng.uniform(300, 5_000), 1),
        "inet_down": round(10 ** rng.uniform(1.7, 3.7), 1), "inet_up": round(10 ** rng.uniform(1.5, 3.3), 1),
        "inet_down_cost": rng.choices((0.0026, 0.026), (93, 7))[0], "inet_up_cost": 0.0026,
        "storage_cost": round(rng.uniform(0.08, 0.25), 3), "dph_base": price, "dph_total": price,
        "min_bid": round(price * 0.5, 4), "reliability": reliability, "reliability2": reliability,
        **_draw_driver(rng), "direct_port_count": rng.randrange(1, 200),
        "dlperf": round(rng.uniform(20, 110), 1), "score": round(rng.uniform(50, 400), 1),
        "hosting_type": rng.choices((0, 1), (8, 2))[0],
        "verification": rng.choices(("verified", "unverified"), (9, 1))[0],
        "geolocation": rng.choice(PLACES), "rentable": True, "rented": False, "external": False,
        "duration": lasts_s, "start_date": now - 86_400, "end_date": now + lasts_s,
    }  # fmt: skip
