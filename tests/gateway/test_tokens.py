"""The token file: what nginx reads, and nothing that a thief could use."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.cli_parsing import parse_command
from validation.errors import BadInput
from validation.gateway.tokens import TokenFile, TokensUnwritable, headers_for


def test_a_token_is_kept_as_a_hash_alone(tmp_path):
    """Whoever reads the file cannot enter; the hash is nginx's own {SSHA}."""
    tokens = TokenFile(tmp_path / "boxes")
    token = tokens.add("box-1")
    assert token not in tokens.path.read_text()
    raw = base64.b64decode(tokens.read()["box-1"].removeprefix("{SSHA}"))
    assert hashlib.sha1(token.encode() + raw[20:]).digest() == raw[:20]


def test_a_new_token_ends_the_old_one_and_a_revoked_box_is_gone(tmp_path):
    """One token a box at any time."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    before = tokens.read()
    tokens.add("box-1")
    tokens.add("box-2")
    assert set(tokens.read()) == {"box-1", "box-2"}
    assert tokens.read()["box-1"] != before["box-1"]
    tokens.revoke("box-1")
    assert set(tokens.read()) == {"box-2"}
    with pytest.raises(BadInput, match="box-1 has no token"):
        tokens.revoke("box-1")


def test_writers_at_once_lose_nobody(tmp_path):
    """A fleet that rents twenty boxes at once lets twenty in."""
    tokens = TokenFile(tmp_path / "boxes")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tokens.add, [f"box-{n}" for n in range(20)]))
    assert len(tokens.read()) == 20


def test_the_file_stays_as_readable_as_it_was(tmp_path):
    """nginx reads it as another user: a change must not shut it out, nor let more people in."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    tokens.path.chmod(0o640)
    tokens.add("box-2")
    assert tokens.path.stat().st_mode & 0o777 == 0o640


def test_an_account_outside_the_files_group_may_change_it(tmp_path, monkeypatch):
    """In a folder that hands on its group a new file has it already. Asking for it again is refused to an account that
    is not of that group, so it is not asked for."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    monkeypatch.setattr(os, "chown", refuse)
    tokens.add("box-2")
    assert set(tokens.read()) == {"box-1", "box-2"}


@pytest.mark.parametrize("change", [lambda tokens: tokens.add("box-2"), TokenFile.check_writable])
def test_a_change_that_fails_leaves_nothing(tmp_path, monkeypatch, change):
    """No copy of the hashes lies about, the file is as before, and trying to change it would have told."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    before = tokens.path.read_text()
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TokensUnwritable, match="let this account write it and its folder"):
        change(tokens)
    assert {path.name for path in tmp_path.iterdir()} == {"boxes", "boxes.lock"}
    assert tokens.path.read_text() == before


def test_to_try_a_change_changes_nothing(tmp_path):
    """Not even a file that is not there yet is made."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.check_writable()
    assert not tokens.path.exists()


def refuse(*_):
    raise PermissionError(1, "Operation not permitted")


def test_commands_take_the_file_of_the_setting(monkeypatch):
    """Whoever tells the control plane of a token file has nginx and the proxy read the same one."""
    told = ["--server-name", "x", "--certificate", "c", "--certificate-key", "k", "--out", "o"]
    commands = (["config", *told], ["serve"], ["token", "list"])
    for variable, file in [("/srv/boxes", "/srv/boxes"), ("", "/var/lib/vfleet/boxes")]:
        monkeypatch.setenv("VFLEET_GATEWAY_TOKENS", variable)
        assert {str(parse_command(["gateway", *words]).params["tokens"]) for words in commands} == {file}


@pytest.mark.parametrize("name", ["", "a:b", "a\nroot", "../x", "a b", "-x"])
def test_a_name_that_no_worker_can_have_is_refused(tmp_path, name):
    """A name is written into a file of lines and colons."""
    with pytest.raises(BadInput, match="cannot name a box"):
        TokenFile(tmp_path / "boxes").add(name)
    assert not (tmp_path / "boxes").exists()


def test_the_command_prints_what_a_box_is_told(tmp_path):
    """One variable, as Prefect reads it, with a credential that the file then knows."""
    command = [sys.executable, "-m", "validation.cli", "gateway", "token"]
    tokens = ["--tokens", str(tmp_path / "boxes")]
    done = subprocess.run([*command, "add", "box-1", *tokens], capture_output=True, text=True, check=True)
    name, _, value = done.stdout.strip().partition("=")
    assert name == "PREFECT_CLIENT_CUSTOM_HEADERS"
    user, _, token = base64.b64decode(json.loads(value)["Authorization"].removeprefix("Basic ")).decode().partition(":")
    assert (user, headers_for(user, token)) == ("box-1", value)
    listed = subprocess.run([*command, "list", *tokens], capture_output=True, text=True, check=True)
    assert listed.stdout == "box-1\n"
