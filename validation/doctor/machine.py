"""The machine itself: disk, clock, packages, models."""

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

from validation.doctor.check import CheckWarning
from validation.doctor.database import read_session
from validation.domain import MIN_DISK_BYTES, Seconds
from validation.errors import BadInput
from validation.models.self_test import run_self_test
from validation.models.suite import load_suite
from validation.settings import Settings

WARN_SKEW_S: Seconds = 10.0
"""Beyond this, times of this machine and times of the ledger cannot be put in order."""
MAX_SKEW_S: Seconds = 600.0
"""Object stores refuse requests whose signature is 15 minutes off."""
_PACKAGES = ("validation-fleet", "prefect", "sqlalchemy", "obstore", "pyarrow")


def check_versions(_settings: Settings) -> str:
    """The installed versions, to compare two machines."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def check_disk(_settings: Settings) -> str:
    """There is disk space for the files of two chunks."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_DISK_BYTES:
        raise BadInput(
            f"only {free >> 20} MiB of disk are free: free at least {MIN_DISK_BYTES >> 30} GiB, or rent a box with more"
        )
    return f"{free >> 30} GiB free"


def check_clock(settings: Settings) -> str:
    """The clocks of this machine and of the database agree."""
    before = time.time()
    database = read_session(settings).now.timestamp()
    skew_s = database - (before + time.time()) / 2
    finding = f"this machine's clock is {abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the database's"
    if abs(skew_s) > MAX_SKEW_S:
        raise BadInput(f"{finding}, so object stores will refuse its requests: set it by NTP")
    if abs(skew_s) > WARN_SKEW_S:
        raise CheckWarning(f"{finding}: set it by NTP")
    return f"{abs(skew_s):.1f} s from the database's"


def check_models(settings: Settings) -> str:
    """Every model loads from weights with the locked hashes, and answers."""
    suite = load_suite(settings.suite)
    run_self_test(suite)
    return ", ".join(f"{model} {revision}" for model, revision in suite.revisions.items())
