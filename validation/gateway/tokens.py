"""The tokens of boxes: one token per box, hashed in a password file that nginx reads at every request."""

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
from validation.files import replace_atomically
from validation.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SALT_BYTES = 16
_TOKEN_BYTES = 32


class TokensUnwritable(BadInput):
    """The token file cannot be changed, so no token can be added or revoked."""

    def __init__(self, path: Path, reason: str | None) -> None:
        self.path = path
        super().__init__(
            f"token file {path} cannot be changed ({reason}): let this account write it and its folder, and "
            "give the folder the file's group with chmod g+s"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    hashed: str
    label: str = ""
    """The label of the rented box that has the token; empty for a token that an operator added."""


class TokenFile:
    """A password file in nginx's format: ``name:{SSHA}...:comment``, one line per box.

    The comment is the label of the rented box: the token is revoked when the rental ends. An operator revokes a token
    without a label.

    Changes are atomic and take effect at the next request, without a reload of nginx. Only salted hashes are stored.
    The hash function is fast, because nginx computes the hash at every request. A token has 256 random bits, so it
    cannot be guessed despite the fast hash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, box: str, *, label: str = "") -> str:
        """Create a token for a box, in place of an earlier token. Returns the token; only its hash is stored.

        Args:
            box: the worker id of the box.
            label: the label of a rented box; empty for a machine outside the fleet.

        Raises:
            BadInput: ``box`` is not a valid worker id.
            TokensUnwritable: the file cannot be written.
        """
        if not _NAME.fullmatch(box):
            raise BadInput(f"{box!r} cannot name a box: use letters, digits, '.', '_' and '-', as in WORKER_ID")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._edit() as entries:
            entries[box] = _Entry(_hash(token, secrets.token_bytes(_SALT_BYTES)), label)
        return token

    def revoke(self, box: str) -> None:
        """Remove a box's token.

        Raises:
            BadInput: the box has no token.
            TokensUnwritable: the file cannot be written.
        """
        with self._edit() as entries:
            if entries.pop(box, None) is None:
                raise BadInput(f"{box} has no token in {self.path}: `vfleet gateway token list` lists those that have")

    def revoke_fleet(self, label_prefix: str, *, keep: Collection[str]) -> list[str]:
        """Remove the tokens of a fleet's rented boxes, except the boxes with the labels ``keep``.

        Returns the worker ids of the boxes that lost their token.

        Raises:
            TokensUnwritable: the file cannot be written.
        """
        with self._edit() as entries:
            revoked = [
                box
                for box, entry in entries.items()
                if entry.label and entry.label.startswith(label_prefix) and entry.label not in keep
            ]
            for box in revoked:
                del entries[box]
        return revoked

    def check_writable(self) -> None:
        """Check that the token file can be changed: write a trial file beside it and delete the trial file.

        Raises:
            TokensUnwritable: the file cannot be written.
        """
        with self._edit() as entries:
            trial = self.path.with_name(f".{self.path.name}.trial")
            self._write_entries(trial, entries)
            trial.unlink()

    def read(self) -> Mapping[str, str]:
        """Read the token hashes: worker id of the box -> hash. Empty if the file does not exist yet."""
        return {box: entry.hashed for box, entry in self._read_entries().items()}

    def _read_entries(self) -> dict[str, _Entry]:
        return dict(_parse_lines(self.path.read_text(encoding="utf-8"))) if self.path.exists() else {}

    @contextmanager
    def _edit(self) -> Iterator[dict[str, _Entry]]:
        """Lock the token file against other writers, yield its entries, and replace the file if the entries changed."""
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
        with replace_atomically(path, mode=0o600, durable=True) as partial:
            partial.write_text("".join(_format_line(box, entry) for box, entry in sorted(entries.items())))
            if self.path.exists():
                _copy_permissions(partial, self.path.stat())


def _copy_permissions(new: Path, old: os.stat_result) -> None:
    """Copy owner, group and mode of the old file to the new file, because nginx reads the token file as another user.

    Owner and group are set only if they differ, because setting them needs privileges. In a folder with the setgid bit
    the new file already has the group, so an account outside the group may write the file too.
    """
    made = new.stat()
    if (made.st_uid, made.st_gid) != (old.st_uid, old.st_gid):
        os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))


def find_token_file(settings: Settings) -> TokenFile | None:
    """Return the token file of the settings; None if boxes reach Prefect without the gateway."""
    return TokenFile(settings.gateway_tokens) if settings.gateway_tokens else None


def headers_for(box: str, token: str) -> str:
    """Return a box's value of ``PREFECT_CLIENT_CUSTOM_HEADERS``: an Authorization header with the token, as JSON.

    PREFECT_API_AUTH_STRING does not suffice: Prefect's client does not send it with every websocket.
    """
    return json.dumps({"Authorization": "Basic " + base64.b64encode(f"{box}:{token}".encode()).decode()})


def _hash(token: str, salt: bytes) -> str:
    """Return the salted SHA-1 hash of a token in nginx's format ``{SSHA}...``."""
    digest = hashlib.sha1(token.encode() + salt).digest()  # noqa: S324 - of 256 random bits; nginx has no better fast one
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _format_line(box: str, entry: _Entry) -> str:
    """Return the line of a box in the token file."""
    return ":".join([box, entry.hashed, *filter(None, [entry.label])]) + "\n"


def _parse_lines(content: str) -> Iterator[tuple[str, _Entry]]:
    """Yield the worker id and the entry of each line of a token file. Comments are skipped."""
    for line in content.splitlines():
        box, colon, rest = line.partition(":")
        if colon and not line.startswith("#"):
            hashed, _, label = rest.partition(":")
            yield box, _Entry(hashed, label)
