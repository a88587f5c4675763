"""What a flow process is promised by the launcher, and how it hears that it should drain. No Prefect here."""

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
HELD = """
import os, sys
print(os.getpid(), os.getpgid(0), __name__, len(sys.argv), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A module that tells who it is and then waits."""
    (tmp_path / "held.py").write_text(HELD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_kernel_ends_a_process_whose_parent_is_killed(held):
    """Even a parent that cannot say goodbye takes its children along. Until then they lead a group of their own."""
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


def test_a_process_whose_parent_ended_before_it_began_does_not_begin(held):
    """The kernel tells of no death in the past: the launcher looks for itself."""
    stranger = os.getppid()
    command = [sys.executable, "-m", "validation.child_process", "--module", "held", str(stranger)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"parent {stranger} ended" in ended.stderr


def test_a_drain_is_requested_by_a_file(tmp_path, monkeypatch):
    """A flow run that no worker started is never asked; one that a worker started is asked once the file exists."""
    monkeypatch.delenv(DRAIN_FILE_VARIABLE, raising=False)
    assert not drain_requested()
    monkeypatch.setenv(DRAIN_FILE_VARIABLE, str(tmp_path / "drain"))
    assert not drain_requested()
    (tmp_path / "drain").touch()
    assert drain_requested()
