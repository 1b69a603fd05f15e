"""A histogram of times: how often something took how long.

It has four buckets for each power of two of nanoseconds. So it takes 2 KiB, adding to it takes a few
instructions, and what it says of a time is wrong by 12 % at most.
"""

from __future__ import annotations

import cython


@cython.final
@cython.cclass
class Histogram:
    """Counts times in nanoseconds. `count` is how many, `total_ns` their sum, `max_ns` the longest.

    Anybody may read it at any time, from any thread that holds the GIL.
    """

    def counts(self) -> list:
        """Return how many times fell into each bucket, for example to subtract an earlier list."""
        i: cython.int
        return [self.buckets[i] for i in range(HOOP_BUCKETS)]

    @staticmethod
    def bounds() -> list:
        """Return the upper bound of each bucket in nanoseconds. No time in it is as long as that."""
        return [bound_of(i) for i in range(HOOP_BUCKETS)]

    def quantile(self, share: cython.double):
        """Return the time in seconds that this share of all times did not exceed; 0.0 if there are none."""
        i: cython.int
        seen: cython.ulonglong = 0
        if self.count == 0:
            return 0.0
        for i in range(HOOP_BUCKETS):
            seen += self.buckets[i]
            if seen >= share * self.count and seen:
                return min(bound_of(i), self.max_ns) * 1e-9
        return self.max_ns * 1e-9

    def __repr__(self):
        return f"<Histogram of {self.count} times, the longest {self.max_ns * 1e-9:.6f} s>"


@cython.cfunc
@cython.exceptval(check=False)
def bound_of(bucket: cython.int) -> cython.double:
    """The upper bound of a bucket in nanoseconds."""
    if bucket < 4:
        return bucket + 1
    log: cython.int = bucket // 4 + 1
    return cython.cast(cython.double, 5 + bucket % 4) * (
        cython.cast(cython.longlong, 1) << (log - 2)
    )
