"""Run a module in a process that does not outlive its parent.

    python -m validation.child_process PARENT_PID MODULE

A worker that is killed cannot stop its flow runs. Left alone they would go on with chunks that the ledger has taken
back, beside the worker that succeeds theirs, so the kernel stops them.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_pdeathsig(parent_pid: int) -> None:
    """Have the kernel SIGKILL this process when the parent ends, in whatever way; exit at once if it already has.

    The request holds across an exec and is not inherited by children. It follows the parent's *thread* that started
    this process, so start it from a thread that lives as long as the parent. Only Linux can; elsewhere an orphan
    runs on until its lease is lost.
    """
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        sys.exit(f"parent {parent_pid} ended before its child began")


def exec_with_pdeathsig(parent_pid: int, module: str) -> None:
    """Become ``module``, in a session of its own, so that a terminal's Ctrl-C reaches the parent alone."""
    os.setsid()
    set_pdeathsig(parent_pid)
    sys.argv[1:] = []
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    exec_with_pdeathsig(int(sys.argv[1]), sys.argv[2])
