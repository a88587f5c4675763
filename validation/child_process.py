"""Run a module or a program in a process that the kernel ends when its parent ends.

    python -m validation.child_process --module MODULE PARENT_PID
    python -I -S child_process.py [--signal NUMBER] [--user UID:GID] PARENT_PID PROGRAM [ARGUMENT ...]

A worker that is killed cannot stop its flow runs. They would go on with chunks that the ledger has taken back, beside
the flow runs of the next worker. The same holds for the services of the local stack.

The process keeps its id, so the module or program is a direct child of the process that started this one. This file
imports the standard library only, and can be run by its path: a parent with threads cannot safely run Python between
fork and exec, and another account may not be allowed to read the installed packages.
"""

import argparse
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_pdeathsig(parent_pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends in any way; exit at once if it has ended.

    The request holds across an exec, is not inherited by children, and is undone by a change of the user. It follows
    the *thread* of the parent that started this process, so start the process from a thread that lives as long as the
    parent. Only Linux supports it: elsewhere a flow process runs on until its lease is lost, and the next start of the
    local stack ends the processes that the last one left.
    """
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        sys.exit(f"parent {parent_pid} ended before its child began")


def drop_privileges(uid: int, gid: int) -> None:
    """Become another user, without supplementary groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def exec_with_pdeathsig(parent_pid: int, program: list[str], *, signal_number: int, user: str | None) -> None:
    """Replace this process by a program, as ``user`` (UID:GID) if given."""
    if user:
        drop_privileges(*map(int, user.split(":")))
    set_pdeathsig(parent_pid, signal_number)
    try:
        os.execv(program[0], program)  # noqa: S606 - the program is the caller's choice
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error}")


def run_module_with_pdeathsig(parent_pid: int, module: str) -> None:
    """Run ``module`` as the main program, in a session of its own.

    So Ctrl-C in a terminal reaches the parent only.
    """
    os.setsid()
    set_pdeathsig(parent_pid)
    sys.argv[1:] = []
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Parse the command line and run the module or program."""
    parser = argparse.ArgumentParser(description="Run a module or program that ends with its parent.")
    parser.add_argument("parent_pid", type=int)
    parser.add_argument("--module", help="a module to run in this process, in place of a program")
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL), help="the signal when the parent ends")
    parser.add_argument("--user", help="UID:GID to become")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.module:
        run_module_with_pdeathsig(options.parent_pid, options.module)
    else:
        exec_with_pdeathsig(options.parent_pid, options.program, signal_number=options.signal, user=options.user)


if __name__ == "__main__":
    main()
