"""An io_uring of the kernel, the buffers that it receives into, and the eventfd that wakes a wait.

The kernel lets only the thread that made the ring use it. Other threads may only close it. See
io_uring_setup(2).
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.hoop._c.linux import hoop_close, hoop_eventfd
from cython.cimports.hoop._c.uring import (
    ENTER_NO_IOWAIT,
    hoop_pool_close,
    hoop_pool_open,
    hoop_ring_bound_workers,
    hoop_ring_close,
    hoop_ring_open,
    hoop_thread_number,
)
from cython.cimports.hoop.drivers.capabilities import CALL_CODES, of_this_kernel, refusal
from cython.cimports.libc.string import memset

# The rings are small because they count against RLIMIT_MEMLOCK again since Linux 6.14. If the limit does
# not allow this size, open() halves it, down to the least size.
SQ_ENTRIES = cython.declare(cython.uint, 256)
CQ_ENTRIES = cython.declare(cython.uint, 4096)
SQ_ENTRIES_LEAST = cython.declare(cython.uint, 32)
CQ_ENTRIES_LEAST = cython.declare(cython.uint, 64)
# The most threads that the kernel uses for calls that block on files, and the most for all other calls.
WORKERS_MAX = cython.declare(cython.uint, 8)
ENOMEM = cython.declare(cython.int, errno.ENOMEM)


@cython.final
@cython.cclass
class Ring:
    """An io_uring, closed at first. `without` names features to leave unused, for tests."""

    def __cinit__(self):
        self.raw.fd = self.wake_fd = -1

    def __init__(self, without=()):
        reason = refusal()
        if reason is not None:
            raise OSError(errno.ENOSYS, f"io_uring cannot be used here: {reason}")
        self.able = of_this_kernel
        for bit in without:
            if bit == "receive":
                self.able.receive = False
            elif bit == "incremental":
                self.able.incremental = False
            elif bit == "send":
                self.able.send = False
            elif bit == "no_iowait":
                self.able.no_iowait = False
            elif bit == "calls":
                memset(self.able.calls, 0, CALL_CODES)
            else:
                raise ValueError(f"io_uring has no capability {bit!r}")

    def __dealloc__(self):
        self.close()

    @cython.cfunc
    @cython.exceptval(check=False)
    def open(self) -> cython.int:
        """Make the ring for the calling thread. Returns 0 or -errno."""
        sq: cython.uint = SQ_ENTRIES
        cq: cython.uint = CQ_ENTRIES
        result: cython.int
        if self.wake_fd < 0:
            self.wake_fd = hoop_eventfd()
            if self.wake_fd < 0:
                return self.wake_fd
        while True:
            result = hoop_ring_open(cython.address(self.raw), sq, cq)
            if result != -ENOMEM or (sq <= SQ_ENTRIES_LEAST and cq <= CQ_ENTRIES_LEAST):
                break
            sq = max(sq // 2, SQ_ENTRIES_LEAST)
            cq = max(cq // 2, CQ_ENTRIES_LEAST)
        if result < 0:
            return result
        hoop_ring_bound_workers(cython.address(self.raw), WORKERS_MAX)
        if self.able.no_iowait:
            self.raw.enter_flags = ENTER_NO_IOWAIT
        self.thread = hoop_thread_number()
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def close(self) -> cython.int:
        hoop_ring_close(cython.address(self.raw))
        hoop_pool_close(cython.address(self.pool))
        self.has_pool = False
        if self.wake_fd >= 0:
            hoop_close(self.wake_fd)
            self.wake_fd = -1
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def belongs_here(self) -> cython.bint:
        """Whether there is a ring that the calling thread may use."""
        return self.raw.fd >= 0 and self.thread == hoop_thread_number()

    @cython.cfunc
    @cython.exceptval(check=False)
    def receives(self) -> cython.bint:
        """Whether there are buffers to receive into. They are made when the first stream reads."""
        if not self.has_pool and self.able.receive:
            pool = cython.address(self.pool)
            raw = cython.address(self.raw)
            if self.able.incremental:
                self.has_pool = hoop_pool_open(pool, raw, True) == 0
            if not self.has_pool:
                self.has_pool = hoop_pool_open(pool, raw, False) == 0
            self.able.receive = self.has_pool
        return self.able.receive
