from hoop._c.watch cimport hoop_mutex

cdef enum:
    DESCRIPTORS_MAX = 64                # more are not waited for
    OVERS_MAX = 8                       # loops of which wait() says at once that they go on
    TIMERS_MAX = 4                      # loops whose stacks can be had, of those that are awake together
    NAME_MAX = 64

cdef enum Kind:
    NOTHING
    BLOCKED                             # the loop is blocked, and was so for this long
    OVER                                # it was, and goes on now
    STARVED                             # it seemed so, but had no processor

# A loop that is watched: addresses of its words, then what the watcher has seen.
cdef struct Watched:
    unsigned long number
    int *in_wait                  # AWAKE, IN_KERNEL or WANTS_GIL; NULL if the loop has left while it was blocked
    int *tid                      # the kernel's number of the thread that runs the loop; 0 if none does
    unsigned long *turns
    unsigned long *head
    long long *stamp
    unsigned long *stamp_turn
    void **thread_state
    void **running
    unsigned long turn                  # when the turn was seen first
    unsigned long held                  # the turn for whose end the watcher waits: see Watcher.hold()
    int thread
    long long began                     # no later than this the turn was seen, if not when it began
    long long seen                      # the last look
    unsigned long last_head             # at the last look
    long long moved                     # when the head was seen to have moved
    int moves                           # how many looks have seen that
    long long cpu, delay                # of the thread when the turn was seen first
    long long told, told_cpu, told_delay    # when the last report was made, and of the thread then
    int level                           # how often it was reported as blocked
    bint starved                        # this turn was counted as one without a processor
    bint stays                          # at the last look it was still in the turn of the look before

# The result of a look.
cdef struct Sighting:
    int kind                            # a Kind
    unsigned long number
    int tid
    void **thread_state
    void *running                       # the address of the runnable, which may be gone
    int level
    unsigned long turn
    long long began, now
    long long cpu, delay                # how much the thread has computed, and waited for a processor
    long long told, new_cpu, new_delay  # the same since the last report, or else since it began
    int state, call                     # its state and system call: see watch.h
    bint moved, collects, waits_for_gil
    char wchan[NAME_MAX]                # the function of the kernel in which it waits

cdef class Watcher:
    cdef readonly double threshold
    cdef readonly int signal            # asks the loop's thread for its stack; 0 if there is none to be had
    cdef readonly int dump_signal       # as signal, but for code that computes on; 0 if there is none
    cdef readonly int memfd
    cdef readonly unsigned long looks, starved
    cdef int timers[TIMERS_MAX]         # for `signal`; the first `armed` are
    cdef int dumps[TIMERS_MAX]          # for `dump_signal`
    cdef int armed
    cdef bint suspects                  # a loop stayed in its turn, at the last look
    cdef void arm(self, Sighting *blocked) noexcept nogil
    cdef void arm_for(self, int tid) noexcept nogil
    cdef void disarm_dumps(self) noexcept
    cdef void skip_levels(self, unsigned long number, long long now) noexcept
    cdef void hold(self) noexcept nogil
    cdef bint holds(self) noexcept nogil
    cdef bint find(self, long long now, long long late, Sighting *s) noexcept nogil

cdef bint watching                      # loops that begin to run are to register
cdef unsigned long watch_loop(
    int *in_wait, int *tid, unsigned long *turns, unsigned long *head, long long *stamp,
    unsigned long *stamp_turn, void **thread_state, void **running
) except 0
cdef void unwatch_loop(unsigned long number) noexcept
cdef void forget(int i) noexcept nogil
cdef bint look_at(Watched *w, long long now, long long late, long long threshold, Sighting *s) noexcept nogil
cdef void begin_anew(Watched *w, unsigned long turn, int tid, long long now) noexcept nogil
