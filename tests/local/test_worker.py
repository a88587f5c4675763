"""A worker of the embedded stack runs for each account of a machine."""

import os
import tempfile

import pytest

from validation.local.worker import RUNNER_FOLDER, own_temporary_folder


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_second_account_gets_a_temporary_folder_of_its_own(shared, monkeypatch):
    """Prefect could not write into the folder of the first account."""
    (shared / RUNNER_FOLDER).mkdir()
    second = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: second)
    assert own_temporary_folder() == {"TMPDIR": str(shared / f"vfleet-{second}")}
    assert (shared / f"vfleet-{second}").stat().st_mode & 0o777 == 0o700


def test_first_account_keeps_the_folder_of_the_machine(shared):
    """Also once Prefect has made its folder there."""
    assert own_temporary_folder() == {}
    (shared / RUNNER_FOLDER).mkdir()
    assert own_temporary_folder() == {}
