"""Where a host listens."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST_SOCKET_VARIABLE = "VFLEET_HOST_SOCKET"
"""Names, in the environment of the host and of its clients, the socket's path."""


def socket_path(worker_id: str) -> Path:
    """Where the host of a worker listens: in a folder of its own, for what else it keeps."""
    return Path(tempfile.gettempdir()) / f"vfleet-host-{worker_id}" / "socket"


def find_socket(worker_id: str) -> Path:
    """Where the environment says that the host listens, else where that worker's does."""
    named = os.environ.get(HOST_SOCKET_VARIABLE)
    return Path(named) if named else socket_path(worker_id)


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Name a socket for `bind` or `connect`: an address holds 107 bytes, a path may be longer."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
