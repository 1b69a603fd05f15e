"""Turns the kernel's error numbers into Python's exceptions. This is done nowhere else.

System calls in the core return a result or -errno. OSError picks the right subclass by itself
(ConnectionResetError, BlockingIOError, ...).
"""

from __future__ import annotations

import os

import cython


@cython.cfunc
def os_error(result: cython.int) -> object:
    """Return the exception for a negative result of a system call."""
    return OSError(-result, os.strerror(-result))


@cython.cfunc
@cython.exceptval(-1, check=False)
def raise_errno(result: cython.int, doing: object = None) -> cython.int:
    """Raise the exception for a negative result. `doing` names the operation in the message."""
    if doing is None:
        raise os_error(result)
    raise OSError(-result, f"{os.strerror(-result)} ({doing})")
