"""Name one process of one machine, tell from a name whether it is dead, and clear up after those that are."""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from validation.inference.protocol import list_server_dirs

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One life of a worker. No two are ever equal, not even after a reboot or when a pid is used again."""

    host: str
    boot_id: str
    pid_namespace: str
    """Two containers may share host name and boot; a pid says something only inside its own namespace."""
    pid: int
    started: str
    """Clock ticks from boot to the process's start."""

    def __str__(self) -> str:
        return f"{self.host}:{self.boot_id}:{self.pid_namespace}:{self.pid}:{self.started}"

    @property
    def machine(self) -> tuple[str, str, str]:
        """Where its pid means something."""
        return self.host, self.boot_id, self.pid_namespace

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name back; None if it is not one of ours."""
        parts = name.rsplit(":", 4)
        if len(parts) != 5 or not parts[3].isdecimal():  # noqa: PLR2004 - the fields above
            return None
        host, boot_id, namespace, pid, started = parts
        return cls(host, boot_id, namespace, int(pid), started)


def current_identity() -> ProcessIdentity:
    """Name this process."""
    pid = os.getpid()
    return ProcessIdentity(
        host=socket.gethostname(),
        boot_id=(PROC / "sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=_pid_namespace(),
        pid=pid,
        started=process_start_time(pid) or "",
    )


def is_confirmed_dead(name: str) -> bool:
    """Whether the named process certainly runs no more. False where this machine cannot know."""
    other = ProcessIdentity.parse(name)
    return (
        other is not None
        and other.machine == current_identity().machine
        and process_start_time(other.pid) != other.started
    )


def remove_stale_dirs(worker_id: str) -> None:
    """Delete what earlier lives of a worker left among the temporary files. One that still runs keeps its own."""
    for pid, folder in list_server_dirs(worker_id).items():
        if pid == os.getpid() or process_start_time(pid) is None:  # in a container each life may have the same pid
            shutil.rmtree(folder, ignore_errors=True)


def _pid_namespace() -> str:
    link = (PROC / "self/ns/pid").readlink()
    return link.name.removeprefix("pid:[").removesuffix("]")


def process_start_time(pid: int) -> str | None:
    """When a process started; None if there is none, or only its unreaped remains."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold spaces and parentheses: proc(5), fields 3 and 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
