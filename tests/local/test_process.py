"""A supervised child process: its log, its pid file, and its end with the parent."""

import json
import os
import subprocess
import sys
from signal import SIGKILL, SIGTERM, SIGURG
from threading import Thread

import psutil
import pytest

from validation.local.process import Child, Program, is_alive, poll_until

FOREVER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
DEAF = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]
WITH_CHILD = [sys.executable, "-c", f"import subprocess; subprocess.run({FOREVER!r})"]

PARENT = """
import os, signal, sys
from pathlib import Path
from validation.local.process import Child, Program
child = Child("child", Path(sys.argv[1]))
child.launch(Program(sys.argv[3:], os.environ), orphan_signal=signal.Signals(int(sys.argv[2])))
print(child.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def launch(tmp_path):
    """Launch a command as a child, and wait until it prints `up`."""
    child = Child("child", tmp_path)

    def launch_and_await(command):
        child.launch(Program(command, os.environ), orphan_signal=SIGKILL)
        assert poll_until(lambda: "up" in child.log_tail(), within_s=10)
        return child

    yield launch_and_await
    child.end(SIGKILL, grace_s=0)


@pytest.fixture
def orphan(tmp_path):
    """Have another process launch a child, SIGKILL that process, and return its child."""

    def make(orphan_signal):
        command = [sys.executable, "-c", PARENT, str(tmp_path), str(int(orphan_signal)), *FOREVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            child = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
        return child

    return make


def test_child_exits_on_its_stop_signal(launch):
    """`end` sends the signal and returns when the process is gone."""
    child = launch(FOREVER)
    process = psutil.Process(child.pid)
    child.end(SIGTERM, grace_s=10)
    assert child.pid is None
    assert not process.is_running()


def test_child_that_ignores_the_stop_signal_is_killed(launch):
    """After the grace period the child gets SIGKILL."""
    child = launch(DEAF)
    process = psutil.Process(child.pid)
    child.end(SIGTERM, grace_s=0.2)
    assert not process.is_running()


def test_grandchildren_end_with_the_child(launch):
    """Processes that the child started are ended with it."""
    child = launch(WITH_CHILD)
    (grandchild,) = psutil.Process(child.pid).children()
    child.end(SIGKILL, grace_s=0)
    assert not is_alive(grandchild)


def test_child_ends_when_its_parent_is_killed(orphan):
    """After SIGKILL of the parent the kernel sends the child its signal."""
    child = orphan(SIGKILL)
    assert poll_until(lambda: not is_alive(child), within_s=10)


def test_child_outlives_the_thread_that_launched_it(launch):
    """The parent-death signal follows the process, not the thread that called `launch`."""
    children = []
    thread = Thread(target=lambda: children.append(launch(FOREVER)))
    thread.start()
    thread.join()
    (child,) = children
    assert not poll_until(lambda: child.exit_status() is not None, within_s=0.5)


def test_leftover_of_a_killed_run_is_ended(orphan, tmp_path):
    """If the parent-death signal has no effect (here it is ignored), the pid file finds the orphan."""
    child = orphan(SIGURG)
    assert is_alive(child)
    Child("child", tmp_path).end_leftover(SIGTERM, grace_s=10)
    assert not is_alive(child)


def test_process_with_a_reused_id_is_left_alone(launch, tmp_path):
    """An old pid file must not end another process that has the same id now."""
    bystander = launch(FOREVER)
    record = {"pid": bystander.pid, "started": psutil.Process(bystander.pid).create_time() - 3600, "owner": 1}
    (tmp_path / "other.pid").write_text(json.dumps(record))
    Child("other", tmp_path).end_leftover(SIGKILL, grace_s=0)
    assert bystander.exit_status() is None


@pytest.mark.parametrize("contents", ["", '{"pid": 1', "[]"])
def test_truncated_pid_file_is_ignored(tmp_path, contents):
    """A kill may leave an incomplete pid file."""
    (tmp_path / "child.pid").write_text(contents)
    Child("child", tmp_path).end_leftover(SIGKILL, grace_s=0)


def test_log_tail_starts_at_the_latest_launch(launch):
    """The output of earlier runs stays in the log file but is not in the tail."""
    launch([sys.executable, "-c", "print('up and earlier')"]).wait()
    later = launch([sys.executable, "-c", "print('up and later')"])
    later.wait()
    assert later.log_tail() == "up and later"
    assert "earlier" in later.log_path.read_text()


def test_missing_program_is_named_in_the_log(tmp_path):
    """The exit status is 1, and the log names the program."""
    child = Child("child", tmp_path)
    child.launch(Program(["/no/such/program"], {}), orphan_signal=SIGKILL)
    assert child.wait() == 1
    assert "cannot run /no/such/program" in child.log_tail()
