from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t
from hoop.scheduling.base cimport LoopBase
from hoop._c.file cimport hoop_statx
from hoop.scheduling.future cimport Future
from hoop.drivers.op cimport CallOp

cdef class SystemCall(CallOp):
    cdef LoopBase loop
    cdef object pool                # makes the call on a thread; None if the driver makes it
    cdef object other_way           # the pool, should the driver refuse
    cdef int start(self, LoopBase loop, object pool) except -1
    cdef bint was_refused(self) except -1
    cdef int deliver(self) except -1    # virtual: the result is there

cdef class OpenCall(SystemCall):
    cdef LoopBase home              # the loop that was asked
    cdef object home_pool
    cdef bint unwanted              # the caller has gone
    cdef int start(self, LoopBase loop, object pool) except -1
    cdef int on_ready(self) except -1
    cdef int give_back(self) except -1

cdef class CloseCall(SystemCall):
    cdef bint owes                  # the descriptor is not closed yet
    cdef bint complete(self, int result, char *data) except -1
    cdef bint was_refused(self) except -1
    cdef int close_now(self) except -1

cdef class ReadCall(SystemCall):
    cdef object data

cdef class StatusCall(SystemCall):
    cdef hoop_statx status

cdef class Lent:
    cdef Py_buffer view
    cdef bint held

cdef SystemCall new_call(SystemCall op, int code, int fd, unsigned int flags, object keep, void *address, unsigned int length, int64_t offset)
cdef CloseCall new_close(int fd)
cdef int drop_fd(int fd, LoopBase loop, object pool) except -1
cdef SystemCall transfer(int code, int fd, Lent lent, int64_t offset)
cdef Lent lend(object data, bint writable)
cdef bint knows_local(int fd) except? -1
