"""What `tests/conftest.py` promises to every test."""

import os
import socket
from pathlib import Path

import pytest


def test_a_test_cannot_leave_the_machine():
    """A test that needs the network fails on every machine, not only on those without one."""
    with socket.socket() as outgoing, pytest.raises(PermissionError, match="tests stay on loopback"):
        outgoing.connect(("192.0.2.1", 80))


def test_a_name_is_refused_before_it_is_looked_up():
    """Even the question would leave the machine."""
    with pytest.raises(PermissionError, match=r"example\.org"):
        socket.create_connection(("example.org", 80))


def test_prefect_has_a_home_that_the_session_deletes(session_folder):
    """Nothing is read from, or left in, the home of whoever runs the tests."""
    assert Path(os.environ["PREFECT_HOME"]).is_relative_to(session_folder)
    assert "PREFECT_API_URL" not in os.environ


def test_no_settings_of_a_real_fleet_are_visible():
    """Credentials in the caller's shell are not the tests' business."""
    assert not [name for name in os.environ if name.startswith(("R2_", "AWS_", "DATABASE_URL"))]
