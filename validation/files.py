"""Write local files atomically: a reader sees the whole old content or the whole new content."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_atomically(path: Path, *, mode: int = 0o666, durable: bool = False) -> Iterator[Path]:
    """Yield a new empty file beside ``path``, and rename it to ``path`` when the block ends.

    A reader of ``path`` sees the previous content or the new content, never a part. If the block raises, the new file
    is deleted and ``path`` is unchanged. Several processes may replace one path at once: the last rename wins.

    Args:
        path: the file to replace. Its folder must exist.
        mode: permissions of the new file, reduced by the process's umask.
        durable: flush the new file to the disk before the rename, so that it survives a power failure.

    Raises:
        OSError: the new file cannot be created or renamed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield partial
        if durable:
            _flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o666, durable: bool = False) -> None:
    """Replace the whole content of a file atomically. A ``str`` is encoded as UTF-8.

    The other arguments and the errors are those of ``replace_atomically``.
    """
    with replace_atomically(path, mode=mode, durable=durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
