"""Gives a terminal its flags back when its transport is closed, and at the interpreter's exit.

The shell and the next program share the terminal, and expect that it blocks.
"""

from __future__ import annotations

import atexit
import os


class TerminalFlags:
    """Whether a terminal blocked before a transport used it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._device = os.fstat(fd).st_rdev
        self._blocked = os.get_blocking(fd)
        _lent.append(self)

    def give_back(self) -> None:
        """Make the terminal block again. If another transport has the same open file, that one does it
        later.
        """
        if self not in _lent:
            return
        _lent.remove(self)
        if not self._blocked or not self._is_there():
            return
        os.set_blocking(self._fd, True)
        for other in _lent:
            if other._device == self._device and other._is_there() and os.get_blocking(other._fd):
                os.set_blocking(other._fd, False)
                other._blocked = True
                return

    def _is_there(self) -> bool:
        """Whether the descriptor is still open, and still this terminal's."""
        try:
            return os.fstat(self._fd).st_rdev == self._device
        except OSError:
            return False


_lent: list[TerminalFlags] = []


def _give_all_back() -> None:
    for flags in list(_lent):
        flags.give_back()


atexit.register(_give_all_back)
os.register_at_fork(after_in_child=_lent.clear)  # the parent restores the flags
