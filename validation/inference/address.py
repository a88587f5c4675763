"""Where a host listens."""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INFERENCE_SOCKET_VARIABLE = "VFLEET_HOST_SOCKET"
"""Names, in the environment of the host and of its clients, the socket's path."""


def socket_path(worker_id: str) -> Path:
    """Where the host of this process listens: in a folder of its own, for what else it keeps.

    No two lives of a worker share a folder. One that was succeeded clears its own at its end, not its successor's.
    """
    return Path(tempfile.gettempdir()) / f"{_stem(worker_id)}{os.getpid()}" / "socket"


def find_socket(worker_id: str) -> Path:
    """Where the environment says that the host listens, else where that of the worker's latest life does."""
    if named := os.environ.get(INFERENCE_SOCKET_VARIABLE):
        return Path(named)
    sockets = [folder / "socket" for folder in list_server_dirs(worker_id).values()]
    return max(sockets, key=_socket_mtime, default=socket_path(worker_id))


def list_server_dirs(worker_id: str) -> dict[int, Path]:
    """The folders of a worker's lives, ended ones included, by the pid of each."""
    stem = _stem(worker_id)
    found = Path(tempfile.gettempdir()).glob(f"{glob.escape(stem)}*")
    return {int(pid): folder for folder in found if (pid := folder.name.removeprefix(stem)).isdecimal()}


def _stem(worker_id: str) -> str:
    return f"vfleet-host-{worker_id}-"


def _socket_mtime(socket: Path) -> float:
    try:
        return socket.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def proc_fd_path(path: Path) -> Iterator[str]:
    """Name a socket for `bind` or `connect`: an address holds 107 bytes, a path may be longer."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
