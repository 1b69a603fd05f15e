from hoop.drivers.driver cimport Driver
from hoop.drivers.ready cimport ReadyRing
from hoop.loop.turn cimport Loop
from hoop._c.python cimport Ref

cdef enum Order:    # as in ORDERS
    FIFO            # as on every loop
    WAKES           # tasks that were woken change places within a turn
    STARTS          # first steps do, too
    SINGLE          # one runnable a turn, any task
    PCT             # one runnable a turn, the task of the highest priority

cdef enum:
    STILL_MAX = 100000      # turns without time moving; then it is a Livelock
    OLDEST_EACH = 16        # every sixteenth pick is the task that has been ready for longest

# Numbers that a seed decides. The same seed gives the same numbers, on each version of Python.
cdef class Choices:
    cdef unsigned long long state
    cdef unsigned long long draw(self) noexcept
    cdef unsigned long below(self, unsigned long n) noexcept

cdef class SimDriver(Driver):
    cdef object why                     # function: the exception for why the loop cannot go on
    cdef object describe                # function: the words of a trace for a runnable
    cdef list trace                     # lines of what ran; None if nobody wants them
    cdef Choices choices                # those of the order
    cdef int order                      # an Order
    cdef long long now_ns               # the virtual time since the world began
    cdef long long limit_ns             # later is a TimeLimit
    cdef unsigned long still            # turns since time has moved
    cdef unsigned long arranged         # the turn that was last arranged
    # For `single` and `pct`: how often one task was picked of several.
    cdef unsigned long picks
    cdef dict priorities                # of `pct`, by the task's serial number
    cdef set changes                    # of `pct`: the picks at which a task loses its priority
    cdef double seconds(self) noexcept
    cdef int arrange(self, Loop loop) except -1
    cdef int shuffle(self, Loop loop) except -1
    cdef int pick(self, Loop loop) except -1
    cdef unsigned long preferred(self, Loop loop, list movable) except? 0
    cdef object priority(self, Loop loop, unsigned long i)
    cdef bint moves(self, Ref r) noexcept

# The C methods of a loop in a simulation. It has no fields: those are in its driver.
cdef class SimLoop(Loop):
    cdef double now(self) except? -1
    cdef int run_ready(self) except -1
    cdef int run_ready_watched(self) except -1
