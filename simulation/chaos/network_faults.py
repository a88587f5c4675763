"""How an object store misbehaves: what happens to a request, drawn from a seed."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from random import Random

from validation.files import write_atomically

FaultProfile = Mapping["NetworkFault", float]
"""The share of requests that meet each mishap. What is left of 1 is served as it should be."""


class NetworkFault(StrEnum):
    """What may happen to one request."""

    RESET = "reset"  # the connection breaks before the request arrives
    LOST_ANSWER = "lost answer"  # the request is carried out, and nobody learns of it
    CUT_ANSWER = "cut answer"  # half of the body arrives
    UNAVAILABLE = "unavailable"  # 503, as a store that is overloaded says
    DELAY = "delay"  # served, but late


NONE: FaultProfile = {}
SEVERE: FaultProfile = dict.fromkeys(NetworkFault, 0.08)
"""Four requests in ten. A client that tries three times still fails now and then, and its caller has to try again."""


def draw_network_fault(weather: FaultProfile, random: Random) -> NetworkFault | None:
    """Draw what happens to the next request; None: nothing."""
    drawn = random.random()
    for mishap, share in weather.items():
        if drawn < share:
            return mishap
        drawn -= share
    return None


def write_profile(path: Path, weather: FaultProfile) -> None:
    """Change the weather: what reads it sees the old or the new, never half of one."""
    write_atomically(path, json.dumps(weather))


def read_profile(path: Path) -> FaultProfile:
    return {NetworkFault(name): share for name, share in json.loads(path.read_text()).items()}
