"""How an object store misbehaves: what happens to a request, drawn from a seed."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from random import Random

Weather = Mapping["Mishap", float]
"""The share of requests that meet each mishap. What is left of 1 is served as it should be."""


class Mishap(StrEnum):
    """What may happen to one request."""

    RESET = "reset"  # the connection breaks before the request arrives
    LOST_ANSWER = "lost answer"  # the request is carried out, and nobody learns of it
    CUT_ANSWER = "cut answer"  # half of the body arrives
    UNAVAILABLE = "unavailable"  # 503, as a store that is overloaded says
    DELAY = "delay"  # served, but late


CALM: Weather = {}
STORM: Weather = dict.fromkeys(Mishap, 0.08)
"""Four requests in ten. A client that tries three times still fails now and then, and its caller has to try again."""


def draw_mishap(weather: Weather, random: Random) -> Mishap | None:
    """Draw what happens to the next request; None: nothing."""
    drawn = random.random()
    for mishap, share in weather.items():
        if drawn < share:
            return mishap
        drawn -= share
    return None


def write_weather(path: Path, weather: Weather) -> None:
    """Change the weather: what reads it sees the old or the new, never half of one."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(weather))
    unfinished.rename(path)


def read_weather(path: Path) -> Weather:
    return {Mishap(name): share for name, share in json.loads(path.read_text()).items()}
