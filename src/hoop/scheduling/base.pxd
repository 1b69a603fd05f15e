from hoop._c.python cimport Ref
from hoop._c.linux cimport hoop_effort
from hoop.drivers.driver cimport Driver
from hoop.drivers.ready cimport ReadyRing, Runnable
from hoop.scheduling.handle cimport Handle
from hoop.drivers.op cimport Op
from hoop.scheduling.histogram cimport Histogram
from hoop.scheduling.timers cimport Timers

# The part of the event loop that futures, tasks and transports use.
cdef class LoopBase(ReadyRing):
    cdef Driver driver
    cdef Timers timers
    cdef list dirty                     # ops with something to send before the loop sleeps
    cdef list flushing                  # the dirty list of the last flush, to be used again
    cdef bint together                  # several streams send now: let the driver make the calls
    # State of writes that wait for other connections' writes: see net/outbox.py.
    cdef bint attends                   # call served() when the current callback ends
    cdef unsigned int waiting           # how many connections have such a write
    cdef bint replies_wait              # some of those writes were made by tasks
    cdef long long waiting_since        # when the first of them began to wait, in nanoseconds
    cdef hoop_effort effort             # the thread's effort when the first of them began to wait
    cdef long long flushing_at          # the time when flush_waiting() began; 0 outside of it
    cdef object timed                   # a connection that wrote, to measure when its callback ends
    cdef bint times_another             # measure the next callback, too
    cdef dict transports                # open transports by descriptor; owns them
    cdef object wake_context            # the context of callbacks that only wake a native task
    cdef bint closed, stopping
    cdef bint own_soon                  # call_soon() is overridden: call it for each step of a task
    cdef bint asleep                    # in a poll that blocks, and nobody has woken it yet
    # Wake the loop if it sleeps. From any thread that has the GIL.
    cdef inline int rouse(self) except -1:
        if self.asleep:
            self.asleep = False
            self.driver.wake()
        return 0
    # The turn in which the loop asks the driver next, even if it is busy. 0 means the next turn, because a
    # callback did something that may make another descriptor ready. Drivers that announce events do not
    # need it.
    cdef unsigned long look_at
    cdef unsigned long thread           # the thread that runs the loop; 0 while it is not running

    # The task that asyncio.current_task() names, and its context, which the thread has entered. The loop
    # leaves both late, just before it runs something other than this task. Borrowed from `current_tasks`
    # and from the thread.
    cdef Ref entered
    cdef Ref entered_context
    cdef dict current_tasks             # asyncio's dictionary of them; None from Python 3.14 on
    cdef bint ends_in_child             # this process was forked by one of its callbacks, and may end it
    cdef bint current_is_forgotten      # that fork has made asyncio forget the current task
    cdef Ref first_task                 # unfinished native tasks, linked through them; all owned
    cdef Ref running                    # the runnable that is running; owned
    cdef int tid                        # the kernel's number of the thread that takes turns; 0 if none does
    cdef void *thread_state             # Python's state of that thread
    cdef unsigned long watch_number     # its number in insight/watcher.py; 0 if it is not watched
    cdef unsigned long left             # how many more runnables this turn will run

    # Transports receive into one buffer, which stays in the processor's cache.
    cdef char *scratch
    cdef void *datagrams                # the same for datagram transports, with room for several datagrams
    cdef object tls_workspace           # memory that its TLS connections share; None until there is one

    # Counters for counters(). They are never reset.
    cdef unsigned long turns, callbacks, ready_max
    cdef double lag_max                 # seconds by which the latest timer was late
    # More of them, for statistics(). Times are nanoseconds.
    cdef Histogram visits      # from one visit to the driver to the next, without the sleep
    cdef Histogram timer_lag   # by how much timers were late
    cdef long long idle_ns     # asleep in the driver
    cdef long long born        # when the loop was made
    cdef unsigned long tasks_made, tasks_ended, tasks_failed, tasks_cancelled
    cdef unsigned long long bytes_in, bytes_out     # of all connections
    cdef unsigned long accepted, refused
    # How many look at how long each task keeps the loop busy: clients of the observer, and `measuring`.
    cdef unsigned int lookers
    cdef long long measured_from        # since when there is one at least
    cdef bint measures                  # the program has set `measuring`
    cdef long long visited              # the last visit to the driver; `stamp` may be later while it measures
    cdef unsigned long visited_in       # the turn of that visit
    cdef dict busy                      # nanoseconds by class of what is no task, while it measures
    cdef object busy_kind               # the class that ran last: its latest nanoseconds are in busy_ns
    cdef long long busy_ns
    # For debug mode: when the current call of user code began, the longest call, and the function called.
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
    # Whether the next runnable hands received data to a protocol, or is a task that such data has woken.
    cdef inline bint serves_more(self) noexcept:
        cdef Ref r
        if self.left == 0:
            return False
        r = self.ring[self.head & self.mask]
        return (<Runnable>r).is_receiver or self.steps_for_reply(r, self.head)
    # Whether the next runnable hands received data to a protocol.
    cdef inline bint hands_out_more(self) noexcept:
        return self.left != 0 and (<Runnable>self.ring[self.head & self.mask]).is_receiver
    cdef int leave_watch(self) noexcept
    cdef int count_busy(self, kind) except -1
    cdef int check_open(self) except -1
    cdef int check_thread(self) except -1
    cdef int lap(self, object called) except -1
    cdef char *scratch_buffer(self)
    cdef void *datagram_buffer(self, size_t size)

cdef enum:
    # The most connections whose writes wait for each other. More would save hardly any system calls.
    TOGETHER_MAX = 32
    SCRATCH_BYTES = 262144              # as much as asyncio's transports receive at once

# The loop that takes turns; NULL if none does, or several do. Borrowed from whoever has it take turns.
cdef Ref turning
cdef int begin_turns(LoopBase loop) noexcept
cdef int end_turns() noexcept

cdef LoopBase as_native(object loop)
cdef object swap_current_task(object loop, object task)
