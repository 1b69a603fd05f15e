from hoop._c.observe cimport HOOP_BUCKETS, hoop_bucket

# A histogram of times. A new one is empty.
cdef class Histogram:
    cdef readonly unsigned long count
    cdef readonly long long total_ns, max_ns
    cdef unsigned long buckets[HOOP_BUCKETS]
    cdef inline void add(self, long long ns) noexcept:
        self.count += 1
        self.total_ns += ns
        self.buckets[hoop_bucket(ns)] += 1
        if ns > self.max_ns:
            self.max_ns = ns

cdef double bound_of(int bucket) noexcept
