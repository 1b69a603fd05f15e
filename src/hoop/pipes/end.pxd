from hoop.scheduling.attributes cimport Attributed
from hoop.watching.watch cimport WatchLoop, WatchOp

# Watches a transport's descriptor for one interest.
cdef class PipeOp(WatchOp):
    cdef PipeEnd end                    # None once it is not watched any more
    cdef bint is_direct                 # the handle's callback is the transport's own method
    cdef int release(self) except -1

cdef class PipeEnd(Attributed):
    cdef object __weakref__
    cdef WatchLoop loop                 # None after connection_lost
    cdef object pipe                    # the file object that owns the descriptor; None once it is closed
    cdef int fd                         # its number, also afterwards; -1 of what is no pipe
    cdef object protocol                # None after connection_lost
    cdef object extra                   # a dict
    cdef object terminal                # a TerminalFlags, or None
    cdef bint is_fifo, is_socket, is_device
    cdef bint closing                   # no more is read, and no more written than what is queued
    cdef long long born, active         # the loop's stamps, as of Endpoint
    cdef unsigned long long bytes_in, bytes_out
    cdef int take(self, WatchLoop loop, object pipe, object protocol, object extra, str refusal) except -1
    cdef PipeOp watch(self, int interest, object callback)
    cdef int unwatch(self, PipeOp op) except -1
    cdef int on_ready(self, int interest) except -1         # virtual: the descriptor is ready for that
    cdef int stop(self) except -1                           # virtual: stop watching the descriptor
    cdef bint was_closed(self) except -1
    cdef bint is_closed_file(self) except -1
    cdef bint is_over(self) except -1
    cdef int close_with(self, object exc) except -1
    cdef int lose(self, object exc) except -1
    cdef str state(self, int interest)

cdef int call_soon(object loop, object callback, tuple args) except -1
