"""How far the answers of two correct boxes may differ."""

from collections.abc import Mapping

from validation.scoring.signals import DERIVED_SIGNALS, RECOGNITION_SIGNALS

TOLERANCES: Mapping[str, float] = {
    "ratio": 0.1,
    "MOS 1-5": 0.2,
    "log-probability": 0.3,
    "nats a token": 0.3,
    "nats a frame": 0.1,
    "nats": 1.5,
    "seconds": 0.1,
    "letters": 5.0,
    "ratio of a word": 0.5,
}
"""Unit -> absolute tolerance of floating-point outputs of models; counts must be equal. `vfleet check-precision` allows
half precision 0.02 of an alignment score at the 99th percentile. These tolerances are at least five times as wide,
because not every GPU model has been measured."""
RELATIVE_TOLERANCE = 0.02
"""Relative tolerance, added to the absolute one: a sum of log-probabilities deviates in proportion to its length."""
PROBABILITY_TOLERANCE, LOGIT_TOLERANCE = 0.02, 0.4
"""A probability may deviate by 0.02 plus the effect of 0.4 on its logit, which is small near 0 and 1."""
ROUNDING_TOLERANCE = 1e-3
"""Relative tolerance of signals that the same code computes from samples and text: rounding alone."""
_FROM_ASR = frozenset(column.name for column in RECOGNITION_SIGNALS)
_COMPUTED = frozenset(column.name for column in DERIVED_SIGNALS if column.type == "float") - _FROM_ASR


def tolerance_for(column: str, value: float, unit: str | None) -> float:
    """The tolerance of one number of a shard; ``unit`` is the unit of its column."""
    if column in _COMPUTED:
        return ROUNDING_TOLERANCE * (1 + abs(value))
    if unit == "probability":
        return PROBABILITY_TOLERANCE + LOGIT_TOLERANCE * value * (1 - value)
    tolerance = TOLERANCES.get(unit or "")
    return 0.0 if tolerance is None else tolerance + RELATIVE_TOLERANCE * abs(value)
