from hoop._c.python cimport Ref
from hoop._c.linux cimport hoop_effort
from hoop.drivers.driver cimport Driver
from hoop.drivers.ready cimport ReadyRing, Runnable
from hoop.scheduling.handle cimport Handle
from hoop.drivers.op cimport Op
from hoop.scheduling.timers cimport Timers

# The parts of a loop that futures, tasks and transports need.
cdef class LoopBase(ReadyRing):
    cdef Driver driver
    cdef Timers timers
    cdef list dirty                     # ops with something to send before the loop sleeps
    cdef list flushing                  # the dirty list of the time before, used again
    cdef bint together                  # several streams send now: let the driver make the calls
    # While connections are served: see outbox.py.
    cdef bint attends                   # there is something to see to once what runs has ended
    cdef unsigned int waiting           # connections whose writes wait for others'
    cdef bint replies_wait              # some of them were written by tasks
    cdef long long waiting_since        # when the first began to, in nanoseconds
    cdef hoop_effort effort             # what had been done when the first of those began to wait
    cdef long long flushing_at          # the time, while what has waited is sent; else 0
    cdef object timed                   # a connection that has written, if the end of the callback is timed
    cdef bint times_another             # or that of what runs after
    cdef dict transports                # descriptor -> open transport; owns them
    cdef object wake_context            # where callbacks run that only wake a task of ours
    cdef bint closed, stopping, debug
    cdef bint own_soon                  # call_soon() is not ours: it is to see the steps of tasks
    cdef bint asleep                    # in a blocking poll, and nobody has woken it yet
    # The turn that asks the driver next, however busy the loop is. 0: the next one, since something was done
    # that may be news to another descriptor of this loop. (A driver that announces needs none of it.)
    cdef unsigned long look_at
    cdef unsigned long thread           # that runs the loop; 0 when it is not running

    # The task that asyncio.current_task() names, and its context, in which the thread is. Both are put
    # down lazily: they stay until something that is not this task is about to run. Borrowed from
    # `current_tasks` and from the thread.
    cdef Ref entered
    cdef Ref entered_context
    cdef dict current_tasks             # asyncio's {loop: task}; None from Python 3.14 on
    cdef Ref first_task                 # unfinished native tasks, linked through them; all owned
    cdef Ref running                    # the runnable whose turn it is; owned
    cdef unsigned long left             # how many more this turn will run

    # Where transports receive: one hot buffer for all of them.
    cdef char *scratch
    cdef void *datagrams                # the same for datagram transports, by the batch
    cdef object tls_workspace           # what its TLS connections share; None until there is one

    # Counters for whoever looks on. Plain fields, never reset.
    cdef readonly unsigned long turns, callbacks, ready_max
    cdef readonly double lag_max        # seconds by which the latest timer was late
    # Measure the time that each task keeps the loop busy.
    cdef public bint measuring
    # In debug mode: when the turn or its last lap began, and the longest lap and what was called in it.
    cdef long long lap_began_ns, lap_max_ns
    cdef object slowest

    cdef inline int enter(self, Ref task, Ref context) except -1:
        if self.entered != task:
            return self.enter_task(task, context)
        return 0
    cdef inline int leave(self) except -1:
        if self.entered != NULL:
            return self.leave_task()
        return 0
    cdef int enter_task(self, Ref task, Ref context) except -1
    cdef int leave_task(self) except -1
    cdef int leave_context(self) except -1
    cdef int forget_current(self) except -1

    cdef Handle soon(self, object callback, tuple args, object context)
    cdef int mark_dirty(self, Op op) except -1
    cdef int unmark_dirty(self, Op op) except -1
    cdef int flush_dirty(self) except -1
    cdef int flush_waiting(self) except -1
    cdef bint steps_for_reply(self, Ref r, unsigned long i) noexcept
    # Whether what runs next serves a connection: hands its protocol what came, or is a task woken by that.
    cdef inline bint serves_more(self) noexcept:
        cdef Ref r
        if self.left == 0:
            return False
        r = self.ring[self.head & self.mask]
        return (<Runnable>r).is_receiver or self.steps_for_reply(r, self.head)
    # Whether what runs next hands a protocol what came for it.
    cdef inline bint hands_out_more(self) noexcept:
        return self.left != 0 and (<Runnable>self.ring[self.head & self.mask]).is_receiver
    cdef int check_open(self) except -1
    cdef int check_thread(self) except -1
    cdef int lap(self, object called) except -1
    cdef char *scratch_buffer(self)
    cdef void *datagram_buffer(self, size_t size)

cdef enum:
    # Connections whose writes leave together: by the batch a system call is cheap enough.
    TOGETHER_MAX = 32
    SCRATCH_BYTES = 262144              # as much as asyncio's transports receive at once

cdef LoopBase as_native(object loop)
