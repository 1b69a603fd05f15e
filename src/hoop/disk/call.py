"""System calls on files that may wait for a disk. The driver or a thread makes them, so the loop does not
wait.

    SystemCall          any call
      OpenCall          closes its descriptor if no task wants it any more
      CloseCall         owns the descriptor until it is closed
      StatusCall        statx, with room for the answer
      FillCall, DrainCall   (source.py) for the buffer of an open file

io_uring makes calls itself: that driver gets the op. With another driver the op goes to the loop's pool, an
object with `submit(op)`. One of the pool's threads calls `op.perform()`, and then the loop calls
`op.finish()`. Either way the op keeps the memory that the kernel may touch until its end. A submitted op
cannot be taken back.
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

# No single call moves more bytes: Linux's own limit is a page less than 2 GiB.
CALL_BYTES_MAX = cython.declare(cython.Py_ssize_t, 1 << 30)
# The most bytes that one call copies on the loop, which takes some 20 µs.
AT_ONCE_BYTES_MAX = cython.declare(cython.Py_ssize_t, 262144)
EAGAIN = cython.declare(cython.longlong, errno.EAGAIN)
ECANCELED = cython.declare(cython.longlong, errno.ECANCELED)
EINVAL = cython.declare(cython.longlong, errno.EINVAL)
ENOSYS = cython.declare(cython.longlong, errno.ENOSYS)
EOPNOTSUPP = cython.declare(cython.longlong, errno.EOPNOTSUPP)
STATX_BASIC = cython.declare(cython.uint, 0x7FF)
EMPTY_PATH = cython.declare(cython.uint, 0x1000)
CALL_NAMES = cython.declare(
    dict,
    {
        HOOP_CLOSE: "close",
        HOOP_FALLOCATE: "fallocate",
        HOOP_FSYNC: "fsync",
        HOOP_FTRUNCATE: "truncate",
        HOOP_MKDIRAT: "mkdir",
        HOOP_OPENAT: "open",
        HOOP_READ: "read",
        HOOP_RENAMEAT: "rename",
        HOOP_STATX: "stat",
        HOOP_UNLINKAT: "unlink",
        HOOP_WRITE: "write",
    },
)
# The object that such a call keeps is its path.
PATH_CALLS = cython.declare(
    tuple, (HOOP_OPENAT, HOOP_MKDIRAT, HOOP_UNLINKAT, HOOP_RENAMEAT, HOOP_STATX)
)
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
        self.since = loop.stamp
        self.other_way = pool
        if loop.driver.supports(CALL) and loop.driver.supports_call(self.code):
            loop.driver.submit(self)
        else:
            self.pool = pool
            pool.submit(self)
        return 0

    def _statistics(self):
        """Return the call, its descriptor, its path if it has one, and since when it is under way."""
        path = self.keep if self.code in PATH_CALLS else None
        if type(path) is tuple and len(path):
            path = path[0]
        return {
            "call": CALL_NAMES.get(self.code, "call"),
            "fd": self.fd,
            "path": path if type(path) is bytes else None,
            "since": self.since,
            "waiter": self.waiter,
        }

    def perform(self):
        """Make the call, on the thread that calls this."""
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
        """On the loop's thread: deliver the result."""
        self.on_ready()

    def abandon(self):
        """The loop is closed: drop the result, since no task waits any more."""
        self.waiter = None
        self.on_ready()

    def forgo(self):
        """The loop is closed, and no thread has begun this call: it will not be made."""

    def call(self, loop, pool):
        """Start the call. Returns a future with the call's own result, a number or -errno."""
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
        """Whether the driver could not make this call on this file. Then a thread makes it now."""
        if self.pool is not None or self.other_way is None or self.loop.closed:
            return False
        if self.result not in (-EINVAL, -EOPNOTSUPP, -EAGAIN, -ENOSYS):
            return False
        self.pool = self.other_way
        self.pool.submit(self)
        return True

    def taken(self):
        """The caller has received the result."""

    def drop(self):
        """The caller has gone without the result, which may be there or still come."""
        self.cancel()

    def gone(self):
        """Like drop(), on any thread."""

    def cancel(self):
        """Ask the kernel to give up. A thread cannot be stopped."""
        if self.pool is None and self.loop is not None and not self.loop.closed:
            self.loop.driver.cancel(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deliver(self) -> cython.int:
        return 0


@cython.final
@cython.cclass
class OpenCall(SystemCall):
    """Opens a file. The call owns the descriptor, and closes it with itself, until the caller has taken it.

    The waiting task may be cancelled in the very turn in which the result comes.
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
        if self.result >= 0:  # the loop was closed meanwhile
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
        """Have the descriptor closed where the loop does not wait for that."""
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
    """Closes a descriptor that it owns. If the call is never made, the object closes the descriptor when it
    dies.

    The call is made once, whatever its result: Linux frees the number in any case.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        self.result = result
        self.owes = self.owes and result == -ECANCELED  # -ECANCELED: the kernel never began
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
        """Do nothing: no other code owns the descriptor, so the call has to be made."""

    def __dealloc__(self):
        if self.owes:
            close_waiting(self.fd)


@cython.final
@cython.cclass
class StatusCall(SystemCall):
    """Asks for the status of a file."""

    def stat_result(self):
        """The status that the call found, in the form of os.stat()."""
        return stat_result(hoop_stat_fields(cython.address(self.status)))


@cython.final
@cython.cclass
class ReadCall(SystemCall):
    """Reads into a bytes object, which no other code sees before it is full."""

    def bytes(self):
        """The bytes that were read."""
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
# Paths come from os.fsencode(). A `dir_fd` of -100 (AT_FDCWD) means the current folder.


@cython.final
@cython.cclass
class Lent:
    """A buffer of the user's, held until the end of one call."""

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
    """The result of os.pread(), if all the data is in memory; else None. Never waits."""
    if size < 0 or size > AT_ONCE_BYTES_MAX or offset < 0:
        return None
    data = PyBytes_FromStringAndSize(cython.NULL, size)
    got: cython.Py_ssize_t = hoop_read_cached(fd, PyBytes_AS_STRING(data), size, offset)
    if got == size:
        return data
    return b"" if got == 0 else None


# Device (see look_at() in source.py) -> whether it belongs to this machine, as far as known.
local_devices = cython.declare(dict, {})


@cython.cfunc
@cython.exceptval(-1, check=True)
def knows_local(fd: cython.int) -> cython.bint:
    """Whether the file is known to lie on this machine. Never waits."""
    status: hoop_status
    if hoop_status_of(fd, cython.address(status)) < 0 or status.mode & S_IFMT != S_IFREG:
        return False
    return local_devices.get(status.device) is True


def devices() -> dict:
    """The devices seen so far: True for those of this machine, False for others."""
    return local_devices


@cython.cfunc
@cython.exceptval(-1, check=False)
def check_seekable(fd: cython.int) -> cython.int:
    """Raise as os does for a pipe. io_uring ignores the offset there."""
    at: int64_t = hoop_stand_at(fd, 0, 1)
    if at < 0:
        raise os_error(cython.cast(cython.int, at))
    return 0


def pread(fd: cython.int, size: cython.Py_ssize_t, offset: int64_t):
    """Read at an offset; `bytes()` of the op returns the data."""
    check_seekable(fd)
    op: ReadCall = ReadCall.__new__(ReadCall)
    op.apart = not knows_local(fd)
    op.data = PyBytes_FromStringAndSize(cython.NULL, min(size, CALL_BYTES_MAX))
    n: cython.uint = cython.cast(cython.uint, PyBytes_GET_SIZE(op.data))
    return new_call(op, HOOP_READ, fd, 0, op.data, PyBytes_AS_STRING(op.data), n, offset)


def made_by_driver(loop) -> bool:
    """Whether the loop's driver makes calls itself. Then there is no trip to a thread to save."""
    native: LoopBase = as_native(loop)
    return native.driver.supports(CALL) and native.driver.supports_call(HOOP_OPENAT)


def fsync(fd: cython.int, data_only: cython.bint):
    """Wait until the disk has the file."""
    return new_call(blank(), HOOP_FSYNC, fd, 1 if data_only else 0, None, cython.NULL, 0, 0)


def fallocate(fd: cython.int, mode: cython.int, offset: int64_t, length: int64_t):
    """Reserve room on the disk."""
    address: cython.p_void = cython.cast(cython.p_void, length)
    return new_call(
        blank(), HOOP_FALLOCATE, fd, 0, None, address, cython.cast(cython.uint, mode), offset
    )


def ftruncate(fd: cython.int, length: int64_t):
    """Cut or extend the file."""
    return new_call(blank(), HOOP_FTRUNCATE, fd, 0, None, cython.NULL, 0, length)


@cython.cfunc
def new_close(fd: cython.int) -> CloseCall:
    """A call that closes a descriptor, and from now on owns it."""
    op: CloseCall = CloseCall.__new__(CloseCall)
    new_call(op, HOOP_CLOSE, fd, 0, None, cython.NULL, 0, 0)
    op.owes = op.apart = True  # closing writes some files out to a server or disk
    return op


def close(fd: cython.int):
    """A call that closes a descriptor, and from now on owns it."""
    return new_close(fd)


@cython.cfunc
@cython.exceptval(-1, check=False)
def drop_fd(fd: cython.int, loop: LoopBase, pool) -> cython.int:
    """Close a descriptor that no caller has received, on the loop's thread and without waiting."""
    if loop.closed:
        close_waiting(fd)
    else:
        new_close(fd).start(loop, pool)
    return 0


def drop(fd: cython.int, loop, pool):
    """Close a descriptor that no caller has received, on the loop's thread and without waiting."""
    drop_fd(fd, as_native(loop), pool)


def openat(path: bytes, flags: cython.int, mode: cython.uint, dir_fd: cython.int = AT_FDCWD):
    """Open by name."""
    op: OpenCall = OpenCall.__new__(OpenCall)
    op.apart = True  # a server may be asked although the name is cached
    return new_call(
        op, HOOP_OPENAT, dir_fd, cython.cast(cython.uint, flags), path, text_of(path), mode, 0
    )


def open_waiting(path: bytes, flags: cython.int):
    """On a thread: open by name, without the audit event of os.open(). Returns a descriptor, or -errno."""
    name: cython.p_void = text_of(path)
    fd: cython.long
    with cython.nogil:
        fd = hoop_perform(HOOP_OPENAT, AT_FDCWD, cython.cast(cython.uint, flags), name, 0o666, 0)
    return fd


def statx(path: bytes, flags: cython.uint, fd: cython.int = AT_FDCWD):
    """Ask for a status, by name, or of `fd` if the path is empty."""
    op: StatusCall = StatusCall.__new__(StatusCall)
    if not path:
        flags |= EMPTY_PATH
    out: int64_t = cython.cast(int64_t, cython.cast(cython.size_t, cython.address(op.status)))
    keep = (path, op)  # the kernel writes into the op: keep it alive until on_ready()
    return new_call(op, HOOP_STATX, fd, flags, keep, text_of(path), STATX_BASIC, out)


def renameat(source: bytes, target: bytes, source_fd: cython.int, target_fd: cython.int):
    """Rename; an existing target is replaced."""
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
    """Whether a file lies on a file system of this machine. May wait, so call it on a thread."""
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
