from hoop.drivers.driver cimport Driver
from hoop.drivers.epoll cimport EpollDriver
from hoop.drivers.op cimport Op
from hoop.drivers.ready cimport ReadyRing
from hoop.loop.turn cimport Loop
from hoop.sim.net.completions cimport Completions
from hoop.scheduling.task cimport Task
from hoop._c.python cimport Ref

cdef enum Order:    # as in ORDERS
    FIFO            # as on every loop
    WAKES           # tasks that were woken change places within a turn
    STARTS          # first steps do, too
    SINGLE          # one runnable a turn, any task
    PCT             # one runnable a turn, the task of the highest priority

cdef enum:
    STILL_MAX = 100000      # turns without time moving; then it is a Livelock
    IDLE_MAX = 100          # turns of callbacks of ready descriptors that change nothing; then time passes
    HOSTS_RAN = -2          # the answer of hosts of which one has run something
    OLDEST_EACH = 16        # every sixteenth pick is the task that has been ready for longest

# The choices of one run: drawn from a seed, or given. All of its streams write into one log.
cdef class Script:
    cdef readonly object seed
    cdef dict given                     # by site the values to take, the last one first; None if they are drawn
    cdef readonly list log              # (site, n, value) of each choice; None if nobody wants them
    cdef readonly dict said             # (time, what the choice did), by its place in the log; None likewise
    cdef bint watched                   # whether streams must tell of each choice
    cdef SimDriver driver               # it knows the time, and has the trace
    cdef unsigned long settled(self, str site, unsigned long n, unsigned long value) except? -1

# Numbers that a seed and a name decide. The same seed gives the same numbers, on each version of Python.
cdef class Choices:
    cdef unsigned long long state
    cdef str site                       # the name
    cdef Script script                  # None if its choices are told to nobody
    cdef unsigned long long draw(self) noexcept
    cdef unsigned long below(self, unsigned long n) except? -1
    cpdef bint rarely(self, double share) except -1
    cpdef double fraction(self) except? -1

# The time of a world.
cdef class Clock:
    cdef long long ns                   # since the world began
    cdef bint has_run                   # a program may have sent something since the network has looked
    cdef bint stirred                   # the kernel may have something new for a program

cdef class SimDriver(Driver):
    cdef object why                     # function: the exception for why the loop cannot go on
    cdef object words                   # has functions that name a runnable
    cdef object trace                   # gets lines of what ran, by append(); None if nobody wants them
    cdef Script script
    cdef Choices choices                # those of the order
    cdef Choices ranks                  # the priorities of `pct`
    cdef Choices costs                  # of the turns
    cdef int order                      # an Order
    cdef EpollDriver inner              # watches descriptors; None before the first
    cdef Completions completions        # receives and sends; None if transports do that themselves
    cdef object network                 # function that moves bytes and returns when it has more to do, or None
    cdef Clock clock                    # of the world; hosts share it
    cdef SimDriver leader               # the driver that moves the clock, if this is a host's; else None
    cdef object hosts                   # of the leader: function that has the hosts take turns, or None
    cdef unsigned long rounds           # of the leader: how often they did
    cdef unsigned long moved            # looks at which the driver has sent or received something
    cdef long long idled_at             # of a host that idles: when it took its last turn
    cdef list failing                   # ops that the network has failed, and that are not on the ring yet
    cdef long long limit_ns             # later is a TimeLimit
    cdef unsigned long cost_us          # the least time that a turn takes
    cdef unsigned long spread_us        # how many times it may take, by microseconds; 0 if it takes none
    cdef unsigned long still            # turns since time has moved
    cdef unsigned long idle_turns       # turns that ran only callbacks of descriptors, and changed nothing
    cdef long long queued               # how much is in the buffers of the descriptors that are ready
    cdef unsigned long arranged         # the turn that was last arranged
    # For `single` and `pct`: how often one task was picked of several.
    cdef unsigned long picks
    cdef dict priorities                # of `pct`, by what task_key() says
    cdef set changes                    # of `pct`: the picks at which a task loses its priority
    # A task that is to be cancelled when it has taken so many steps.
    cdef dict steps                     # of each task, by its number in this world; None if nobody counts
    cdef unsigned long first_serial     # tasks of this world have greater numbers
    cdef unsigned long victim           # the task's number in this world; 0 if there is none
    cdef unsigned long victim_steps
    cdef object strike                  # function that gets the task then
    cdef Task struck                    # it, while it takes that step
    # Tasks that are cancelled at times.
    cdef double cancel_share            # of the steps; 0 if none is
    cdef object doom                    # function that gets a task after such a step
    cdef list struck_now                # what `doom` gets for tasks that take such a step in this turn
    cdef Choices cancels
    cdef double seconds(self) noexcept
    cdef bint idles(self, ReadyRing ready) noexcept
    cdef int pass_idle_time(self, Loop loop, long long event) except -1
    cdef int stand_still(self) except -1
    cdef long long step_hosts(self, ReadyRing ready) except -3
    cdef long long move(self, ReadyRing ready) except -2
    cdef int gather(self, ReadyRing ready) except -1
    cdef int jump_to(self, Loop loop, long long deadline) except -1
    cdef int make_way(self, Op op) except -1
    cdef bint completes(self, Op op) noexcept
    cdef int hold_nothing_back(self, Op op) except -1
    cdef int arrange(self, Loop loop) except -1
    cdef int look(self, Loop loop) except -1
    cdef int exchange(self, Loop loop, unsigned long first, unsigned long chosen) except -1
    cdef list movable(self, Loop loop)
    cdef int shuffle(self, Loop loop) except -1
    cdef int pick(self, Loop loop) except -1
    cdef unsigned long preferred(self, Loop loop, list movable) except? 0
    cdef object priority(self, Loop loop, unsigned long i)
    cdef bint moves(self, Ref r) except -1

# The C methods of a loop in a simulation. It has no fields: those are in its driver.
cdef class SimLoop(Loop):
    cdef double now(self) except? -1
    cdef int run_ready(self) except -1
    cdef int run_ready_watched(self) except -1
