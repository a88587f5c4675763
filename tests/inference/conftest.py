"""Fixtures: real inference servers, ended with the test."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.inference_process import SCRIPTED_SERVER, RunningServer


@pytest.fixture
def start_server(tmp_path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers of the suite `scripted`; settings are environment variables. Their sockets are gone at the end."""
    started: list[RunningServer] = []

    def start(*, command: Sequence[str] = SCRIPTED_SERVER, **settings: str) -> RunningServer:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        started.append(RunningServer(folder, command, {"VFLEET_SUITE": "scripted"} | settings))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            assert server.end() == 0
        assert not server.socket.exists() or server.process.returncode == -signal.SIGKILL


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory) -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was; its gate is open."""
    server = RunningServer(tmp_path_factory.mktemp("server"), SCRIPTED_SERVER, {"VFLEET_SUITE": "scripted"})
    server.gate.touch()
    yield server
    assert server.end() == 0


@pytest.fixture
def server(start_server) -> RunningServer:
    return start_server()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """A thread for a client that waits while the test acts."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
