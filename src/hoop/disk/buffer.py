"""An open file as io.BufferedRandom has it, on bytes in memory: a window read ahead, and bytes to be written.

A Buffer is what io.BufferedRandom is, with one difference: it never waits. Its methods work on memory. A
read that finds too little takes from the kernel the bytes that are cached (window.py). Written bytes stay
until somebody has them written. So `io.TextIOWrapper` over a Buffer runs on the loop, exact in every detail.
Its caller must have made sure that the bytes that it needs are there (`ready`).

Files that are not regular (pipes, terminals, devices) have no offsets and may wait for ever. Their
operations run as a whole on a thread, with `may_wait` set: then the same methods make blocking calls.
"""

from __future__ import annotations

import errno
import io
import operator
import os

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.hoop._c.file import (
    HOOP_WRITE,
    POLLOUT,
    hoop_perform,
    hoop_read_cached,
    hoop_stand_at,
)
from cython.cimports.hoop._c.linux import hoop_close
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.disk.pieces import Piece, close_waiting, new_piece, size_of
from cython.cimports.hoop.disk.window import FILL_BYTES_MAX, FIRST_BYTES, LINE, TO_END, Window
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.libc.stdint import int64_t
from cython.cimports.libc.string import memcpy

UnsupportedOperation = cython.declare(object, io.UnsupportedOperation)
operator_index = cython.declare(object, operator.index)

WHENCES = cython.declare(object, (0, 1, 2, os.SEEK_DATA, os.SEEK_HOLE))
EAGAIN = cython.declare(cython.int, errno.EAGAIN)
EINTR = cython.declare(cython.int, errno.EINTR)
EINVAL = cython.declare(cython.int, errno.EINVAL)
ESPIPE = cython.declare(cython.int, errno.ESPIPE)
POSITION_MAX = cython.declare(int64_t, (1 << 63) - 1)
# Every file system allows positions up to this one. hoop asks the kernel about later ones.
SURE_POSITION_MAX = cython.declare(int64_t, (1 << 31) - 1)
# No single call moves more: Linux's own limit is a page less than 2 GiB.
CALL_BYTES_MAX = cython.declare(cython.Py_ssize_t, 1 << 30)
# More than a pipe is sure to take at once would wait where nobody can stop it.
PIPE_BYTES = cython.declare(cython.Py_ssize_t, 4096)


@cython.cclass
class Buffer(Window):
    """The bytes of an open file. See io.BufferedRandom for what the methods mean."""

    def __cinit__(self):
        self.left = -1
        self.pending = []

    def __dealloc__(self):
        fd: cython.int = self.fd if self.fd >= 0 else self.left
        if fd >= 0 and self.owns:  # of a loop that was closed with the file open
            with cython.nogil:
                hoop_close(fd)
        if self.abort_fd >= 0:
            hoop_close(self.abort_fd)

    # ---- asking ----

    def isatty(self):
        """Whether it is a terminal."""
        return os.isatty(self.fileno())

    def readable(self):
        """Whether it can be read."""
        return self.can_read and self.fileno() >= 0

    def writable(self):
        """Whether it can be written."""
        return self.can_write and self.fileno() >= 0

    def seekable(self):
        """Whether it has positions."""
        self.fileno()
        return self.regular

    def tell(self):
        """The position."""
        if self.fd < 0:
            raise ValueError("I/O operation on closed file")
        if not self.regular:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        return self.pos

    # ---- what an operation needs ----

    def wait_for(self, need: cython.Py_ssize_t):
        """Read until `need` bytes are in memory. Runs on a thread of the pool."""
        self.ensure(need)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ensure(self, need: cython.Py_ssize_t) -> cython.int:
        if self.has(need):
            return 0
        if self.may_wait:
            if self.pending_bytes:
                self.drain_waiting()
            return self.fill_waiting(need)
        if not self.fill_cached(need):
            raise BlockingIOError(EAGAIN, "the data is not in memory")
        return 0

    # ---- reading, from memory ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_reading(self, doing: str) -> cython.int:
        if not self.can_read:
            raise UnsupportedOperation("File not open for reading" if self.unbuffered else doing)
        if self.fd < 0:
            raise ValueError(f"{doing} of closed file")
        return 0

    @cython.cfunc
    def take(self, n: cython.Py_ssize_t) -> object:
        have: cython.Py_ssize_t = self.available()
        if n > have:
            n = have
            self.said_end = True
        if n == 0:
            return b""
        data = PyBytes_FromStringAndSize(self.front(), n)
        self.pos += n
        if self.cold:
            self.read_ahead()
        return data

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_ahead(self) -> cython.int:
        """Have the next part read before it is asked for."""
        return 0

    def read(self, size=-1, /):
        """Up to `size` bytes, fewer only at the end."""
        n: cython.Py_ssize_t = size_of(size) if self.can_read else -1
        self.check_reading("read")
        if n < -1:
            raise ValueError("read length must be non-negative or -1")
        if n < 0:
            self.ensure(TO_END)
            data = self.take(self.available())
            self.said_end = True
            return data
        if n == 0:
            return b""
        self.ensure(1 if self.unbuffered and self.may_wait else n)
        return self.take(n)

    def read1(self, size=-1, /):
        """The bytes that one read brings."""
        n: cython.Py_ssize_t = size_of(size) if self.can_read else -1
        self.check_reading("read" if self.can_read else "read1")
        if n < 0:
            n = self.buffer_bytes
        if n == 0:
            return b""
        if self.available() == 0 or self.pending_bytes:
            self.ensure(1)
        have: cython.Py_ssize_t = self.available()
        return self.take(min(n, have) if have else n)

    def peek(self, size=0, /):
        """The bytes that follow, without moving on."""
        self.check_reading("peek")
        if self.available() == 0 or self.pending_bytes:
            self.ensure(1)
        n: cython.Py_ssize_t = min(self.available(), self.buffer_bytes)
        if n == 0:
            self.said_end = True
            return b""
        return PyBytes_FromStringAndSize(self.front(), n)

    def readline(self, size=-1, /):
        """A line with its end."""
        limit: cython.Py_ssize_t = size_of(size)
        if self.fd < 0 or not self.can_read:
            if limit == 0 and not self.can_read and self.fd >= 0:
                return b""
            self.check_reading("readline" if self.can_read else "read")
        n: cython.Py_ssize_t = self.line_bytes() if not self.pending_bytes else 0
        if n == 0:
            if limit < 0:
                self.ensure(LINE)
            elif self.may_wait:
                self.fill_line(limit)
            n = self.line_bytes()
            if n == 0:
                n = self.available() + 1
        if 0 <= limit < n:
            n = limit
            if n == 0:
                return b""
        return self.take(n)

    def fill_line(self, limit: cython.Py_ssize_t):
        """On a thread of the pool: read until a line of at most `limit` bytes is there."""
        while self.line_bytes() == 0 and self.available() < limit and not self.at_end:
            self.ensure(self.available() + 1)

    def line_ready(self, limit: cython.Py_ssize_t):
        """Whether the bytes that readline(limit) needs are in memory."""
        self.renew()
        if limit < 0:
            return self.ready(LINE)
        if not self.pending_bytes and not self.draining and self.line_bytes() > 0:
            return True
        return self.ready(limit) or self.ready(LINE)

    def readinto(self, b, /):
        """Fill a buffer; returns how many bytes."""
        return self.copy_into(b, False)

    def readinto1(self, b, /):
        """Fill a buffer with what one read brings; returns how many bytes."""
        return self.copy_into(b, True)

    def copy_into(self, b, once: cython.bint):
        """readinto and readinto1."""
        if self.fd < 0 or not self.can_read:
            self.check_reading("readinto" if self.can_read else "read1" if once else "read")
        view: Py_buffer
        PyObject_GetBuffer(b, cython.address(view), PyBUF_WRITABLE)
        try:
            if self.fd < 0:  # closed by the code that lent the buffer
                self.check_reading("readinto")
            if view.len == 0:
                return 0
            if once or (self.unbuffered and self.may_wait):
                if self.available() == 0 or self.pending_bytes:
                    self.ensure(1)
            else:
                self.ensure(view.len)
            n: cython.Py_ssize_t = min(view.len, self.available())
            if n:
                memcpy(view.buf, self.front(), n)
                self.pos += n
            if n == 0 or (n < view.len and not once):
                self.said_end = True
            return n
        finally:
            PyBuffer_Release(cython.address(view))

    def try_read(self, size):
        """read(size) if it need not wait, else None. Raises what read() raises."""
        n: cython.Py_ssize_t = size_of(size) if self.can_read else -1
        self.check_reading("read")
        if n < -1:
            raise ValueError("read length must be non-negative or -1")
        self.renew()
        if self.has(n):
            if n >= 0:
                return self.take(n)
            return self.read(-1)
        if self.available() == 0 and (n < 0 or n > FIRST_BYTES // 2):
            return self.read_cached(n)
        return self.read(n) if self.fill_cached(n) else None

    @cython.cfunc
    def read_cached(self, n: cython.Py_ssize_t) -> object:
        """Read straight into a bytes object, if all of it is cached; else None."""
        got: cython.Py_ssize_t
        probe: cython.uchar = 0
        done: cython.Py_ssize_t = 0
        if not self.asks_cache or self.filling or self.pending_bytes or self.draining or self.tired:
            return None
        if n < 0:
            if self.size < self.pos:
                return self.read(-1) if self.fill_cached(TO_END) else None
            n = self.size - self.pos
            to_end = True
        else:
            to_end = False
        if n > FILL_BYTES_MAX:
            return None
        data = PyBytes_FromStringAndSize(cython.NULL, n)
        while done < n:
            got = hoop_read_cached(
                self.fd, PyBytes_AS_STRING(data) + done, n - done, self.pos + done
            )
            if got < 0:
                if got != -EAGAIN:
                    self.asks_cache = False
                return None
            if got == 0:
                break
            done += got
        if to_end and done == n:
            got = hoop_read_cached(self.fd, cython.address(probe), 1, self.pos + done)
            if got != 0:  # it has grown, or nobody can tell
                self.size = -1
                return self.read(-1) if self.fill_cached(TO_END) else None
        self.pos += done
        self.tire(done)
        return data if done == n else data[:done]

    # ---- moving ----

    def seek(self, target, whence=0, /):
        """Move. Nothing may be pending, where the kernel says how far the file or its data go."""
        how: cython.int = whence
        if how not in WHENCES:
            raise ValueError(f"whence value {whence} unsupported")
        if self.fd < 0:
            raise ValueError("seek of closed file")
        if not self.regular:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        to: int64_t = self.position_of(target)
        if self.fd < 0:  # closed by the target's own code
            raise ValueError("seek of closed file")
        if how == 1 or how == 2:
            start: int64_t = self.pos if how == 1 else hoop_stand_at(self.fd, 0, 2)
            if start < 0:
                raise os_error(cython.cast(cython.int, start))
            to = -1 if to > POSITION_MAX - start else to + start
        elif how != 0:
            to = hoop_stand_at(self.fd, to, how)
        if to > SURE_POSITION_MAX:
            to = hoop_stand_at(self.fd, to, 0)
        elif to < 0 and how <= 2:
            to = -EINVAL
        if to < 0:
            raise os_error(cython.cast(cython.int, to))
        if to != self.pos:
            self.at_end = False
            if not self.window_at <= to <= self.window_at + self.window_bytes:
                self.next_bytes = FIRST_BYTES // 4
        self.pos = to
        return to

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def position_of(self, target: object) -> int64_t:
        """A position or distance, as io takes it."""
        try:
            return operator_index(target)
        except OverflowError:
            if self.unbuffered:
                raise
        raise ValueError("cannot fit 'int' into an offset-sized integer")

    def stand(self):
        """Let the descriptor stand where the file does, for others who use it."""
        if self.regular and self.fd >= 0:
            hoop_stand_at(self.fd, self.pos, 0)

    # ---- writing, into memory ----

    def write(self, data, /):
        """Take data; it leaves with the next drain."""
        if not self.can_write:
            raise UnsupportedOperation("File not open for writing" if self.unbuffered else "write")
        view: Py_buffer
        if type(data) is not bytes:
            if isinstance(data, str):
                raise TypeError("a bytes-like object is required, not 'str'")
            PyObject_GetBuffer(data, cython.address(view), PyBUF_SIMPLE)
            try:
                copy = PyBytes_FromStringAndSize(cython.cast(cython.p_char, view.buf), view.len)
            finally:
                PyBuffer_Release(cython.address(view))
        else:
            copy = data
        if self.fd < 0:
            raise ValueError("write to closed file")
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(copy)
        if n > POSITION_MAX - self.pos:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if n:
            if self.window is not None or self.size >= 0:
                self.forget()
            self.pending.append(new_piece(copy, self.pos))
            self.pending_bytes += n
            self.accepted_bytes += n
            self.pos += n
        return n

    def flush(self):
        """Do nothing, because `drain` writes the pending bytes. Raises ValueError when closed."""
        if self.fd < 0:
            raise ValueError(
                "flush of closed file" if self.can_write else "I/O operation on closed file."
            )

    def is_full(self):
        """Whether more is pending than a buffer should hold."""
        return self.pending_bytes > self.buffer_bytes or (
            self.unbuffered and self.pending_bytes > 0
        )

    def drain_waiting(self):
        """Make blocking calls until nothing is pending: on a thread of the pool, or for a forgotten file."""
        while self.pending_bytes:
            piece: Piece = self.next_piece()
            try:
                self.send_waiting(piece)
            finally:
                self.put_back(piece)
                if self.appends:
                    self.find_end()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def send_waiting(self, piece: Piece) -> cython.int:
        got: cython.long
        while piece.size():
            if self.abort_fd >= 0:
                self.wait_ready(POLLOUT)
            fd: cython.int = self.fd
            at: int64_t = self.place_of(piece)
            place: cython.p_char = PyBytes_AS_STRING(piece.data) + piece.start
            n: cython.Py_ssize_t = min(piece.size(), CALL_BYTES_MAX)
            if self.abort_fd >= 0:
                n = min(n, PIPE_BYTES)
            with cython.nogil:
                got = hoop_perform(HOOP_WRITE, fd, 0, place, n, at)
            if got >= 0:
                piece.start += got
                piece.offset += got
            elif got == -ESPIPE and self.regular and not self.in_place:
                self.in_place = True
            elif got != -EINTR:
                raise os_error(got)
        return 0

    @cython.cfunc
    def next_piece(self) -> Piece:
        """Take what can be written at once: the first piece, with small ones that follow it in the file."""
        first: Piece = self.pending[0]
        end: int64_t = first.offset + first.size()
        total: cython.Py_ssize_t = first.size()
        count: cython.Py_ssize_t = 1
        while count < len(self.pending) and total < FIRST_BYTES:
            piece: Piece = self.pending[count]
            if piece.offset != end or piece.size() > FILL_BYTES_MAX:
                break
            end += piece.size()
            total += piece.size()
            count += 1
        if count > 1:
            parts: list = []
            for piece in self.pending[:count]:
                parts.append(piece.data[piece.start :] if piece.start else piece.data)
            first = new_piece(b"".join(parts), first.offset)
        del self.pending[:count]
        self.pending_bytes -= total
        return first

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put_back(self, piece: Piece) -> cython.int:
        """The rest of a piece that could not be written is pending again, before everything else."""
        if piece.size():
            self.pending.insert(0, piece)
            self.pending_bytes += piece.size()
        return 0

    @cython.cfunc
    @cython.exceptval(-2, check=True)
    def place_of(self, piece: Piece) -> int64_t:
        """Where the kernel is told to write it. Some files of /proc take nothing by its offset."""
        if not self.regular:
            return -1  # HOOP_HERE
        if not self.in_place:
            return piece.offset
        if not self.appends:
            hoop_stand_at(self.fd, piece.offset, 0)
        return -1

    def keep(self, accepted: int64_t):
        """Writing has failed. Keep what had been accepted when `accepted_bytes` said so, up to a buffer's
        size, and forget the rest: who wrote that is told."""
        if self.draining:
            return
        before: int64_t = self.pending_bytes - (self.accepted_bytes - accepted)
        room: int64_t = min(max(before, 0), self.buffer_bytes)
        i: cython.Py_ssize_t
        for i in range(len(self.pending)):
            piece: Piece = self.pending[i]
            if piece.size() > room:
                break
            room -= piece.size()
        else:
            return
        last: Piece = self.pending[len(self.pending) - 1]
        if last.offset + last.size() == self.pos:
            self.pos = piece.offset + room
        dropped: cython.Py_ssize_t = -room
        for other in self.pending[i:]:
            dropped += cython.cast(Piece, other).size()
        kept: Piece = new_piece(piece.data[piece.start : piece.start + room], piece.offset)
        del self.pending[i:]
        if room:
            self.pending.append(kept)
        self.pending_bytes -= dropped
        self.accepted_bytes -= dropped
        if self.appends:
            self.find_end()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def find_end(self) -> cython.int:
        """Something was appended: at the end, wherever the file stood."""
        end: int64_t = hoop_stand_at(self.fd, 0, 2) if self.regular and self.fd >= 0 else -1
        if end >= 0:
            self.pos = end + self.pending_bytes
        return 0

    # ---- the end ----

    def close(self):
        """Close at once. Raises OSError."""
        self.release()
        self.close_left()

    def release(self):
        """Give the descriptor up: nobody can use the file any more. Then it is to be closed."""
        if self.fd >= 0:
            self.left = self.fd
        self.fd = -1
        self.window = None
        self.window_bytes = 0

    def close_left(self):
        """Close the descriptor that was given up, and wait for that. Raises OSError."""
        fd: cython.int = self.take_left()
        if fd >= 0:
            result: cython.int = close_waiting(fd)
            if result < 0:
                raise os_error(result)

    @cython.cfunc
    @cython.exceptval(-2, check=True)
    def take_left(self) -> cython.int:
        """The descriptor that is to be closed, from now on the caller's; or -1. No call may use it."""
        fd: cython.int = self.left if self.owns else -1
        self.left = -1
        if self.abort_fd >= 0:
            hoop_close(self.abort_fd)
            self.abort_fd = -1
        return fd


hoop_forbid_new(Buffer)
