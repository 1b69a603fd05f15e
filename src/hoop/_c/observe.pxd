# The C that makes a running program observable. Functions raise nothing.
cdef extern from "observe.h" nogil:
    enum:
        HOOP_BUCKETS
    enum:                                               # where the thread is that runs a loop
        AWAKE
        IN_KERNEL
        WANTS_GIL
    int hoop_bucket(long long ns) noexcept              # the bucket of a histogram that counts this time
    void hoop_tell(int *word, int value) noexcept       # set a word that another thread reads without the GIL
