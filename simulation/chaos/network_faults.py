"""Network faults of an object store: what happens to a request, drawn from a seed."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from random import Random

from validation.files import write_atomically

FaultProfile = Mapping["NetworkFault", float]
"""The share of requests per fault; the remaining requests are served normally."""


class NetworkFault(StrEnum):
    """A fault of one request."""

    RESET = "reset"  # the connection breaks before the request arrives
    LOST_RESPONSE = "lost response"  # the request is carried out, and its response is lost
    TRUNCATED_RESPONSE = "truncated response"  # half of the body arrives
    UNAVAILABLE = "unavailable"  # 503, as from an overloaded store
    DELAY = "delay"  # served, but late


NONE: FaultProfile = {}
SEVERE: FaultProfile = dict.fromkeys(NetworkFault, 0.08)
"""Four in ten requests fail, so that a client with three tries still fails sometimes and its caller retries."""


def draw_network_fault(profile: FaultProfile, random: Random) -> NetworkFault | None:
    """Draw the fault of the next request; None for no fault."""
    drawn = random.random()
    for fault, share in profile.items():
        if drawn < share:
            return fault
        drawn -= share
    return None


def write_profile(path: Path, profile: FaultProfile) -> None:
    """Replace the profile atomically: a reader sees the old one or the new one."""
    write_atomically(path, json.dumps(profile))


def read_profile(path: Path) -> FaultProfile:
    return {NetworkFault(name): share for name, share in json.loads(path.read_text()).items()}
