"""Checks of the environment variables of this process and of the running control worker."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from validation.configuration import known_variables, names_of_settings
from validation.doctor.check import CheckWarning
from validation.settings import Settings

PREFIX, BOX_PREFIX = "VFLEET_", "BOX_"
_PROC = Path("/proc")
_PREFECT = frozenset({"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"})
_WORKER = (b"worker", b"start", b"control")
"""Words in the command line of a control worker, by which the process is recognised."""


def check_variables(_settings: Settings) -> str:
    """Check that this project reads every variable whose name begins with `VFLEET_` or `BOX_VFLEET_`."""
    known = known_variables()
    unknown = [name for name in sorted(os.environ) if _own_name(name) and _own_name(name) not in known]
    if unknown:
        raise CheckWarning("; ".join(_suggest(name, known) for name in unknown))
    count = sum(_own_name(name) is not None for name in os.environ)
    return f"{count} variables begin with {PREFIX}, and each is read"


def check_control_environment(_settings: Settings) -> str | None:
    """Check that the control worker on this machine has the same settings as this command. Values are not shown."""
    return compare_environments(_PROC, os.environ) if _PROC.is_dir() else None


def compare_environments(processes: Path, own: Mapping[str, str]) -> str | None:
    """Compare the settings of this command with the settings of the running control worker.

    Args:
        processes: ``/proc``, or a folder of the same structure.
        own: the environment of this command.

    Returns:
        A finding for the doctor; None if no control worker runs.

    Raises:
        CheckWarning: settings differ (the message has the names, not the values), or the worker's environment cannot
            be read.
    """
    found = [folder for folder in processes.iterdir() if folder.name.isdigit() and _is_control_worker(folder)]
    if not found:
        return None
    try:
        theirs = _read_environment(found[0])
    except PermissionError:
        raise CheckWarning(
            f"process {found[0].name} is the control worker, and this account may not read its environment, so these "
            "checks are of this shell: run the doctor as the worker's account, with its environment file"
        ) from None
    relevant = names_of_settings() | _PREFECT
    relevant |= {name for name in {*own, *theirs} if name.startswith((PREFIX, BOX_PREFIX))}
    if differing := sorted(name for name in relevant if own.get(name, "") != theirs.get(name, "")):
        raise CheckWarning(
            f"the running control worker (process {found[0].name}) has other values of {', '.join(differing)} than "
            "this shell, which is what the doctor has checked: run it with the worker's environment file, or restart "
            "the worker if that file has changed"
        )
    return f"the control worker (process {found[0].name}) has the settings of this shell"


def _own_name(name: str) -> str | None:
    """Return the name of a variable of this project without ``BOX_``; None for a variable of another program."""
    name = name.removeprefix(BOX_PREFIX)
    return name if name.startswith(PREFIX) else None


def _suggest(name: str, known: set[str]) -> str:
    """Return a sentence about a variable that nothing reads, with the most similar known name."""
    words = [each.removeprefix(PREFIX) for each in sorted(known)]
    near = get_close_matches(name.removeprefix(BOX_PREFIX).removeprefix(PREFIX), words, n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/configuration.md has all names"
    return f"nothing reads {name}: {hint}"


def _is_control_worker(folder: Path) -> bool:
    """Return whether the process of a folder of ``/proc`` is a control worker."""
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:  # the process has ended
        return False
    return set(_WORKER) <= set(words) and any(b"prefect" in word for word in words)


def _read_environment(folder: Path) -> dict[str, str]:
    """Read the environment of a process from its folder of ``/proc``."""
    pairs = (entry.partition(b"=") for entry in (folder / "environ").read_bytes().split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
