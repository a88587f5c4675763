"""Network faults of requests to an object store, and the random choice of a fault."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from random import Random

from validation.files import write_atomically

FaultProfile = Mapping["NetworkFault", float]
"""The share of requests with each fault. The remaining requests are served normally."""


class NetworkFault(StrEnum):
    """A network fault of one request."""

    RESET = "reset"  # the connection is reset before the request is served
    LOST_RESPONSE = "lost response"  # the request is served, but the connection is reset before the response
    TRUNCATED_RESPONSE = "truncated response"  # half of the body arrives
    UNAVAILABLE = "unavailable"  # 503, as from an overloaded store
    DELAY = "delay"  # served, but late


NONE: FaultProfile = {}
SEVERE: FaultProfile = dict.fromkeys(NetworkFault, 0.08)
"""Each fault has a share of 8 %, so four in ten requests have a fault. A client with three tries still fails sometimes,
so that its caller has to retry."""


def draw_network_fault(profile: FaultProfile, random: Random) -> NetworkFault | None:
    """Draw the fault of the next request. Return None for a request without a fault."""
    drawn = random.random()
    for fault, share in profile.items():
        if drawn < share:
            return fault
        drawn -= share
    return None


def write_profile(path: Path, profile: FaultProfile) -> None:
    """Write the profile to a file atomically: a reader gets the old profile or the new profile."""
    write_atomically(path, json.dumps(profile))


def read_profile(path: Path) -> FaultProfile:
    return {NetworkFault(name): share for name, share in json.loads(path.read_text(encoding="utf-8")).items()}
