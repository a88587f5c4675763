"""Real model hosts for tests, ended with them."""

import signal
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.inference_process import TOY_HOST, RunningHost


@pytest.fixture
def start_host(tmp_path) -> Iterator[Callable[..., RunningHost]]:
    """Start hosts of the suite `toy`; settings are environment variables. All are ended, and then leave nothing."""
    started: list[RunningHost] = []

    def start(*, command: Sequence[str] = TOY_HOST, **settings: str) -> RunningHost:
        folder = tmp_path / f"host-{len(started)}"
        folder.mkdir()
        started.append(RunningHost(folder, command, {"VFLEET_SUITE": "toy"} | settings))
        return started[-1]

    yield start
    for host in started:
        if host.process.poll() is None:
            assert host.end() == 0
        assert not host.socket.exists() or host.process.returncode == -signal.SIGKILL


@pytest.fixture(scope="session")
def shared_host(tmp_path_factory) -> Iterator[RunningHost]:
    """One for all who leave it as it was; nothing waits for its gate."""
    host = RunningHost(tmp_path_factory.mktemp("host"), TOY_HOST, {"VFLEET_SUITE": "toy"})
    host.gate.touch()
    yield host
    assert host.end() == 0


@pytest.fixture
def host(start_host) -> RunningHost:
    return start_host()
