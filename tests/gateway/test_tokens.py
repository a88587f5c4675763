"""The token file: what nginx reads, and nothing that a thief could use."""

import base64
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from validation.errors import BadInput
from validation.gateway.tokens import TokenFile, headers_for


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
