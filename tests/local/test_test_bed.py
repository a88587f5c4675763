"""The guarantees of `tests/conftest.py`."""

import os
import socket
from pathlib import Path

import pytest


def test_connections_outside_loopback_are_refused():
    """A test that needs the network fails on every machine."""
    with socket.socket() as outgoing, pytest.raises(PermissionError, match="tests stay on loopback"):
        outgoing.connect(("192.0.2.1", 80))


def test_names_are_refused_before_they_are_resolved():
    """Even a DNS query would leave the machine."""
    with pytest.raises(PermissionError, match=r"example\.org"):
        socket.create_connection(("example.org", 80))


def test_prefect_home_is_in_the_session_folder(session_folder):
    """Prefect reads and writes nothing in the user's home."""
    assert Path(os.environ["PREFECT_HOME"]).is_relative_to(session_folder)
    assert "PREFECT_API_URL" not in os.environ


def test_settings_of_a_real_fleet_are_removed():
    """Credentials in the caller's environment are not visible to tests."""
    assert not [name for name in os.environ if name.startswith(("R2_", "AWS_", "DATABASE_URL"))]
