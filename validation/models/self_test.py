"""The self-test of a suite: load it and let every model answer once.

`python -m validation.models.self_test` runs it in a process of its own, so that a driver, GPU or weight file that
crashes the process does not end the caller, which can still destroy the box.
"""

import sys
from collections.abc import Mapping

import numpy as np

from validation.domain import SAMPLE_RATE, Answer, Scored, Seconds, Utterance, Waveform
from validation.errors import FleetError, Permanent
from validation.exit_codes import ExitCode, exit_code_of
from validation.models.suite import Suite, load_suite
from validation.settings import load_settings

PROBE_S: Seconds = 2.0


class SelfTestFailed(Permanent):
    """A model gives no answer to the probe."""

    def __init__(self, model: str, reason: str) -> None:
        self.model, self.reason = model, reason
        super().__init__(f"model {model} does not answer: {reason}")


def run_self_test(suite: Suite) -> None:
    """Let every model of a loaded suite answer the probe.

    Raises:
        SelfTestFailed: a model gives no answer.
    """
    (answers,) = suite.score([Utterance(make_probe(), "a", "en")])
    require_answers(answers)


def make_probe() -> Waveform:
    """Two seconds of a modulated 180 Hz tone with faint noise, always the same: no speech, but every model answers."""
    at = np.arange(int(PROBE_S * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.01, at.size)
    tone = np.sin(2 * np.pi * 180 * at) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * at))
    return np.asarray(0.2 * tone + noise, dtype=np.float32)


def require_answers(answers: Mapping[str, Answer]) -> None:
    """Check that every model answered.

    Raises:
        SelfTestFailed: names the first model that did not, and why.
    """
    for model, answer in answers.items():
        if not isinstance(answer, Scored):
            raise SelfTestFailed(model, answer.fault.message)


def main() -> int:
    """Returns an exit code; the last line on standard error is the reason of a failure."""
    try:
        run_self_test(load_suite(load_settings().suite))
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code_of(error)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
