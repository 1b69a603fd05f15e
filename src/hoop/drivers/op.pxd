from hoop._c.python cimport flag
from hoop.drivers.ready cimport Runnable

cdef enum Phase:
    IDLE            # the driver does not have it
    ARMED           # the driver watches for it
    READY           # it is on the ready ring
    CANCELLING      # its owner gave it up, but the kernel still works on it
    DEAD            # it will never be submitted again

cdef enum Interest:
    READABLE        # tell when the descriptor is readable
    WRITABLE        # tell when it is writable
    RECEIVE         # hand over the bytes that a socket receives; on epoll, tell when it is readable
    CALL            # make one system call (a CallOp)

cdef class Op(Runnable):
    cdef int fd                     # the descriptor, owned by the op's owner while the op is armed
    cdef unsigned char interest     # what to watch for: an Interest
    cdef unsigned char phase        # a Phase; only the enter_* methods change it
    cdef flag delivers              # the driver hands over received bytes, and does not only report readiness
    cdef flag at_once               # the driver calls complete() at once, also for mere readiness
    cdef flag by_hand               # only report readiness: too much arrives for the driver's buffers
    # The descriptor belongs to somebody else, who may close it. No request of io_uring may keep it open.
    cdef flag foreign
    cdef flag yields                # it is dropped when a new file of the same number is watched
    cdef unsigned int place         # its index in the io_uring driver's table; 0 if it is not in it
    cdef int enter_armed(self) except -1
    cdef inline int enter_ready(self) except -1:
        if self.phase != ARMED:
            return self.not_armed()
        self.phase = READY
        return 0
    cdef int not_armed(self) except -1
    cdef int enter_idle(self) except -1
    cdef int enter_cancelling(self) except -1
    cdef int enter_dead(self) except -1
    # The driver has a completion for this op (or any event, if it is `at_once`). `result` is the kernel's,
    # and `data` the bytes received, to be copied now. Runs no user code. Returns whether to push the op
    # onto the ready ring.
    cdef bint complete(self, int result, char *data) except -1
    # The loop runs the op: the descriptor is ready, or the call is done.
    cdef int on_ready(self) except -1
    cdef object peer(self)                                          # the address at the other end, or None
    # The driver dropped the op because its number now belongs to another file.
    cdef int evicted(self) except -1
    # Send what must leave before the loop sleeps (only for ops on the loop's dirty list).
    cdef int flush(self) except -1

cdef class CallOp(Op):
    cdef int code                       # the number of io_uring's operation, also used on epoll
    cdef unsigned int flags             # those of the operation: open_flags, rw_flags, msg_flags, ...
    cdef void *address
    cdef unsigned int length
    cdef flag apart                     # the call may block: the kernel makes it in a thread of its own
    cdef unsigned long long offset      # or the second address of the operation
    cdef long long result               # >= 0, or -errno
    cdef object keep                    # the object whose memory the kernel may touch until the call is done
    cdef object waiter                  # a future of the loop, or None
