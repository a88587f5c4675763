"""A port that was chosen for a server is there when the server comes."""

import socket
import sys

import pytest

from validation.local import loopback
from validation.local.loopback import HOST, ask_http, free_port, is_free


def test_a_chosen_port_is_out_of_reach_of_outgoing_connections():
    """The kernel gives clients ports from 32768 up."""
    assert 20_000 <= free_port() < 32_000


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels let no server bind beside a reservation")
def test_a_port_is_chosen_once(monkeypatch):
    """Two servers chosen for at the same moment do not meet on one port, though neither has bound it yet."""
    monkeypatch.setattr(loopback, "_PORTS", range(20_000, 21_000))
    chosen = {free_port() for _ in range(60)}
    assert len(chosen) == 60


def test_a_server_binds_the_port_that_was_chosen_for_it():
    """The reservation is in nobody's way, and after the server has gone the next one may have the port."""
    port = free_port()
    for _ in range(2):
        assert is_free(port)
        with socket.create_server((HOST, port)):
            assert not is_free(port)


def test_nobody_answers_on_a_port_that_is_only_reserved():
    """A client is refused at once, as on any unused port."""
    assert "ConnectionRefusedError" in ask_http(free_port(), "GET", "/")
