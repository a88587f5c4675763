"""The machine itself: room, time, programs, models."""

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from validation.doctor.check import CheckWarning
from validation.doctor.database import read_session
from validation.domain import SAMPLE_RATE, Scored, Seconds, Utterance
from validation.errors import BadInput, Permanent
from validation.models.suite import load_suite
from validation.settings import Settings

MIN_DISK_BYTES = 5 << 30
SKEW_DOUBT_S: Seconds = 10.0
"""By so much states that this machine dates and times that the ledger dates stop telling what came first."""
SKEW_FAILED_S: Seconds = 600.0
"""Object stores refuse signatures that are a quarter of an hour off."""
_PACKAGES = ("validation-fleet", "prefect", "sqlalchemy", "obstore", "pyarrow")


class SelfTestFailed(Permanent):
    """A model gives no answer to a second of noise."""

    def __init__(self, suite: str, silent: list[str]) -> None:
        self.suite, self.silent = suite, silent
        super().__init__(f"suite {suite}: {', '.join(silent)} gave no answer to a second of noise: look at its log")


def check_versions(_settings: Settings) -> str:
    """What is installed, for whoever compares two machines."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def check_disk(_settings: Settings) -> str:
    """There is room for what a chunk leaves behind while it lasts."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_DISK_BYTES:
        raise BadInput(
            f"only {free >> 20} MiB of disk are free: make room for {MIN_DISK_BYTES >> 30} GiB, or rent more"
        )
    return f"{free >> 30} GiB free"


def check_clock(settings: Settings) -> str:
    """This machine and the database agree on the time."""
    before = time.time()
    database = read_session(settings).now.timestamp()
    skew_s = database - (before + time.time()) / 2
    sentence = f"this machine's clock is {abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the database's"
    if abs(skew_s) > SKEW_FAILED_S:
        raise BadInput(f"{sentence}, and object stores will refuse its signatures: set it by NTP")
    if abs(skew_s) > SKEW_DOUBT_S:
        raise CheckWarning(f"{sentence}: set it by NTP")
    return f"{abs(skew_s):.1f} s from the database's"


def check_models(settings: Settings) -> str:
    """Every model loads, from weights with the pinned hashes, and answers."""
    suite = load_suite(settings.suite)
    noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
    (answers,) = suite.score([Utterance(noise, "", "en")])
    if silent := [model for model, answer in answers.items() if not isinstance(answer, Scored)]:
        raise SelfTestFailed(settings.suite, silent)
    return ", ".join(f"{model} {revision}" for model, revision in suite.revisions.items())
