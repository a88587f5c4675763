"""The services of deploy/systemd run programs of this project, with environment files that exist or are described."""

import shlex
from pathlib import Path

import pytest

from tests.support.cli_parsing import parse_command
from tests.support.doc_pages import DOCS

PROJECT = DOCS.parent
HOME = "/app/"
"""Where the units take the project to lie."""
UNITS = sorted((PROJECT / "deploy/systemd").glob("*.service"))


def settings_of(unit: Path, name: str) -> list[str]:
    """The values of a setting of a unit."""
    return [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith(f"{name}=")]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_service_starts_a_program_of_this_project(unit):
    """By an absolute path, which systemd needs, and with options that the program has."""
    (command,) = settings_of(unit, "ExecStart")
    program, *words = shlex.split(command)
    assert program in {f"{HOME}.venv/bin/vfleet", f"{HOME}.venv/bin/prefect"}
    if program.endswith("vfleet"):
        assert parse_command(words).command.callback


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_environment_files_of_a_service_exist_or_are_described(unit):
    """Each file is in the repository, or deploy.md describes how to write it and to start the service."""
    page = (DOCS / "deploy.md").read_text()
    for file in settings_of(unit, "EnvironmentFile"):
        assert (PROJECT / file.removeprefix(HOME)).exists() or file.removeprefix(HOME) in page, file
    assert unit.stem in page


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_service_shares_no_temporary_folder(unit):
    """Prefect's folder in /tmp belongs to the first account that used it; a dynamic user has a /tmp of its own."""
    assert "yes" in settings_of(unit, "PrivateTmp") + settings_of(unit, "DynamicUser")
