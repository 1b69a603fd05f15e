from hoop.drivers.ready cimport ReadyRing
from hoop.drivers.op cimport Op

cdef enum:
    SPARES_MAX = 3

cdef unsigned long forks                # how often this process and its parents were made by a fork

cdef class Driver:
    cdef unsigned long generation       # the number of forks when it was made: see inherited()
    # Whether this is the copy in a forked child.
    cdef inline bint inherited(self) noexcept:
        return self.generation != forks
    cdef unsigned long waits, wakes     # how often poll() slept; how often wake() was called
    # Whether `pending` and `bell` tell all there is to know. Then a look costs the loop a memory read.
    cdef bint announces
    cdef bint pending                   # something was not submitted to the kernel, or not taken from it
    cdef const unsigned int *bell       # not zero if the kernel has something for the driver
    # Before poll() sleeps it may look for events again and again for a while: see begin_wait().
    cdef long long spin_ns              # the longest spin; 0 if it never spins
    cdef bint may_spin                  # there is another processor, on which the peer can run
    cdef bint has_spun                  # the last poll() spun without events, so that the next one sleeps
    cdef long long wait_began_ns
    cdef long long mean_wait_ns         # over the last few waits, spinning or asleep
    cdef unsigned long spins, spins_in_vain
    cdef long long begin_wait(self, long long timeout_ns) except -1
    cdef int end_wait(self, int n, long long spin_ns, long long timeout_ns) except -1
    # Descriptors that hold numbers for what the driver makes when it first needs it: see reserve().
    cdef int spares[SPARES_MAX]
    cdef int n_spares
    cdef int model                      # the descriptor of which they are duplicates; -1 if there is none
    cdef int hold(self, int n) noexcept
    cdef int release(self, int n) noexcept
    cdef int reserve(self, int fd) noexcept
    cdef int lacking(self) noexcept
    cdef int begin(self, ReadyRing ready) except -1
    cdef int rest(self, ReadyRing ready) except -1
    cdef int submit(self, Op op) except -1
    cdef int cancel(self, Op op) except -1
    cdef int poll(self, ReadyRing ready, long long timeout_ns) except -1
    cdef int nap(self, long long timeout_ns) except -1
    cdef int tell(self) except -1
    cdef int wake(self) except -1
    cdef int close(self) except -1
    cdef bint supports(self, int interest) noexcept
    cdef bint supports_call(self, int code) noexcept
    cdef Op armed(self, int fd, int interest)
    cdef list take_armed(self)

cdef unsigned int silence              # the bell of a driver that has none: always zero
