"""What all commands of `vfleet` have in common: help, version, options, exit codes, tables, JSON."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer

from tests.support.cli_parsing import parse_command
from validation.cli import main as cli
from validation.cli.main import app, main
from validation.exit_codes import ExitCode

ROOT = typer.main.get_command(app)


def list_commands(command: Any = ROOT, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(words, command) of every command, groups left out."""
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [each for name, sub in command.commands.items() for each in list_commands(sub, (*words, name))]


COMMANDS = list_commands()
ALL = pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])


@ALL
def test_every_command_and_option_is_described(words, command):
    """Help is one paragraph at least, and every option says what it does."""
    assert command.help, words
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", (words, parameter.name)


@ALL
def test_help_exits_0_and_fits_80_columns(words, command, capsys, monkeypatch):
    """The help of every command exits with 0 and fits 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == ExitCode.OK
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_version_is_printed(capsys):
    """`vfleet --version` names the installed version."""
    assert main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("vfleet 0.")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean 'status'?"),
        (["fleet", "bnas"], "Did you mean 'bans'?"),
        (["requeue", "--faild"], "--failed"),
        (["requeue", "-dQw4w9WgXc"], "Write `--` before an argument that begins with `-`"),
        (["run-chunk", "--size", "0"], "--size"),
        (["run-chunk", "--size", "many"], "--size"),
        (["shards", "verify", "--readers", "-3"], "--readers"),
        (["status", "--watch", "--every", "-1"], "--every"),
        (["status", "--watch", "--json"], "exclude each other"),
        (["requeue", "--failed", "--validated"], "exclude each other"),
        (["seed"], "Missing argument"),
        (["fleet", "up", "--machines", "2"], "Missing option"),
        (["requeue", "--", "-dQw4w9WgXc", "--dry-run"], "--dry-run stands after `--`"),
        (["canaries", "clear", "--", "--seed=3"], "--seed=3 stands after `--`"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(words, says, capsys):
    """Nothing runs, and nothing is printed on stdout."""
    assert main(words) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("vfleet: ")
    assert says in line
    assert printed.out == ""


@pytest.mark.parametrize("words", [[], ["fleet"], ["gateway", "token"]])
def test_group_without_a_command_prints_its_help(words, capsys):
    """A group without a command prints its help and exits with 2, because nothing was done."""
    assert main(words) == ExitCode.BAD_INPUT
    assert "Usage: vfleet" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["requeue", "--dry-run", "--"],
        ["box", "add", "--"],
        ["box", "revoke", "--"],
        ["canaries", "clear", "--"],
        ["gateway", "token", "add", "--"],
        ["gateway", "token", "revoke", "--"],
    ],
)
def test_argument_may_begin_with_a_dash_after_two_dashes(words):
    """One YouTube id in 64 begins with `-`, so such an id is accepted after `--`."""
    context = parse_command([*words, "-dQw4w9WgXc"])
    assert "-dQw4w9WgXc" in [*context.params.values(), *(context.params.get("video") or ())]


def test_missing_extra_is_named(monkeypatch, capsys):
    """A command whose packages are not installed says which extra brings them."""
    monkeypatch.setitem(sys.modules, "validation.local.demo", None)

    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'moto.server'", name="moto.server")

    monkeypatch.setattr(cli, "app", fail)
    assert main(["demo"]) == ExitCode.BAD_INPUT
    assert "pip install 'validation-fleet[local]'" in capsys.readouterr().err


def test_terminal_without_utf8_gets_escapes():
    """No UnicodeEncodeError, and the exit code of the command."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "validation.cli"]
    done = subprocess.run([*command, "seed", "/nowhere/नमस्ते.csv"], env=environment, capture_output=True, check=False)
    assert done.returncode == ExitCode.BAD_INPUT
    assert b"\\u" in done.stderr
    assert b"Traceback" not in done.stderr


PASSWORDS = ["p@qz", "p@qz:w", "p@qz/w", "p?qz@w", "p#qz@w", "p qz@", "p[qz]@", "p%qz@"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("words", [["status"], ["migrate"], ["doctor", "--json"], ["audit"]])
def test_password_in_an_unreadable_address_is_never_shown(password, words, monkeypatch, capsys):
    """No part of an address that cannot be parsed is shown, because any part may belong to the password."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{password}ecret@127.0.0.1:9/x")
    monkeypatch.setattr("validation.doctor.runner.CONTROL_CHECKS", _database_checks())
    assert main(words) != ExitCode.OK
    printed = capsys.readouterr()
    assert "ecret" not in printed.out + printed.err
    assert "qz" not in printed.out + printed.err


def _database_checks() -> tuple[Any, ...]:
    from validation.doctor.database import check_database, check_pooler, check_tls

    return (check_database, check_pooler, check_tls)


@pytest.mark.parametrize("port", ["word", "99999999", "-1", "5432x"])
def test_port_that_is_not_a_number_is_bad_input(port, monkeypatch, capsys):
    """A wrong port is one sentence, not a traceback."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:secret@127.0.0.1:{port}/x")
    assert main(["status"]) in {ExitCode.BAD_INPUT, ExitCode.UNREACHABLE}
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "secret" not in line


def test_json_of_requeue_is_strict(box, capsys, monkeypatch):
    """`vfleet requeue --json` prints one strict JSON object per line."""
    monkeypatch.setattr("validation.services.open_engine", lambda *_: box.engine)
    box.add_videos("a", tar=False)
    assert main(["run-chunk"]) == ExitCode.OK
    capsys.readouterr()
    assert main(["requeue", "--failed", "--dry-run", "--json"]) == ExitCode.OK
    rows = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"language": "hi", "status": "validation_failed", "videos": 1}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["b"], "the queue has no video 'b': no video was requeued"),
        (["--language", "Hindi,ty"], "there is no language 'ty' in the queue"),
        (["--lacking", "whsper"], "there is no model 'whsper' in any suite; did you mean whisper?"),
        (["--suite", "indc"], "there is no suite 'indc' in the ledger; did you mean indic?"),
        (["--revision", "0" * 12], "there is no revision"),
        (["--worker", "nobody"], "there is no worker 'nobody' in the ledger"),
    ],
)
def test_requeue_refuses_unknown_names(box, words, says, capsys, monkeypatch):
    """An unknown name is refused, and nothing is changed, not even for the known names."""
    monkeypatch.setattr("validation.services.open_engine", lambda *_: box.engine)
    box.add_videos("a", tar=False)
    assert main(["requeue", *words]) == ExitCode.BAD_INPUT
    assert says in capsys.readouterr().err
