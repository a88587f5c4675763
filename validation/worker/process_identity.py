"""Identify one process of one machine, detect from its identity whether it is dead, and delete what it left."""

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
    """The identity of one worker session. Never repeated, not even after a reboot or when a pid is used again."""

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
        """The machine and namespace in which the pid is unique."""
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
    """The identity of this process."""
    pid = os.getpid()
    return ProcessIdentity(
        host=socket.gethostname(),
        boot_id=(PROC / "sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=_pid_namespace(),
        pid=pid,
        started=process_start_time(pid) or "",
    )


def is_confirmed_dead(identity: str) -> bool:
    """Whether the process certainly has ended. False if it belongs to another machine or namespace."""
    other = ProcessIdentity.parse(identity)
    return (
        other is not None
        and other.machine == current_identity().machine
        and process_start_time(other.pid) != other.started
    )


def remove_stale_dirs(worker_id: str) -> None:
    """Delete the temporary folders of earlier sessions of a worker. A session that still runs keeps its own."""
    for pid, folder in list_server_dirs(worker_id).items():
        if pid == os.getpid() or process_start_time(pid) is None:  # in a container every session may have the same pid
            shutil.rmtree(folder, ignore_errors=True)


def _pid_namespace() -> str:
    link = (PROC / "self/ns/pid").readlink()
    return link.name.removeprefix("pid:[").removesuffix("]")


def process_start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None if there is no such process, or it is a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold spaces and parentheses: proc(5), fields 3 and 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
