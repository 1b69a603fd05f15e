"""How the connections of one server have behaved, to guess what the next write will do.

outbox.py asks here whether a write may wait for another one. A guess is wrong when the write has waited for
more than a millisecond. Then the server's next 256 writes do not wait. Each further wrong guess makes that
four times as many, and each right guess takes a 256th off.
"""

from __future__ import annotations

import cython

# Callbacks that have to be seen to end soon before writes wait for the end of one.
CALLBACKS_SEEN = cython.declare(cython.uint, 16)
# For so many writes nothing is kept waiting after it went wrong; each time for four times as many. Each
# write that went well takes a part in 256 off that, so one that goes wrong now and then is soon forgotten.
REST_MIN = cython.declare(cython.uint, 256)
REST_MAX = cython.declare(cython.uint, 1 << 16)


@cython.final
@cython.cclass
class Habit:
    """The habits of a server's connections. One that belongs to no server has its own."""

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
        """Whether an answer of a task may wait now."""
        if self.reply_rest == 0:
            return True
        self.reply_rest -= 1
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def ends_soon(self) -> cython.bint:
        """Whether callbacks that write are known to end soon after."""
        return self.quick >= CALLBACKS_SEEN

    @cython.cfunc
    @cython.exceptval(check=False)
    def went_well(self) -> cython.void:
        """A write that waited did not wait long."""
        if self.next_rest > REST_MIN:
            self.next_rest -= self.next_rest >> 8

    @cython.cfunc
    @cython.exceptval(check=False)
    def took_long(self) -> cython.void:
        """A write has waited for too long."""
        self.quick = 0
        if self.rest == 0:
            self.rest = self.next_rest
            self.next_rest = min(4 * self.next_rest, REST_MAX)

    @cython.cfunc
    @cython.exceptval(check=False)
    def reply_went_well(self) -> cython.void:
        """An answer of a task did not wait long."""
        if self.next_reply_rest > REST_MIN:
            self.next_reply_rest -= self.next_reply_rest >> 8

    @cython.cfunc
    @cython.exceptval(check=False)
    def reply_took_long(self) -> cython.void:
        """An answer of a task has waited for too long. That says nothing of head and body."""
        self.quick = 0
        if self.reply_rest == 0:
            self.reply_rest = self.next_reply_rest
            self.next_reply_rest = min(4 * self.next_reply_rest, REST_MAX)
