"""Who may enter: one token a box, in a file that nginx reads anew at every request."""

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from validation.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SALT_BYTES = 16
_TOKEN_BYTES = 32


class TokenFile:
    """A password file in nginx's own format: ``name:{SSHA}...``, one box a line.

    Changes are atomic and take effect at the next request, without a reload. Only salted hashes are kept. They are of
    a fast kind, for nginx computes one at every request: a token has 256 random bits, which no speed can guess.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, box: str) -> str:
        """Let a box in; a token that it had before ends. Returns the new one, which is nowhere kept.

        Raises:
            BadInput: no worker can have this name, or the file cannot be written.
        """
        if not _NAME.fullmatch(box):
            raise BadInput(f"{box!r} cannot name a box: letters, digits, '.', '_' and '-', as in its WORKER_ID")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._changing() as hashes:
            hashes[box] = _hash(token, secrets.token_bytes(_SALT_BYTES))
        return token

    def revoke(self, box: str) -> None:
        """Let a box in no more.

        Raises:
            BadInput: it has no token, or the file cannot be written.
        """
        with self._changing() as hashes:
            if hashes.pop(box, None) is None:
                raise BadInput(f"{box} has no token in {self.path}: `vfleet gateway token list` shows who has")

    def read(self) -> Mapping[str, str]:
        """Each box's hash by its name; a file that is not there yet holds none."""
        return dict(_parse(self.path.read_text())) if self.path.exists() else {}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Hold the file against other writers, and replace it whole."""
        try:
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                hashes = dict(self.read())
                yield hashes
                self._replace("".join(f"{box}:{hashed}\n" for box, hashed in sorted(hashes.items())))
        except OSError as error:
            raise BadInput(f"token file {self.path} cannot be changed: {error.strerror}") from None

    def _replace(self, content: str) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False) as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        if self.path.exists():  # nginx reads it as another user: who may read it is the operator's choice
            shutil.copymode(self.path, new.name)
            stat = self.path.stat()
            os.chown(new.name, stat.st_uid, stat.st_gid)
        Path(new.name).replace(self.path)


def headers_for(box: str, token: str) -> str:
    """What a box is given as ``PREFECT_CLIENT_CUSTOM_HEADERS``.

    Not PREFECT_API_AUTH_STRING: Prefect's client sends that with its requests, but not with every websocket.
    """
    return json.dumps({"Authorization": "Basic " + base64.b64encode(f"{box}:{token}".encode()).decode()})


def _hash(token: str, salt: bytes) -> str:
    digest = hashlib.sha1(token.encode() + salt).digest()  # noqa: S324 - of 256 random bits; nginx knows no better fast one
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _parse(content: str) -> Iterator[tuple[str, str]]:
    for line in content.splitlines():
        box, colon, hashed = line.partition(":")
        if colon and not line.startswith("#"):
            yield box, hashed
