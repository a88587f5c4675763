"""The lifecycles of rentals. A lifecycle is a sequence of phases, which is drawn when an offer is rented."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from validation.domain import Seconds

PULL_ERRORS = (
    "toomanyrequests: You have reached your pull rate limit",
    "failed to register layer: no space left on device",
    "manifest unknown: manifest unknown",
    "error pulling image: connection reset by peer",
)
IMAGE_BITS_M = 80_000.0
"""Size of an image of 10 GB, in megabits."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The status of a rental that the vendor reports, from ``at_s`` seconds after the rental until the next phase."""

    at_s: Seconds
    status: str | None
    message: str = ""
    speed: float = 0.0
    """Speed of the worker, as a share of the GPU's normal speed; 0 means that no worker runs."""
    listed: bool = True
    stopped: bool = False


def draw_lifecycle(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_phases(  # noqa: C901, PLR0911 - one return per lifecycle
    rng: random.Random, lifecycle: str, offer: Mapping[str, Any], image: str
) -> tuple[Phase, ...]:
    """Draw the phases of one rental with a lifecycle. The times of the phases are random."""
    created_s = rng.uniform(2, 10)
    loading_s = created_s + rng.uniform(1, 5)
    pulled_s = loading_s + IMAGE_BITS_M / offer["inet_down"] * rng.uniform(1, 2.5) + 20
    joined_s = pulled_s + rng.uniform(20, 60)
    worked_s = joined_s + rng.uniform(600, 14_400)
    begin = (Phase(0, None), Phase(created_s, "created"), Phase(loading_s, "loading", f"Pulling from {image}"))
    run = f"success, running {image}"
    up = (*begin, Phase(pulled_s, "running", run), Phase(joined_s, "running", run, rng.uniform(0.85, 1.15)))
    match lifecycle:
        case "stuck_loading":
            return begin
        case "pull_fatal":
            return (*begin, Phase(loading_s + 30, "loading", rng.choice(PULL_ERRORS)))
        case "oci_error":
            message = "failed to create task: OCI runtime create failed: unsatisfied condition: cuda>=12.8"
            return (*begin[:2], Phase(loading_s, "created", message))
        case "exits_on_start":
            return (*begin, Phase(pulled_s, "running", run), Phase(pulled_s + 15, "exited", "exited with code 1"))
        case "zombie_running":
            return (*begin, Phase(pulled_s, "running", run))
        case "port_taken":  # for the second of two rentals of one offer
            return (*begin[:2], Phase(loading_s, "created", "OCI runtime create failed: port is already allocated"))
        case "slow":
            return (*up[:-1], Phase(joined_s, "running", run, 0.2))
        case "dies_midway":
            return (*up, Phase(worked_s, rng.choice(("offline", "unknown"))), *_maybe_recover(rng, worked_s, run))
        case "vanishes":
            return (*up, Phase(worked_s, None, listed=False))
        case "host_reclaim":
            return (*up, Phase(worked_s, "exited", "rental ended by its host", stopped=True))
    return up


def _maybe_recover(rng: random.Random, since_s: Seconds, run: str) -> tuple[Phase, ...]:
    if rng.random() < 0.5:  # noqa: PLR2004 - half of them
        return (Phase(since_s + rng.uniform(60, 600), "running", run, 1.0),)
    return ()
