"""By how much the answers of two honest machines may differ."""

from collections.abc import Mapping

from validation.scoring.signals import DERIVED_SIGNALS

TOLERANCES: Mapping[str, float] = {
    "ratio": 0.1,
    "MOS 1-5": 0.2,
    "log-probability": 0.3,
    "nats a token": 0.3,
    "nats a frame": 0.1,
    "seconds": 0.1,
}
"""What models say in floating point, by unit; what they count is the same everywhere. Half precision is held to 0.02
of an alignment score and to the same text for most segments, at the 99th percentile: these are five times as much or
more, for there are cards that nobody has measured."""
SHARE = 0.02
"""And by this share of the value: a sum of log-probabilities is off in proportion to its length."""
PROBABILITY, LOGIT = 0.02, 0.4
"""A probability is off by 0.02 anywhere, and by as much as a logit of 0.4 moves it: a sure one hardly moves."""
ROUNDING = 1e-3
"""What is computed of samples and text, by the same code, is off by rounding at most."""
_HEARD = frozenset({"cer", "edge_cer_start", "edge_cer_end"})
_COMPUTED = frozenset(column.name for column in DERIVED_SIGNALS if column.type == "float") - _HEARD


def tolerance_for(column: str, value: float, unit: str | None) -> float:
    """By how much a number of a shard may be off; ``unit`` is its column's."""
    if column in _COMPUTED:
        return ROUNDING * (1 + abs(value))
    if unit == "probability":
        return PROBABILITY + LOGIT * value * (1 - value)
    tolerance = TOLERANCES.get(unit or "")
    return 0.0 if tolerance is None else tolerance + SHARE * abs(value)
