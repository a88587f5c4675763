"""Run a module or a program in a process that the kernel ends when its parent ends.

    python -m validation.child_process --module MODULE PARENT_PID
    python -I -S child_process.py [--signal NUMBER] [--user UID:GID] PARENT_PID PROGRAM [ARGUMENT ...]

A worker that is killed cannot stop its flow processes. Without this launcher, the flow processes would continue chunks
that the ledger has taken back, beside the flow processes of the next worker. The services of the embedded stack would
outlive the stack in the same way.

The launcher runs the module in its own process, or replaces itself by the program (exec). So the process id stays the
same, and the module or program is a direct child of the launcher's parent. A parent with threads cannot safely run
Python code between fork and exec; therefore the launcher is a program of its own. It imports only the standard library
and can be run by its file path, because another account may not be allowed to read the installed packages.
"""

import argparse
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_pdeathsig(parent_pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent ends; exit at once if the parent has ended already.

    The setting survives an exec. Children do not inherit it, and a change of the user id clears it. The kernel watches
    the *thread* of the parent that started this process, so start the process from a thread that lives as long as the
    parent. Only Linux has this setting. On other systems a flow process continues until its lease is lost, and the next
    start of the embedded stack ends the processes that the previous stack left.

    Args:
        parent_pid: the process id of the parent.
        signal_number: the signal to send.

    Raises:
        OSError: the kernel rejects the setting.
        SystemExit: this process has another parent, because ``parent_pid`` has ended.
    """
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        sys.exit(f"parent {parent_pid} ended before its child began")


def drop_privileges(uid: int, gid: int) -> None:
    """Set the user id and group id of this process, and drop its supplementary groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def exec_with_pdeathsig(parent_pid: int, program: list[str], *, signal_number: int, user: str | None) -> None:
    """Replace this process by a program that receives a signal when the parent ends.

    Args:
        parent_pid: the process id of the parent.
        program: the path of the program, then its arguments.
        signal_number: the signal that the program receives when the parent ends.
        user: the user and group that run the program, as ``UID:GID``; None for the present user.

    Raises:
        SystemExit: the program cannot be run, or the parent has ended.
    """
    if user:
        drop_privileges(*map(int, user.split(":")))
    set_pdeathsig(parent_pid, signal_number)
    try:
        os.execv(program[0], program)  # noqa: S606 - the caller chooses the program
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error}")


def run_module_with_pdeathsig(parent_pid: int, module: str) -> None:
    """Run a Python module as the main program of this process until the parent ends.

    The process gets a session of its own, so Ctrl-C in a terminal reaches only the parent.
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
