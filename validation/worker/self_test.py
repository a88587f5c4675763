"""Prove that a box can do the work: load the suite and let every model answer once. `python -m` this, and read its end.

In a process of its own: whatever a broken driver, card or weight file does to it, the box's start outlives it and can
still give the machine back.
"""

import sys
from collections.abc import Mapping

import numpy as np

from validation.domain import SAMPLE_RATE, Answer, Scored, Seconds, Utterance, Waveform
from validation.errors import FleetError
from validation.models.suite import load_suite
from validation.settings import load_settings

PROBE_S: Seconds = 2.0


def make_probe() -> Waveform:
    """A hum with a beat and a little noise, the same on every box: no speech, and enough for every model to answer."""
    at = np.arange(int(PROBE_S * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.01, at.size)
    hum = np.sin(2 * np.pi * 180 * at) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * at))
    return np.asarray(0.2 * hum + noise, dtype=np.float32)


def find_fault(answers: Mapping[str, Answer]) -> str | None:
    """Which model did not answer, and why; None if all did."""
    for model, answer in answers.items():
        if not isinstance(answer, Scored):
            return f"model {model} does not answer: {answer.fault.message}"
    return None


def main() -> int:
    """Exit 0, or 1 with the reason as the last line on standard error."""
    try:
        suite = load_suite(load_settings().suite)
        (answers,) = suite.score([Utterance(make_probe(), "a", "en")])
        fault = find_fault(answers)
    except FleetError as error:
        fault = str(error)
    if fault:
        sys.stderr.write(f"{fault}\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
