"""Ports that are chosen for servers are free when the servers bind them."""

import socket
import sys

import pytest

from validation.local import service
from validation.local.service import HOST, is_free, reserve_port, try_http


def test_chosen_port_is_below_the_ephemeral_range():
    """The kernel gives outgoing connections ports from 32768 up."""
    assert 20_000 <= reserve_port() < 32_000


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels let no server bind beside a reservation")
def test_port_is_chosen_once(monkeypatch):
    """Two calls return different ports before either is bound."""
    monkeypatch.setattr(service, "_PORTS", range(20_000, 21_000))
    chosen = {reserve_port() for _ in range(60)}
    assert len(chosen) == 60


def test_server_can_bind_its_reserved_port():
    """The reservation does not block a server, and a later server may bind the port again."""
    port = reserve_port()
    for _ in range(2):
        assert is_free(port)
        with socket.create_server((HOST, port)):
            assert not is_free(port)


def test_reserved_port_refuses_clients():
    """A client is refused at once, as on an unused port."""
    assert "ConnectionRefusedError" in try_http(reserve_port(), "GET", "/")
