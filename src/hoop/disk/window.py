"""The part of an open file that is in memory: a window of bytes from some offset on, and how it is filled.

A read asks the kernel for more than it needs, and for twice as much each time that the file is read in order.
On the loop it only takes the bytes that the kernel has cached. On a thread of the pool it waits for them.
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.hoop._c.file import (
    HOOP_READ,
    POLLIN,
    hoop_perform,
    hoop_read_cached,
    hoop_wait_ready,
)
from cython.cimports.hoop.disk.pieces import Chunk, new_chunk
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.libc.stdint import int64_t
from cython.cimports.libc.string import memchr, memmove

EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EINTR = cython.declare(cython.int, errno.EINTR)


@cython.cclass
class Window:
    """The half of a Buffer that reads ahead. The buffer takes bytes out, and has those to be written."""

    def __cinit__(self):
        self.fd = self.abort_fd = -1
        self.next_bytes = FIRST_BYTES

    @property
    def closed(self):
        """Whether it is closed."""
        return self.fd < 0

    def fileno(self):
        """The descriptor."""
        if self.fd < 0:
            raise ValueError("I/O operation on closed file")
        return self.fd

    # ---- what is in memory ----

    @cython.cfunc
    @cython.exceptval(check=False)
    def available(self) -> cython.Py_ssize_t:
        """How many bytes from the position on are in the window."""
        ahead: int64_t
        if self.window is None:
            return 0
        ahead = self.window_at + self.window_bytes - self.pos
        return ahead if 0 <= ahead <= self.window_bytes else 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def front(self) -> cython.p_char:
        return self.window.data + (self.pos - self.window_at)

    @cython.cfunc
    @cython.exceptval(check=False)
    def line_bytes(self) -> cython.Py_ssize_t:
        """The length of the line at the position, or 0 if its end is not in the window."""
        n: cython.Py_ssize_t = self.available()
        if n == 0:
            return 0
        start: cython.p_char = self.front()
        end: cython.p_char = cython.cast(cython.p_char, memchr(start, 10, n))
        return 0 if end is cython.NULL else end - start + 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def has(self, need: cython.Py_ssize_t) -> cython.bint:
        if self.pending_bytes or self.draining:
            return False  # the file lacks bytes that were written here
        if self.at_end and self.window_at <= self.pos <= self.window_at + self.window_bytes:
            return True
        if need >= 0:
            return self.available() >= need
        return need == LINE and self.line_bytes() > 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def renew(self) -> cython.void:
        """An operation begins. To the one before the file had ended, but it may have grown."""
        if self.said_end:
            self.said_end = self.at_end = False

    def begin(self):
        """An operation begins on a thread."""
        self.renew()

    def ready(self, need: cython.Py_ssize_t):
        """Take bytes that the kernel has cached. Returns whether `need` bytes, or the last ones, are there.

        A `need` of -1 means all bytes, -2 a line. Begins an operation. Raises OSError.
        """
        self.renew()
        return self.has(need) or self.fill_cached(need)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def has_line(self) -> cython.bint:
        """Whether a line, or the rest of the file, is in memory: ready(LINE)."""
        self.renew()
        return self.has(LINE) or self.fill_cached(LINE)

    # ---- reading ahead ----

    @cython.cfunc
    def make_room(self, n: cython.Py_ssize_t) -> cython.p_char:
        """Where the next n bytes of the window go. Only while no op reads into it."""
        left: cython.Py_ssize_t = self.available()
        if self.window is None or (left == 0 and self.window.capacity < n):
            self.window = new_chunk(n)
            self.window_bytes = 0
            self.window_at = self.pos
        elif left == 0:
            self.window_bytes = 0
            self.window_at = self.pos
        elif self.window.capacity - self.window_bytes < n:
            window = self.window if self.window.capacity >= left + n else new_chunk(left + n)
            memmove(window.data, self.front(), left)
            self.window = window
            self.window_bytes = left
            self.window_at = self.pos
        return self.window.data + self.window_bytes

    @cython.cfunc
    @cython.exceptval(check=False)
    def ask_for(self, need: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """How much the next read asks for."""
        n: int64_t = max(self.next_bytes, need - self.available())
        at: int64_t = self.pos + self.available()
        if self.size >= at:
            left: int64_t = self.size - at
            if need == TO_END or n > left:
                # One more, to see that it is the end. A file system may claim any size.
                n = min(left, FILL_BYTES_MAX) + 1
        return n

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow(self, n: cython.Py_ssize_t, most: cython.Py_ssize_t) -> cython.int:
        """The file is read in order: ask for more at a time."""
        if n >= self.next_bytes:
            self.next_bytes = min(2 * self.next_bytes, max(most, self.next_bytes))
        if 0 <= self.size < self.window_at + self.window_bytes:
            self.size = -1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_cached(self, need: cython.Py_ssize_t) -> cython.bint:
        """Take what the kernel has cached. Whether that is enough."""
        taken: cython.Py_ssize_t = 0
        n: cython.Py_ssize_t
        got: cython.Py_ssize_t
        if (
            not self.asks_cache
            or self.filling
            or self.pending_bytes
            or self.draining
            or self.fd < 0
            or self.may_wait
            or self.tired
        ):
            return False
        while not self.has(need):
            n = self.ask_for(need)
            if taken >= CACHED_BYTES_MAX or n > FILL_BYTES_MAX:
                return False
            place: cython.p_char = self.make_room(n)
            got = hoop_read_cached(self.fd, place, n, self.window_at + self.window_bytes)
            if got < 0:
                if got != -EAGAIN:
                    self.asks_cache = False
                return False
            self.at_end = got == 0
            self.window_bytes += got
            taken += got
            self.cold = False
            if got == n:
                self.grow(n, CACHED_BYTES_MAX)
        self.tire(taken)
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def tire(self, n: cython.Py_ssize_t) -> cython.void:
        """Count bytes that were read without a turn of the loop. After many, the loop gets a turn."""
        self.streak += n
        if self.streak > FILL_BYTES_MAX:
            self.streak = 0
            self.tired = True

    def rest(self):
        """Whether it is time for a turn of the loop: then it has been taken."""
        tired: cython.bint = self.tired
        self.tired = False
        return tired

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fill_waiting(self, need: cython.Py_ssize_t) -> cython.int:
        """On a thread of the pool: read until it is enough."""
        got: cython.long
        while not self.has(need):
            if self.abort_fd >= 0:
                self.wait_ready(POLLIN)
            n: cython.Py_ssize_t = min(self.ask_for(need), FILL_BYTES_MAX)
            place: cython.p_char = self.make_room(n)
            window: Chunk = self.window  # held: another thread may forget it meanwhile
            end: int64_t = self.window_at + self.window_bytes
            fd: cython.int = self.fd
            at: int64_t = end if self.regular else -1  # HOOP_HERE
            with cython.nogil:
                got = hoop_perform(HOOP_READ, fd, 0, place, n, at)
            if got == -EINTR:
                continue
            if got < 0:
                raise os_error(got)
            if self.window is not window or self.window_at + self.window_bytes != end:
                continue
            self.at_end = got == 0
            self.window_bytes += got
            if got == n:
                self.grow(n, FILL_BYTES_MAX)
        return 0

    def wait_ready(self, events: cython.int):
        """On a thread of the pool: wait for the other side, or to be told to give up."""
        result: cython.int
        fd: cython.int = self.fileno()
        abort_fd: cython.int = self.abort_fd
        while True:
            with cython.nogil:
                result = hoop_wait_ready(fd, events, abort_fd)
            if result != -EINTR:
                break
        if result < 0:
            raise os_error(result)

    def forget(self):
        """Forget the bytes in memory, because the file was changed."""
        self.window = None
        self.window_bytes = 0
        self.at_end = False
        self.size = -1
