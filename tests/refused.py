"""Runs a command in a process to which the kernel refuses io_uring, as many containers do.

    python tests/refused.py EPERM python -m pytest tests

The first word is the error that io_uring_setup gives (EPERM, ENOSYS, ...). KILL ends the process that calls
it. ENTER lets the process have a ring, and refuses to enter it. A seccomp filter does this, so it holds for
all children too. See seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

SETUP, ENTER = 425, 426  # system calls have these numbers on every architecture since Linux 5.1
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, GIVE_ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


def refuse(number: int, action: int) -> None:
    """Have the kernel answer a system call with `action` from now on."""
    program = [
        (LOAD, 0, 0, 0),  # the system call's number
        (JUMP_IF_EQUAL, 0, 1, number),
        (RETURN, 0, 0, action),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0),
    ):
        if libc.prctl(*(c if isinstance(c, bytes) else ctypes.c_ulong(c) for c in call)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    how, *command = sys.argv[1:]
    if how == "KILL":
        refuse(SETUP, KILL_PROCESS)
    elif how == "ENTER":
        refuse(ENTER, GIVE_ERRNO | errno.EPERM)
    else:
        refuse(SETUP, GIVE_ERRNO | getattr(errno, how))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
