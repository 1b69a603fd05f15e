"""How the connections of one server have behaved, to guess what the next write will do.

outbox.py asks here whether a write may wait for another one. A guess is wrong when the write has waited for
more than a millisecond. Then the server's next 256 writes do not wait. Each further wrong guess makes that
four times as many, and each right guess takes a 256th off.
"""

from __future__ import annotations

import cython

# Writes may wait until a callback ends, if at least this many callbacks in a row ended soon.
CALLBACKS_SEEN = cython.declare(cython.uint, 16)
# The number of writes that do not wait after a wait that was too long. Each further one quadruples it.
# Every wait that went well lowers that number by one part in 256, so that rare long waits are forgotten.
REST_MIN = cython.declare(cython.uint, 256)
REST_MAX = cython.declare(cython.uint, 1 << 16)


@cython.final
@cython.cclass
class Habit:
    """The habits of a server's connections. A connection that no server accepted has its own."""

    def __cinit__(self):
        self.next_rest = self.next_reply_rest = REST_MIN

    @cython.cfunc
    @cython.exceptval(check=False)
    def may_wait(self) -> cython.bint:
        """Whether a write may wait now."""
        if self.rest == 0:
            return True
        self.rest -= 1
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def reply_may_wait(self) -> cython.bint:
        """Whether a reply of a task may wait now."""
        if self.reply_rest == 0:
            return True
        self.reply_rest -= 1
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def ends_soon(self) -> cython.bint:
        """Whether the last callbacks ended soon after they wrote."""
        return self.quick >= CALLBACKS_SEEN

    @cython.cfunc
    @cython.exceptval(check=False)
    def went_well(self) -> cython.void:
        """Note that a write did not wait long."""
        if self.next_rest > REST_MIN:
            self.next_rest -= self.next_rest >> 8

    @cython.cfunc
    @cython.exceptval(check=False)
    def took_long(self) -> cython.void:
        """Note that a write waited for too long."""
        self.quick = 0
        if self.rest == 0:
            self.rest = self.next_rest
            self.next_rest = min(4 * self.next_rest, REST_MAX)

    @cython.cfunc
    @cython.exceptval(check=False)
    def reply_went_well(self) -> cython.void:
        """Note that a task's reply did not wait long."""
        if self.next_reply_rest > REST_MIN:
            self.next_reply_rest -= self.next_reply_rest >> 8

    @cython.cfunc
    @cython.exceptval(check=False)
    def reply_took_long(self) -> cython.void:
        """Note that a task's reply waited for too long. Writes of callbacks may still wait."""
        self.quick = 0
        if self.reply_rest == 0:
            self.reply_rest = self.next_reply_rest
            self.next_reply_rest = min(4 * self.next_reply_rest, REST_MAX)
