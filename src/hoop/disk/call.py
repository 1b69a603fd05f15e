"""System calls on files that may have to wait for a disk, made where the loop need not wait with them.

    SystemCall          any call
      OpenCall          whose descriptor is closed if nobody wants it any more
      CloseCall         which owns the descriptor until it is closed
      StatusCall        statx, with room for the answer
      FillCall, DrainCall   (file.py) for the buffer of an open file

A driver that makes calls itself (io_uring) is handed the op. Otherwise it goes to the loop's pool, an object
with `submit(op)`: one of its threads calls `op.perform()`, and then the loop calls `op.finish()`. Either way
the op keeps what the kernel may touch until its end, and cannot be taken back.
"""

from __future__ import annotations

import errno
import os

import cython
from cython.cimports.cpython.buffer import (
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
    AT_FDCWD,
    HOOP_CLOSE,
    HOOP_FALLOCATE,
    HOOP_FSYNC,
    HOOP_FTRUNCATE,
    HOOP_MKDIRAT,
    HOOP_OPENAT,
    HOOP_READ,
    HOOP_RENAMEAT,
    HOOP_STATX,
    HOOP_UNLINKAT,
    HOOP_WRITE,
    S_IFMT,
    S_IFREG,
    hoop_is_local,
    hoop_perform,
    hoop_read_cached,
    hoop_stand_at,
    hoop_stat_fields,
    hoop_status,
    hoop_status_of,
)
from cython.cimports.hoop._c.python import hoop_forbid_new
from cython.cimports.hoop.disk.pieces import close_waiting
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import CALL, CallOp
from cython.cimports.hoop.scheduling.base import LoopBase, as_native
from cython.cimports.hoop.scheduling.future import Future, new_future
from cython.cimports.libc.stdint import int64_t, uint64_t

# No single call moves more: Linux's own limit is a page less than 2 GiB.
CALL_BYTES_MAX = cython.declare(cython.Py_ssize_t, 1 << 30)
# What copies in some 20 µs: as long as one call may keep the loop.
AT_ONCE_BYTES_MAX = cython.declare(cython.Py_ssize_t, 262144)
EAGAIN = cython.declare(cython.longlong, errno.EAGAIN)
ECANCELED = cython.declare(cython.longlong, errno.ECANCELED)
EINVAL = cython.declare(cython.longlong, errno.EINVAL)
ENOSYS = cython.declare(cython.longlong, errno.ENOSYS)
EOPNOTSUPP = cython.declare(cython.longlong, errno.EOPNOTSUPP)
STATX_BASIC = cython.declare(cython.uint, 0x7FF)
EMPTY_PATH = cython.declare(cython.uint, 0x1000)
stat_result = cython.declare(object, os.stat_result)


@cython.cclass
class SystemCall(CallOp):
    """One system call on a file, made by the driver or on a thread of the pool."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start(self, loop: LoopBase, pool) -> cython.int:
        if not self.code:
            raise RuntimeError("this call was not made by a function of this module")
        self.loop = loop
        self.other_way = pool
        if loop.driver.supports(CALL) and loop.driver.supports_call(self.code):
            loop.driver.submit(self)
        else:
            self.pool = pool
            pool.submit(self)
        return 0

    def perform(self):
        """Make the call, on whatever thread this is."""
        code: cython.int = self.code
        fd: cython.int = self.fd
        flags: cython.uint = self.flags
        address: cython.p_void = self.address
        length: cython.uint = self.length
        offset: cython.ulonglong = self.offset
        result: cython.longlong
        with cython.nogil:
            result = hoop_perform(code, fd, flags, address, length, offset)
        self.result = result

    def finish(self):
        """The result is there: on the loop's thread."""
        self.on_ready()

    def abandon(self):
        """The loop is closed: nobody will be told."""
        self.waiter = None
        self.on_ready()

    def forgo(self):
        """The loop is closed, and no thread has begun this: it will not be done."""

    def call(self, loop, pool):
        """Start it; returns a future with the call's own result, a number or -errno."""
        native: LoopBase = as_native(loop)
        future: Future = new_future(native)
        self.waiter = future
        self.start(native, pool)
        return future

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        if self.was_refused():
            return 0
        self.deliver()
        waiter = self.waiter
        self.waiter = self.keep = self.loop = self.pool = self.other_way = None
        if waiter is not None and not waiter.done():
            waiter.set_result(self.result)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def was_refused(self) -> cython.bint:
        """Whether the driver could not make this call on this file, so that a thread now does."""
        if self.pool is not None or self.other_way is None or self.loop.closed:
            return False
        if self.result not in (-EINVAL, -EOPNOTSUPP, -EAGAIN, -ENOSYS):
            return False
        self.pool = self.other_way
        self.pool.submit(self)
        return True

    def taken(self):
        """Whoever asked has got the result."""

    def drop(self):
        """Whoever asked has gone without the result, which may be there or still come."""
        self.cancel()

    def gone(self):
        """Like drop(), on whatever thread this is."""

    def cancel(self):
        """Ask the kernel to give up. A thread cannot be asked."""
        if self.pool is None and self.loop is not None and not self.loop.closed:
            self.loop.driver.cancel(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        return 0


@cython.final
@cython.cclass
class OpenCall(SystemCall):
    """Opens a file. The descriptor is the call's own, to be closed with it, until it is taken.

    Whoever waits may be cancelled in the very turn in which the result comes.
    """

    def __cinit__(self):
        self.result = -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start(self, loop: LoopBase, pool) -> cython.int:
        self.home = loop
        self.home_pool = pool
        SystemCall.start(self, loop, pool)
        if self.pool is None:
            pool.opens_in_kernel += 1
        return 0

    def __dealloc__(self):
        if self.result >= 0:  # of a loop that was closed meanwhile
            close_waiting(cython.cast(cython.int, self.result))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        if self.pool is None and self.other_way is not None:
            self.other_way.open_ended()
        if self.was_refused():
            return 0
        waiter = self.waiter
        self.waiter = self.keep = self.loop = self.pool = self.other_way = None
        if self.unwanted:
            self.give_back()
        elif waiter is not None and not waiter.done():
            waiter.set_result(self.result)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back(self) -> cython.int:
        """Have the descriptor closed where nobody waits for that."""
        fd: cython.longlong = self.result
        self.result = -1
        if fd >= 0 and self.home is not None:
            drop_fd(cython.cast(cython.int, fd), self.home, self.home_pool)
        return 0

    def taken(self):
        self.result = -1

    def drop(self):
        self.unwanted = True
        if self.loop is None:  # the result is there
            self.give_back()
        else:
            self.cancel()

    def gone(self):
        self.unwanted = True


@cython.final
@cython.cclass
class CloseCall(SystemCall):
    """Closes a descriptor, which is its own until then: if the call is never made, it closes it at its end.

    It is made once, whatever the result: Linux gives the number up in any case.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        self.result = result
        self.owes = self.owes and result == -ECANCELED  # then the kernel never began
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def was_refused(self) -> cython.bint:
        if not self.owes or self.pool is not None or self.other_way is None or self.loop.closed:
            return False
        self.pool = self.other_way
        self.pool.submit(self)
        return True

    def perform(self):
        self.close_now()

    def forgo(self):
        self.close_now()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_now(self) -> cython.int:
        if self.owes:
            self.owes = False
            self.result = close_waiting(self.fd)
        return 0

    def cancel(self):
        """It is not stopped: the descriptor is nobody else's any more."""

    def __dealloc__(self):
        if self.owes:
            close_waiting(self.fd)


@cython.final
@cython.cclass
class StatusCall(SystemCall):
    """Asks for the status of a file."""

    def stat_result(self):
        """What the call found, as os.stat() would say it."""
        return stat_result(hoop_stat_fields(cython.address(self.status)))


@cython.final
@cython.cclass
class ReadCall(SystemCall):
    """Reads into a bytes object, of which nobody knows before it is full."""

    def bytes(self):
        """What was read."""
        data = self.data
        self.data = None
        if data is None or self.result < 0:
            return b""
        return data if self.result == PyBytes_GET_SIZE(data) else data[: self.result]


@cython.cfunc
def new_call(
    op: SystemCall,
    code: cython.int,
    fd: cython.int,
    flags: cython.uint,
    keep: object,
    address: cython.p_void,
    length: cython.uint,
    offset: int64_t,
) -> SystemCall:
    """Write the arguments into a new op."""
    op.code = code
    op.fd = fd
    op.flags = flags
    op.keep = keep
    op.address = address
    op.length = length
    op.offset = cython.cast(uint64_t, offset)
    return op


@cython.cfunc
def blank() -> SystemCall:
    return SystemCall.__new__(SystemCall)


@cython.cfunc
def text_of(path: bytes) -> cython.p_void:
    """The characters of a path that os.fsencode() made."""
    return cython.cast(cython.p_void, PyBytes_AS_STRING(path))


# ---- one function per call ---------------------------------------------------------------------------
# Paths come from os.fsencode(); `dir_fd` -100 (AT_FDCWD) is the current folder.


@cython.final
@cython.cclass
class Lent:
    """A buffer that somebody lent for one call: held until the call's end."""

    def __cinit__(self):
        self.held = False

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(cython.address(self.view))


@cython.cfunc
def lend(data: object, writable: cython.bint) -> Lent:
    lent: Lent = Lent.__new__(Lent)
    PyObject_GetBuffer(
        data, cython.address(lent.view), PyBUF_WRITABLE if writable else PyBUF_SIMPLE
    )
    lent.held = True
    return lent


@cython.cfunc
def transfer(code: cython.int, fd: cython.int, lent: Lent, offset: int64_t) -> SystemCall:
    n: cython.Py_ssize_t = min(lent.view.len, CALL_BYTES_MAX)
    op: SystemCall = blank()
    op.apart = not knows_local(fd)
    return new_call(op, code, fd, 0, lent, lent.view.buf, cython.cast(cython.uint, n), offset)


def pwrite(fd: cython.int, data, offset: int64_t):
    """Write at an offset."""
    check_seekable(fd)
    return transfer(HOOP_WRITE, fd, lend(data, False), offset)


def preadinto(fd: cython.int, data, offset: int64_t):
    """Read at an offset into a buffer."""
    check_seekable(fd)
    return transfer(HOOP_READ, fd, lend(data, True), offset)


def read_at_once(fd: cython.int, size: cython.Py_ssize_t, offset: int64_t):
    """What os.pread() would return, if all of it is in memory; else None. Never waits."""
    if size < 0 or size > AT_ONCE_BYTES_MAX or offset < 0:
        return None
    data = PyBytes_FromStringAndSize(cython.NULL, size)
    got: cython.Py_ssize_t = hoop_read_cached(fd, PyBytes_AS_STRING(data), size, offset)
    if got == size:
        return data
    return b"" if got == 0 else None


# Which devices (see look_at() in file.py) are known to be of this machine, and which not.
local_devices = cython.declare(dict, {})


@cython.cfunc
@cython.exceptval(-1, check=True)
def knows_local(fd: cython.int) -> cython.bint:
    """Whether a file is known to lie on this machine. Never waits."""
    status: hoop_status
    if hoop_status_of(fd, cython.address(status)) < 0 or status.mode & S_IFMT != S_IFREG:
        return False
    return local_devices.get(status.device) is True


def devices() -> dict:
    """What is known of devices: True for those of this machine, False for others."""
    return local_devices


@cython.cfunc
@cython.exceptval(-1, check=False)
def check_seekable(fd: cython.int) -> cython.int:
    """io_uring reads and writes a pipe whatever the offset; os raises."""
    at: int64_t = hoop_stand_at(fd, 0, 1)
    if at < 0:
        raise os_error(cython.cast(cython.int, at))
    return 0


def pread(fd: cython.int, size: cython.Py_ssize_t, offset: int64_t):
    """Read at an offset; `bytes()` of the op is what was read."""
    check_seekable(fd)
    op: ReadCall = ReadCall.__new__(ReadCall)
    op.apart = not knows_local(fd)
    op.data = PyBytes_FromStringAndSize(cython.NULL, min(size, CALL_BYTES_MAX))
    n: cython.uint = cython.cast(cython.uint, PyBytes_GET_SIZE(op.data))
    return new_call(op, HOOP_READ, fd, 0, op.data, PyBytes_AS_STRING(op.data), n, offset)


def made_by_driver(loop) -> bool:
    """Whether the loop's driver makes calls itself, so that there is no thread to save a trip to."""
    native: LoopBase = as_native(loop)
    return native.driver.supports(CALL) and native.driver.supports_call(HOOP_OPENAT)


def fsync(fd: cython.int, data_only: cython.bint):
    """Wait until the disk has it."""
    return new_call(blank(), HOOP_FSYNC, fd, 1 if data_only else 0, None, cython.NULL, 0, 0)


def fallocate(fd: cython.int, mode: cython.int, offset: int64_t, length: int64_t):
    """Reserve room."""
    address: cython.p_void = cython.cast(cython.p_void, length)
    return new_call(
        blank(), HOOP_FALLOCATE, fd, 0, None, address, cython.cast(cython.uint, mode), offset
    )


def ftruncate(fd: cython.int, length: int64_t):
    """Cut or extend."""
    return new_call(blank(), HOOP_FTRUNCATE, fd, 0, None, cython.NULL, 0, length)


@cython.cfunc
def new_close(fd: cython.int) -> CloseCall:
    """A call that gives a descriptor back, and from now on owns it."""
    op: CloseCall = CloseCall.__new__(CloseCall)
    new_call(op, HOOP_CLOSE, fd, 0, None, cython.NULL, 0, 0)
    op.owes = op.apart = True  # some files are written out when they are closed
    return op


def close(fd: cython.int):
    """Give a descriptor back: it belongs to the call."""
    return new_close(fd)


@cython.cfunc
@cython.exceptval(-1, check=False)
def drop_fd(fd: cython.int, loop: LoopBase, pool) -> cython.int:
    """Close what nobody has got, on the loop's thread and without waiting."""
    if loop.closed:
        close_waiting(fd)
    else:
        new_close(fd).start(loop, pool)
    return 0


def drop(fd: cython.int, loop, pool):
    """Close what nobody has got, on the loop's thread and without waiting."""
    drop_fd(fd, as_native(loop), pool)


def openat(path: bytes, flags: cython.int, mode: cython.uint, dir_fd: cython.int = AT_FDCWD):
    """Open by name."""
    op: OpenCall = OpenCall.__new__(OpenCall)
    op.apart = True  # a server may be asked although the name is known
    return new_call(
        op, HOOP_OPENAT, dir_fd, cython.cast(cython.uint, flags), path, text_of(path), mode, 0
    )


def open_waiting(path: bytes, flags: cython.int):
    """On a thread: open by name, without the audit event of os.open(). A descriptor, or -errno."""
    name: cython.p_void = text_of(path)
    fd: cython.long
    with cython.nogil:
        fd = hoop_perform(HOOP_OPENAT, AT_FDCWD, cython.cast(cython.uint, flags), name, 0o666, 0)
    return fd


def statx(path: bytes, flags: cython.uint, fd: cython.int = AT_FDCWD):
    """Ask for a status: by name, or of `fd` if the path is empty."""
    op: StatusCall = StatusCall.__new__(StatusCall)
    if not path:
        flags |= EMPTY_PATH
    out: int64_t = cython.cast(int64_t, cython.cast(cython.size_t, cython.address(op.status)))
    keep = (path, op)  # the kernel writes into the op; at its end it lets go of itself
    return new_call(op, HOOP_STATX, fd, flags, keep, text_of(path), STATX_BASIC, out)


def renameat(source: bytes, target: bytes, source_fd: cython.int, target_fd: cython.int):
    """Rename, over what may be there."""
    second: int64_t = cython.cast(int64_t, cython.cast(cython.size_t, text_of(target)))
    return new_call(
        blank(),
        HOOP_RENAMEAT,
        source_fd,
        0,
        (source, target),
        text_of(source),
        cython.cast(cython.uint, target_fd),
        second,
    )


def unlinkat(path: bytes, flags: cython.uint, dir_fd: cython.int):
    """Remove a name."""
    return new_call(blank(), HOOP_UNLINKAT, dir_fd, flags, path, text_of(path), 0, 0)


def mkdirat(path: bytes, mode: cython.uint, dir_fd: cython.int):
    """Make a folder."""
    return new_call(blank(), HOOP_MKDIRAT, dir_fd, 0, path, text_of(path), mode, 0)


def is_local(fd: cython.int):
    """Whether a file lies on a file system of this machine. May wait: not for the loop's thread."""
    local: cython.int
    with cython.nogil:
        local = hoop_is_local(fd)
    if local < 0:
        raise os_error(local)
    return local == 1


hoop_forbid_new(SystemCall)
hoop_forbid_new(OpenCall)
hoop_forbid_new(StatusCall)
hoop_forbid_new(ReadCall)
