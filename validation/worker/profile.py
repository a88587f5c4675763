"""The identity of a worker session, and the description of a worker in its ledger row.

By the identity a later session finds out whether an earlier process is dead. The row describes the machine, its GPUs,
settings, versions and models.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

from sqlalchemy import Engine

from validation.domain import WorkerProfile
from validation.hardware.gpu import read_gpus
from validation.inference.protocol import SuiteInfo, find_session_dirs
from validation.ledger.workers import register_worker, retire_worker
from validation.settings import Settings

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The identity of one worker session. It stays unique after a reboot and after the reuse of a pid."""

    host: str
    boot_id: str
    pid_namespace: str
    """Two containers may share host name and boot id; a pid identifies a process only within its namespace."""
    pid: int
    started: str
    """Clock ticks from boot to the start of the process."""

    def __str__(self) -> str:
        return f"{self.host}:{self.boot_id}:{self.pid_namespace}:{self.pid}:{self.started}"

    @property
    def machine(self) -> tuple[str, str, str]:
        """The host name, boot id and pid namespace within which the pid is unique."""
        return self.host, self.boot_id, self.pid_namespace

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse the output of ``str``; None if the text has another form."""
        parts = text.rsplit(":", 4)
        if len(parts) != 5 or not parts[3].isdecimal():  # noqa: PLR2004 - the fields above
            return None
        host, boot_id, namespace, pid, started = parts
        return cls(host, boot_id, namespace, int(pid), started)


def current_identity() -> ProcessIdentity:
    """Return the identity of this process."""
    pid = os.getpid()
    return ProcessIdentity(
        host=socket.gethostname(),
        boot_id=(PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
        pid_namespace=_pid_namespace(),
        pid=pid,
        started=process_start_time(pid) or "",
    )


def is_confirmed_dead(identity: str) -> bool:
    """Return whether the process with this identity has certainly ended.

    Return False if the process belongs to another machine or namespace, because its pid cannot be checked here, or if
    the text is no identity.
    """
    other = ProcessIdentity.parse(identity)
    return (
        other is not None
        and other.machine == current_identity().machine
        and process_start_time(other.pid) != other.started
    )


def remove_stale_dirs(worker_id: str) -> None:
    """Delete the temporary folders of ended sessions of a worker. The folder of a running session is kept."""
    for pid, folder in find_session_dirs(worker_id).items():
        if pid == os.getpid() or process_start_time(pid) is None:  # an earlier session in a container may have this pid
            shutil.rmtree(folder, ignore_errors=True)


def _pid_namespace() -> str:
    """Return the number of the pid namespace of this process."""
    link = (PROC / "self/ns/pid").readlink()
    return link.name.removeprefix("pid:[").removesuffix("]")


def process_start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot; None if the process is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # The command name is enclosed in parentheses, and may contain spaces and parentheses: proc(5), fields 3 and 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


CONFIG_SETTINGS = (
    "chunk_videos",
    "group_videos",
    "look_ahead_videos",
    "look_ahead_bytes",
    "fetchers",
    "lease_s",
    "heartbeat_s",
    "drain_grace_s",
    "max_attempts",
)
"""Names of the settings that limit the amount of work of a box and the time for which the box holds it."""


def describe_worker(settings: Settings, *, prefect_worker: str | None, limit: int | None) -> WorkerProfile:
    """Describe this process, its machine and its settings. ``limit`` is the maximum number of concurrent flow runs."""
    gpus = read_gpus()
    return WorkerProfile(
        worker_id=settings.worker_id,
        gpu_type=settings.gpu_type or (gpus[0].name if gpus else None),
        gpu_vram_gb=gpus[0].memory_gib if gpus else None,
        config={
            "instance": str(current_identity()),
            "hostname": platform.node(),
            "suite": settings.suite,
            "languages": list(settings.languages),
            "gpus": [asdict(gpu) for gpu in gpus],
            "budgets": {"flow_runs": limit} | {name: getattr(settings, name) for name in CONFIG_SETTINGS},
            "versions": _versions(),
        },
        prefect_worker=prefect_worker,
    )


def add_models(profile: WorkerProfile, suite: SuiteInfo) -> WorkerProfile:
    """Return the profile with the model revisions and the batch budget of the inference server."""
    models = {"revisions": dict(suite.revisions), "batch_budget_s": suite.budget_s}
    return replace(profile, config={**profile.config, **models})


@contextmanager
def temporary_registration(engine: Engine, settings: Settings) -> Iterator[None]:
    """Register this process as a worker while the block runs; retire it at the end. Used for work without Prefect.

    Raises:
        WorkerIdTaken: a worker is online under this id.
        BoxKeyRejected, WorkerQuarantined, Unreachable: as ``register_worker``.
    """
    profile = describe_worker(settings, prefect_worker=None, limit=1)
    register_worker(engine, profile)
    try:
        yield
    finally:
        retire_worker(engine, profile.worker_id, instance=str(profile.config["instance"]))


def _versions() -> Mapping[str, str]:
    """Return the versions of this project, Prefect and Python."""
    packages = {name: version(name) for name in ("validation-fleet", "prefect")}
    return packages | {"python": platform.python_version()}
