from hoop.drivers.ready cimport ReadyRing
from hoop.drivers.op cimport Op

cdef class Driver:
    cdef unsigned long generation       # of forks: the kernel's side belongs to the process that made it
    cdef bint inherited(self) noexcept
    cdef unsigned long waits, wakes     # how often it slept; how often it was woken by wake()
    # Whether `pending` and `bell` say all there is to know: then a look costs a memory read.
    cdef bint announces
    cdef bint pending                   # something the kernel was not told, or we have not seen
    cdef const unsigned int *bell       # not zero: the kernel has something for us
    # Before it sleeps it may look again and again for a while: see begin_wait().
    cdef long long spin_ns              # for so long; 0: it does not
    cdef bint may_spin                  # there is another processor, for whoever it waits for
    cdef bint has_spun                  # in vain, and has not slept since
    cdef long long wait_began_ns
    cdef long long mean_wait_ns         # of the last few waits, spinning or asleep
    cdef unsigned long spins, spins_in_vain
    cdef long long begin_wait(self, long long timeout_ns) except -1
    cdef int end_wait(self, int n, long long spin_ns, long long timeout_ns) except -1
    cdef int begin(self, ReadyRing ready) except -1
    cdef int rest(self, ReadyRing ready) except -1
    cdef int submit(self, Op op) except -1
    cdef int cancel(self, Op op) except -1
    cdef int poll(self, ReadyRing ready, long long timeout_ns) except -1
    cdef int tell(self) except -1
    cdef int wake(self) except -1
    cdef int close(self) except -1
    cdef bint supports(self, int interest) noexcept
    cdef bint supports_call(self, int code) noexcept
    cdef Op armed(self, int fd, int interest)
    cdef list take_armed(self)

cdef unsigned int silence              # the bell of a driver that has none
