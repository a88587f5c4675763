"""Who may enter: one token a box, in a file that nginx reads anew at every request."""

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from validation.errors import BadInput
from validation.files import replacing
from validation.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SALT_BYTES = 16
_TOKEN_BYTES = 32


class TokensUnwritable(BadInput):
    """Nobody can be let in, and nobody shut out."""

    def __init__(self, path: Path, reason: str | None) -> None:
        self.path = path
        super().__init__(
            f"token file {path} cannot be changed ({reason}): let this account write it and its folder, and "
            "give the folder the file's group with chmod g+s"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    hashed: str
    rental: str = ""
    """The label of the rented machine whose token it is; empty for a token that an operator gave."""


class TokenFile:
    """A password file in nginx's own format: ``name:{SSHA}...:comment``, one box a line.

    The comment is the label of the rented machine with whose end the token ends; what has none ends by hand alone.

    Changes are atomic and take effect at the next request, without a reload. Only salted hashes are kept. They are of
    a fast kind, for nginx computes one at every request: a token has 256 random bits, which no speed can guess.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, box: str, *, rental: str = "") -> str:
        """Let a box in; a token that it had before ends. Returns the new one, which is nowhere kept.

        Args:
            box: its worker id.
            rental: the label of the rented machine that it is, if it is one.

        Raises:
            BadInput: no worker can have this name.
            TokensUnwritable: the file cannot be written.
        """
        if not _NAME.fullmatch(box):
            raise BadInput(f"{box!r} cannot name a box: letters, digits, '.', '_' and '-', as in its WORKER_ID")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._changing() as entries:
            entries[box] = _Entry(_hash(token, secrets.token_bytes(_SALT_BYTES)), rental)
        return token

    def revoke(self, box: str) -> None:
        """Let a box in no more.

        Raises:
            BadInput: it has no token.
            TokensUnwritable: the file cannot be written.
        """
        with self._changing() as entries:
            if entries.pop(box, None) is None:
                raise BadInput(f"{box} has no token in {self.path}: `vfleet gateway token list` shows who has")

    def revoke_rentals(self, label_prefix: str, *, but: Collection[str]) -> list[str]:
        """Let in no more the rented machines of one fleet, but those with these labels. Returns which that met.

        Raises:
            TokensUnwritable: the file cannot be written.
        """
        with self._changing() as entries:
            ended = [
                box
                for box, entry in entries.items()
                if entry.rental and entry.rental.startswith(label_prefix) and entry.rental not in but
            ]
            for box in ended:
                del entries[box]
        return ended

    def require_changeable(self) -> None:
        """Do all that a change does, but the change.

        Raises:
            TokensUnwritable: the file cannot be written.
        """
        with self._changing() as entries:
            trial = self.path.with_name(f".{self.path.name}.trial")
            self._write_entries(trial, entries)
            trial.unlink()

    def read(self) -> Mapping[str, str]:
        """Each box's hash by its name; a file that is not there yet holds none."""
        return {box: entry.hashed for box, entry in self._read_entries().items()}

    def _read_entries(self) -> dict[str, _Entry]:
        return dict(_parse(self.path.read_text())) if self.path.exists() else {}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Entry]]:
        """Hold the file against other writers, and replace it whole where something changes."""
        try:
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entries = self._read_entries()
                before = dict(entries)
                yield entries
                if entries != before:
                    self._write_entries(self.path, entries)
        except OSError as error:
            raise TokensUnwritable(self.path, error.strerror) from None

    def _write_entries(self, path: Path, entries: Mapping[str, _Entry]) -> None:
        with replacing(path, mode=0o600, durable=True) as partial:
            partial.write_text("".join(_line(box, entry) for box, entry in sorted(entries.items())))
            if self.path.exists():
                _share_alike(partial, self.path.stat())


def _share_alike(new: Path, old: os.stat_result) -> None:
    """Let those read a file who may read another: nginx is another user, and who it is is the operator's choice.

    Only what differs is changed: in a folder that hands on its group nothing does, and an account may write that is
    not of the group.
    """
    made = new.stat()
    if (made.st_uid, made.st_gid) != (old.st_uid, old.st_gid):
        os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))


def find_tokens(settings: Settings) -> TokenFile | None:
    """The token file in which the control plane lets its machines in; None where boxes come by another way."""
    return TokenFile(settings.gateway_tokens) if settings.gateway_tokens else None


def headers_for(box: str, token: str) -> str:
    """What a box is given as ``PREFECT_CLIENT_CUSTOM_HEADERS``.

    Not PREFECT_API_AUTH_STRING: Prefect's client sends that with its requests, but not with every websocket.
    """
    return json.dumps({"Authorization": "Basic " + base64.b64encode(f"{box}:{token}".encode()).decode()})


def _hash(token: str, salt: bytes) -> str:
    digest = hashlib.sha1(token.encode() + salt).digest()  # noqa: S324 - of 256 random bits; nginx knows no better fast one
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _line(box: str, entry: _Entry) -> str:
    return ":".join([box, entry.hashed, *filter(None, [entry.rental])]) + "\n"


def _parse(content: str) -> Iterator[tuple[str, _Entry]]:
    for line in content.splitlines():
        box, colon, rest = line.partition(":")
        if colon and not line.startswith("#"):
            hashed, _, rental = rest.partition(":")
            yield box, _Entry(hashed, rental)
