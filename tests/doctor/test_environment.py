"""The doctor names variables that nothing reads, and a control worker with other settings."""

import os

import pytest

from validation.doctor.check import CheckWarning
from validation.doctor.environment import check_variables, compare_environments
from validation.settings import Settings


@pytest.fixture
def processes(tmp_path):
    """A folder like /proc with one control worker: `processes(NAME=value)` sets its environment."""

    def run(**environment):
        folder = tmp_path / "17"
        folder.mkdir(exist_ok=True)
        (folder / "cmdline").write_bytes(
            b"\0".join([b"python", b"/app/bin/prefect", b"worker", b"start", b"--pool", b"control"])
        )
        (folder / "environ").write_bytes(b"\0".join(f"{name}={value}".encode() for name, value in environment.items()))
        return tmp_path

    (tmp_path / "self").mkdir()
    (tmp_path / "18").mkdir()
    (tmp_path / "18" / "cmdline").write_bytes(b"python\0worker.py")
    return run


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("VFLEET_SUTE", "nothing reads VFLEET_SUTE: did you mean VFLEET_SUITE?"),
        ("BOX_VFLEET_LANGUAGE", "nothing reads BOX_VFLEET_LANGUAGE: did you mean VFLEET_LANGUAGES?"),
        ("VFLEET_XYZ", "nothing reads VFLEET_XYZ: docs/configuration.md has all names"),
    ],
)
def test_misspelt_variable_is_named(monkeypatch, name, says):
    """A setting that nothing reads looks set and is not. Its value is not shown."""
    monkeypatch.setenv(name, "secret")
    with pytest.raises(CheckWarning) as warned:
        check_variables(Settings())
    assert str(warned.value) == says


def test_known_variables_pass(monkeypatch):
    """Those of settings, those that the fleet sets by itself, and those of boxes."""
    for name in (
        "VFLEET_SUITE",
        "VFLEET_DRAIN_FILE",
        "VFLEET_INFERENCE_SOCKET",
        "BOX_VFLEET_SUITE",
        "BOX_DATABASE_URL",
    ):
        monkeypatch.setenv(name, "local")
    assert "each is read" in check_variables(Settings())


def test_control_worker_with_other_settings_is_told(processes):
    """The variables that differ are named, and no value is shown."""
    own = {"DATABASE_URL": "postgresql://me:secret@db/x", "VFLEET_SUITE": "indic", "HOME": "/root"}
    folder = processes(**own | {"HOME": "/var/lib"})
    assert "has the settings of this shell" in compare_environments(folder, own)
    folder = processes(DATABASE_URL="postgresql://me:other@db/x", BOX_VFLEET_SUITE="vad", VFLEET_SUITE="indic")
    with pytest.raises(CheckWarning, match="other values of BOX_VFLEET_SUITE, DATABASE_URL than") as warned:
        compare_environments(folder, own)
    assert "secret" not in str(warned.value)
    assert "other@" not in str(warned.value)


def test_machine_without_a_control_worker_is_skipped(tmp_path):
    """The worker may run on another machine."""
    assert compare_environments(tmp_path, os.environ) is None
