"""The token file has nginx's format and nothing that a attacker could use."""

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


def test_token_is_stored_only_as_a_hash(tmp_path):
    """The file does not open the gateway; the hash is nginx's {SSHA}."""
    tokens = TokenFile(tmp_path / "boxes")
    token = tokens.add("box-1")
    assert token not in tokens.path.read_text()
    raw = base64.b64decode(tokens.read()["box-1"].removeprefix("{SSHA}"))
    assert hashlib.sha1(token.encode() + raw[20:]).digest() == raw[:20]


def test_new_token_replaces_the_old_and_revoked_box_is_removed(tmp_path):
    """A box has at most one token."""
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


def test_concurrent_writers_lose_no_token(tmp_path):
    """Twenty tokens added at once are all in the file."""
    tokens = TokenFile(tmp_path / "boxes")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tokens.add, [f"box-{n}" for n in range(20)]))
    assert len(tokens.read()) == 20


def test_change_keeps_the_files_mode(tmp_path):
    """nginx reads the file as another user: a change must neither exclude it nor admit others."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    tokens.path.chmod(0o640)
    tokens.add("box-2")
    assert tokens.path.stat().st_mode & 0o777 == 0o640


def test_account_outside_the_files_group_may_change_it(tmp_path, monkeypatch):
    """In a folder with the setgid bit a new file has the group already. Setting it again would be refused to an account
    outside the group, so it is not set."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    monkeypatch.setattr(os, "chown", refuse)
    tokens.add("box-2")
    assert set(tokens.read()) == {"box-1", "box-2"}


@pytest.mark.parametrize("change", [lambda tokens: tokens.add("box-2"), TokenFile.check_writable])
def test_failed_change_leaves_the_file_and_no_copy(tmp_path, monkeypatch, change):
    """No copy of the hashes is left, and the file is as before."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.add("box-1")
    before = tokens.path.read_text()
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TokensUnwritable, match="let this account write it and its folder"):
        change(tokens)
    assert {path.name for path in tmp_path.iterdir()} == {"boxes", "boxes.lock"}
    assert tokens.path.read_text() == before


def test_check_writable_changes_nothing(tmp_path):
    """The check does not create a file that does not exist."""
    tokens = TokenFile(tmp_path / "boxes")
    tokens.check_writable()
    assert not tokens.path.exists()


def refuse(*_):
    raise PermissionError(1, "Operation not permitted")


def test_commands_read_the_token_file_setting(monkeypatch):
    """With VFLEET_GATEWAY_TOKENS set, nginx's configuration and the proxy use the same file."""
    event_ = ["--server-name", "x", "--certificate", "c", "--certificate-key", "k", "--out", "o"]
    commands = (["config", *event_], ["serve"], ["token", "list"])
    for variable, file in [("/srv/boxes", "/srv/boxes"), ("", "/var/lib/vfleet/boxes")]:
        monkeypatch.setenv("VFLEET_GATEWAY_TOKENS", variable)
        assert {str(parse_command(["gateway", *words]).params["tokens"]) for words in commands} == {file}


@pytest.mark.parametrize("name", ["", "a:b", "a\nroot", "../x", "a b", "-x"])
def test_invalid_box_name_is_refused(tmp_path, name):
    """A name becomes a field of a file of lines and colons."""
    with pytest.raises(BadInput, match="cannot name a box"):
        TokenFile(tmp_path / "boxes").add(name)
    assert not (tmp_path / "boxes").exists()


def test_token_add_prints_the_boxs_variable(tmp_path):
    """The command prints one variable that Prefect reads, and the file knows the token."""
    command = [sys.executable, "-m", "validation.cli", "gateway", "token"]
    tokens = ["--tokens", str(tmp_path / "boxes")]
    done = subprocess.run([*command, "add", "box-1", *tokens], capture_output=True, text=True, check=True)
    name, _, value = done.stdout.strip().partition("=")
    assert name == "PREFECT_CLIENT_CUSTOM_HEADERS"
    user, _, token = base64.b64decode(json.loads(value)["Authorization"].removeprefix("Basic ")).decode().partition(":")
    assert (user, headers_for(user, token)) == ("box-1", value)
    listed = subprocess.run([*command, "list", *tokens], capture_output=True, text=True, check=True)
    assert listed.stdout == "box-1\n"
