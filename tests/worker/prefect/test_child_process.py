"""The launcher of flow processes: they end with their worker, and a file asks them to drain. No Prefect is needed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from validation.worker.chunk.open import DRAIN_FILE_VARIABLE, drain_requested

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "validation.child_process", "--module", "held", str(os.getpid())])
child.wait()
"""
WAITING_MODULE = """
import os, sys
print(os.getpid(), os.getpgid(0), __name__, len(sys.argv), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def waiting_module(tmp_path, monkeypatch):
    """A module that prints its pid, process group and name, and then waits."""
    (tmp_path / "held.py").write_text(WAITING_MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_child_ends_when_its_parent_is_killed(waiting_module):
    """The kernel ends the child of a killed parent. Until then the child leads its own process group."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        pid, group, name, arguments = parent.stdout.readline().split()
        child = psutil.Process(int(pid))
        assert (group, name, arguments) == (pid, "__main__", "1")
        assert child.ppid() == parent.pid

        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == ""  # no process holds the other end
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


def test_child_of_an_ended_parent_exits_at_once(waiting_module):
    """The kernel reports no death of the past, so the launcher compares its parent's pid."""
    other_parent = os.getppid()
    command = [sys.executable, "-m", "validation.child_process", "--module", "held", str(other_parent)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"parent {other_parent} ended" in ended.stderr


def test_drain_is_requested_by_a_file(tmp_path, monkeypatch):
    """A flow run that no worker started is never asked to drain; the others are asked once the file exists."""
    monkeypatch.delenv(DRAIN_FILE_VARIABLE, raising=False)
    assert not drain_requested()
    monkeypatch.setenv(DRAIN_FILE_VARIABLE, str(tmp_path / "drain"))
    assert not drain_requested()
    (tmp_path / "drain").touch()
    assert drain_requested()
