from hoop.drivers.ready cimport Runnable

cdef enum Phase:
    IDLE            # the driver does not know it
    ARMED           # the driver watches for it
    READY           # its turn has come: on the ready ring
    CANCELLING      # nobody wants it any more, but the kernel has not let go of it yet
    DEAD            # it will never be submitted again

cdef enum Interest:
    READABLE        # tell when the descriptor is readable
    WRITABLE        # tell when it is writable
    RECEIVE         # hand over what a socket receives; or tell when it is readable
    CALL            # make one system call (a CallOp)

cdef class Op(Runnable):
    cdef int fd                     # the descriptor, owned by the op's owner while the op is armed
    cdef unsigned char interest     # what it asks of the driver
    cdef unsigned char phase        # moved only by the enter_* methods
    cdef bint delivers              # the driver hands over what was received, and does not only tell of readiness
    cdef bint at_once               # takes its news in complete(), whatever the driver
    cdef bint by_hand               # only to be told: there is too much for the driver to hand over
    # The descriptor is somebody else's, who may close it: no request of the driver's keeps it open.
    cdef bint foreign
    cdef bint yields                # it gives way to whoever watches a new file of the same number
    cdef unsigned int place         # where a completion driver keeps it; 0 while it does not
    cdef int enter_armed(self) except -1
    cdef int enter_ready(self) except -1
    cdef int enter_idle(self) except -1
    cdef int enter_cancelling(self) except -1
    cdef int enter_dead(self) except -1
    # A completion driver has news (or any, for an op that takes them at once): the kernel's result, and
    # the data that came with it, to be copied now. Runs nothing of the user's. True if the op is to take
    # a turn.
    cdef bint complete(self, int result, char *data) except -1
    # The kernel is ready, or has completed: act on it.
    cdef int on_ready(self) except -1
    # The driver has let go of it for another op of the same number: that is another file's now.
    cdef int evicted(self) except -1
    # What must leave before the loop sleeps (only for ops on the loop's dirty list).
    cdef int flush(self) except -1

cdef class CallOp(Op):
    cdef int code                       # the system call: the number of an io_uring operation
    cdef unsigned int flags             # the operation's own: open_flags, rw_flags, msg_flags, ...
    cdef void *address
    cdef unsigned int length
    cdef unsigned long long offset      # or the second address, as the operation has it
    cdef long long result               # >= 0, or -errno
    cdef bint apart                     # it may wait where the kernel cannot tell: not in the loop's thread
    cdef object keep                    # what the kernel may touch until the call is done
    cdef object waiter                  # a future of the loop, or None
