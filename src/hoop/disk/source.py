"""An open file: its buffer with the ops that fill and drain it, opening without waiting, and lines.

SystemCall          (call.py)
  OwnedCall         on the descriptor of an open file
    FillCall        reads into the window
    DrainCall       writes what is pending

How `async for` gets a line: `LineSource.__anext__` looks for it in the buffer's window and in the kernel's
cache. If the line is there, `io.TextIOWrapper` cuts it out, and the await ends at once. If not,
files/file.py takes its turn on the file and starts a FillCall. The driver makes that call, or a thread of
the pool does.

The `FileBuffer` owns the file's descriptor while a call may use it. On closing, a `CloseCall` takes it over.
"""

from __future__ import annotations

import errno
import os

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.hoop._c.file import (
    HOOP_FSYNC,
    HOOP_FTRUNCATE,
    HOOP_READ,
    HOOP_WRITE,
    S_IFMT,
    S_IFREG,
    hoop_may_wait,
    hoop_open_cached,
    hoop_read_cached,
    hoop_status,
    hoop_status_of,
)
from cython.cimports.hoop._c.linux import hoop_eventfd_write
from cython.cimports.hoop._c.python import (
    Py_INCREF,
    PyErr_SetObject,
    Ref,
    destructor,
    hoop_drop_stop,
    hoop_forbid_new,
    hoop_inherit_anext,
    hoop_iter_return,
    hoop_set_await,
    hoop_set_iternext,
    hoop_swap_dealloc,
    iternextfunc,
    ref,
    unaryfunc,
)
from cython.cimports.hoop.disk.buffer import Buffer
from cython.cimports.hoop.disk.call import Lent, SystemCall, lend, new_call, new_close
from cython.cimports.hoop.disk.pieces import Piece, close_waiting
from cython.cimports.hoop.disk.window import CACHED_BYTES_MAX, FILL_BYTES_MAX, FIRST_BYTES
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.scheduling.base import LoopBase, as_native
from cython.cimports.hoop.scheduling.future import Future, new_future
from cython.cimports.libc.stdint import int64_t

O_CLOEXEC = cython.declare(cython.int, os.O_CLOEXEC)
O_NONBLOCK = cython.declare(cython.int, os.O_NONBLOCK)
O_RDONLY = cython.declare(cython.int, os.O_RDONLY)
ESPIPE = cython.declare(cython.int, errno.ESPIPE)
EXDEV = cython.declare(cython.int, errno.EXDEV)
WRITE_BYTES_MAX = cython.declare(cython.Py_ssize_t, 1 << 30)


@cython.cclass
class OwnedCall(SystemCall):
    """A call on the descriptor of an open file. The file is not closed before the call's end."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self) -> cython.int:
        return self.start(self.owner.loop, self.owner.pool)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start(self, loop: LoopBase, pool) -> cython.int:
        if self.owner is None:
            raise RuntimeError("a call of no file")
        self.owner.in_flight += 1
        try:
            SystemCall.start(self, loop, pool)
        except BaseException:
            self.owner.in_flight -= 1
            raise
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        return 0 if self.owner is None else self.owner.ended()


@cython.final
@cython.cclass
class FillCall(OwnedCall):
    """Reads into the buffer's window."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        if self.owner is not None:
            self.owner.filled(self)
        return OwnedCall.deliver(self)


@cython.final
@cython.cclass
class DrainCall(OwnedCall):
    """Writes pending bytes."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        if self.owner is not None:
            self.owner.drained(self)
        return OwnedCall.deliver(self)


@cython.final
@cython.cclass
class FileBuffer(Buffer):
    """A buffer whose reads and writes are made by the driver or the loop's threads."""

    def __init__(
        self,
        loop,
        pool,
        fd: cython.int,
        name,
        mode,
        regular: cython.bint,
        readable: cython.bint,
        writable: cython.bint,
        appends: cython.bint,
        owns: cython.bint,
        buffer_bytes: cython.Py_ssize_t,
        size: int64_t,
        pos: int64_t,
    ):
        if self.loop is not None or pos < 0 or buffer_bytes < 0:
            raise ValueError("a FileBuffer is made once, for a position in a file")
        self.loop = as_native(loop)
        self.pool = pool
        self.fd = fd
        self.name = name
        self.mode = mode
        self.regular = self.asks_cache = regular
        self.can_read = readable
        self.can_write = writable
        self.appends = appends
        self.owns = owns
        self.unbuffered = buffer_bytes == 0
        self.buffer_bytes = buffer_bytes
        self.size = size
        self.pos = pos

    def start_filling(self, need: cython.Py_ssize_t):
        """Start to read the next part of the file, unless a read is under way."""
        if self.filling or self.pending_bytes or self.fd < 0:
            return
        self.error = 0
        n: cython.Py_ssize_t = min(self.ask_for(need), FILL_BYTES_MAX)
        op: FillCall = FillCall.__new__(FillCall)
        place: cython.p_char = self.make_room(n)
        new_call(
            op, HOOP_READ, self.fd, 0, self.window, place, n, self.window_at + self.window_bytes
        )
        op.owner = self
        op.apart = not self.local
        self.filling = True
        try:
            op.begin()
        except BaseException:
            self.filling = False
            raise

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def filled(self, op: FillCall) -> cython.int:
        self.filling = False
        if self.window is not op.keep or (
            self.window_at + self.window_bytes != cython.cast(int64_t, op.offset)
        ):
            return 0  # the file's position was moved in the meantime
        if op.result < 0:
            self.error = cython.cast(cython.int, op.result)
            return 0
        self.cold = True
        self.at_end = op.result == 0
        self.window_bytes += op.result
        if op.result == op.length:
            self.grow(op.length, FILL_BYTES_MAX)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_ahead(self) -> cython.int:
        """Read the next part before it is asked for, if the file is read in order and comes from the disk."""
        ahead: cython.Py_ssize_t = self.available()
        if (
            self.cold
            and not self.may_wait
            and self.next_bytes > FIRST_BYTES
            and not self.filling
            and not self.at_end
            and ahead <= self.next_bytes // 2
            and (self.size < 0 or self.pos + ahead < self.size)
        ):
            self.start_filling(1)
        return 0

    def start_draining(self):
        """Start to write pending bytes, unless a write is under way."""
        if self.draining or not self.pending_bytes:
            return
        self.error = 0
        piece: Piece = self.next_piece()
        op: DrainCall = DrainCall.__new__(DrainCall)
        at: int64_t = self.place_of(piece)
        n: cython.Py_ssize_t = min(piece.size(), WRITE_BYTES_MAX)
        place: cython.p_char = PyBytes_AS_STRING(piece.data) + piece.start
        new_call(op, HOOP_WRITE, self.fd, 0, piece.data, place, cython.cast(cython.uint, n), at)
        op.piece = piece
        op.owner = self
        op.apart = not self.local
        self.draining = True
        try:
            op.begin()
        except BaseException:
            self.draining = False
            self.put_back(piece)
            raise

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drained(self, op: DrainCall) -> cython.int:
        piece: Piece = op.piece
        self.draining = False
        if op.result > 0:
            piece.start += op.result
            piece.offset += op.result
        self.put_back(piece)
        if op.result == -ESPIPE and self.regular and not self.in_place:
            self.in_place = True  # the next try writes without an offset
        elif op.result < 0:
            self.error = cython.cast(cython.int, op.result)
        if self.appends:
            self.find_end()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def ended(self) -> cython.int:
        self.in_flight -= 1
        moved: Future = self.moved
        self.moved = None
        if moved is not None and not moved.done() and not self.loop.closed:
            moved.finish(None)
        if self.forgotten:
            self.finish_forgotten()
        return 0

    def next_move(self):
        """A future that is done when the next op ends."""
        if self.loop is None:
            raise RuntimeError("a file of no loop")
        if self.moved is None or self.moved.done():
            self.moved = new_future(self.loop)
        return self.moved

    def raise_error(self):
        """Raise the error of the last op, if there was one."""
        error: cython.int = self.error
        if error:
            self.error = 0
            raise os_error(error)

    # ---- calls of its own ----

    def truncating(self, size: int64_t):
        """A call that cuts or extends the file."""
        op: OwnedCall = OwnedCall.__new__(OwnedCall)
        op.owner = self
        return new_call(op, HOOP_FTRUNCATE, self.fileno(), 0, None, cython.NULL, 0, size)

    def syncing(self, data_only: cython.bint):
        """A call that waits until the disk has the file."""
        op: OwnedCall = OwnedCall.__new__(OwnedCall)
        op.owner = self
        flags: cython.uint = 1 if data_only else 0
        return new_call(op, HOOP_FSYNC, self.fileno(), flags, None, cython.NULL, 0, 0)

    def moving(self, data, into: cython.bint):
        """A call that moves bytes between the file's position and the user's own memory: see O_DIRECT."""
        lent: Lent = lend(data, into)
        n: cython.Py_ssize_t = min(lent.view.len, WRITE_BYTES_MAX)
        op: OwnedCall = OwnedCall.__new__(OwnedCall)
        op.owner = self
        op.apart = not self.local
        return new_call(
            op,
            HOOP_READ if into else HOOP_WRITE,
            self.fileno(),
            0,
            lent,
            lent.view.buf,
            cython.cast(cython.uint, n),
            self.pos,
        )

    def moved_by(self, n: int64_t):
        """Account for such a call, which has moved `n` bytes."""
        self.forget()
        self.pos += n
        if self.appends:
            self.find_end()

    def hold(self):
        """A separate thread begins to use the descriptor. let_go() follows."""
        self.in_flight += 1

    def let_go(self, ended):
        """The separate thread has ended."""
        self.ended()

    # ---- the end ----

    def stop(self):
        """Tell a thread that waits for the other end of a pipe to give up. Returns True: it will."""
        if self.abort_fd >= 0:  # else the thread is past the wait, and closes the file
            hoop_eventfd_write(self.abort_fd)
        return True

    def closing(self):
        """A call that closes the descriptor taken from this file, and owns it; or None."""
        fd: cython.int = self.take_left()
        return None if fd < 0 else new_close(fd)

    def close(self):
        """io calls this when it finalises its own wrapper of the buffer."""
        if self.fd >= 0:
            self.close_forgotten()

    def close_forgotten(self):
        """Write pending bytes and close a file that no code holds, as soon as no op uses it."""
        if not self.forgotten:
            self.forgotten = True
            self.finish_forgotten()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def finish_forgotten(self) -> cython.int:
        """On any thread: write and close. A disk of this machine makes this wait, as in the builtin's
        finaliser.
        """
        if self.in_flight or (self.fd < 0 and self.left < 0):
            return 0
        if self.local or self.pool is None or not self.pool.leave(self):
            self.end()
        return 0

    def end(self):
        """Write pending bytes and close, and wait for that."""
        try:
            self.drain_waiting()
        finally:
            self.release()
            path, self.remove_when_closed = self.remove_when_closed, None
            try:
                self.close_left()
            finally:
                if path is not None:
                    os.unlink(path)


# ---- opening without waiting -------------------------------------------------------------------------


def open_cached(path: bytes, flags: cython.int):
    """Open a name that is in the kernel's cache. Returns (descriptor, result of look_at()), or -errno.

    Never waits.
    """
    fd: cython.int = hoop_open_cached(PyBytes_AS_STRING(path), flags | O_NONBLOCK, 0)
    if fd < 0:
        return fd
    hoop_may_wait(fd, flags)
    try:
        return fd, look_at(fd)
    except BaseException:
        close_waiting(fd)
        raise


def look_at(fd: cython.int):
    """(mode, size, device, block size) of an open file. Never waits for the disk."""
    status: hoop_status
    result: cython.int = hoop_status_of(fd, cython.address(status))
    if result < 0:
        raise os_error(result)
    return status.mode, status.size, status.device, status.block


def may_wait(fd: cython.int):
    """Make reads wait again on a descriptor that was opened without waiting."""
    hoop_may_wait(fd, -1)


def read_cached_file(path: bytes, device: cython.ulonglong):
    """Return the bytes of a small regular file on that local device, if all are cached. Never waits.

    Returns None if some are not cached, or -errno. If the file is on another device, the result is -EXDEV
    and a descriptor that the caller closes.
    """
    status: hoop_status
    data: object = None
    probe: cython.uchar = 0
    got: cython.Py_ssize_t
    fd: cython.int = hoop_open_cached(PyBytes_AS_STRING(path), O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0)
    if fd < 0:
        return fd
    if hoop_status_of(fd, cython.address(status)) != 0 or status.device != device:
        return -EXDEV, fd
    if status.mode & S_IFMT == S_IFREG and 0 < status.size <= CACHED_BYTES_MAX:
        data = PyBytes_FromStringAndSize(cython.NULL, status.size)
        got = hoop_read_cached(fd, PyBytes_AS_STRING(data), status.size, 0)
        if got != status.size or hoop_read_cached(fd, cython.address(probe), 1, got) != 0:
            data = None
    close_waiting(fd)
    return data


# ---- lines --------------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
@cython.freelist(8)
@cython.cclass
class Line:
    """A line that is in memory already: to await it takes no time."""

    def __await__(self):
        return self


@cython.cclass
class LineSource:
    """A file for `async for`. A line that is in memory costs no trip to a thread or driver."""

    def wait_for_line(self):
        """An awaitable for the next line, if the line is not in memory."""
        raise NotImplementedError

    def __aiter__(self):
        return self

    def __anext__(self):
        if (
            self.queued
            or self.dirty
            or self.next_line is None
            or self.buffer is None
            or not self.buffer.has_line()
        ):
            return self.wait_for_line()
        line: Line = Line.__new__(Line)
        if self.next_line is True:
            n: cython.Py_ssize_t = self.buffer.line_bytes()
            value = self.buffer.take(n if n else self.buffer.available() + 1)
        else:
            value = self.next_line()
        if value:
            line.value = value
        return line


def inherit_lines(cls):
    """Let a subclass of LineSource that has no `__anext__` of its own find LineSource's without a look-up."""
    if cls.__anext__ is LineSource.__anext__:
        hoop_inherit_anext(cls, LineSource)


@cython.cfunc
@cython.exceptval(check=False)
def line_await(line: Ref) -> Ref:
    """Fill the slot `am_await`: a line is its own iterator."""
    Py_INCREF(line)
    return line


@cython.cfunc
@cython.exceptval(check=False)
def line_iternext(line: Line | None) -> Ref:
    """tp_iternext: end at once, by the line or by StopAsyncIteration."""
    if line.value is None:
        PyErr_SetObject(StopAsyncIteration, StopAsyncIteration())
        return cython.NULL
    return hoop_iter_return(ref(line.value))


_line_dealloc = cython.declare(destructor, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def line_dealloc(line: Ref) -> cython.void:
    hoop_drop_stop()
    _line_dealloc(line)


hoop_set_await(Line, cython.cast(unaryfunc, line_await))
hoop_set_iternext(Line, cython.cast(iternextfunc, line_iternext))
_line_dealloc = hoop_swap_dealloc(Line, cython.cast(destructor, line_dealloc))

hoop_forbid_new(OwnedCall)
hoop_forbid_new(FillCall)
hoop_forbid_new(DrainCall)
hoop_forbid_new(FileBuffer)
