"""Become another program, one that ends when its parent does.

    python -I -S under_parent.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT ...]

The process keeps its id, so the program is a direct child of whoever started this. It is a program of its
own, run by path and importing the standard library only: a parent with threads cannot safely run Python between
its fork and the exec, and the account that it changes to may not be allowed to read Python. UID and GID are -1
for "stay who you are".
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def drop_privileges(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def exec_with_pdeathsig_as(parent_pid: int, signal_number: int) -> None:
    """Ask the kernel for a signal when the parent is gone. After `drop_privileges`, which undoes the request.

    Only Linux can. Elsewhere the next run of the stack finds what was left, by its pid file.
    """
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        sys.exit("the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        sys.exit(f"parent {parent_pid} ended before its child began")


def main() -> None:
    parent_pid, signal_number, uid, gid = map(int, sys.argv[1:5])
    program = sys.argv[5:]
    if uid >= 0:
        drop_privileges(uid, gid)
    exec_with_pdeathsig_as(parent_pid, signal_number)
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error}")


if __name__ == "__main__":
    main()
