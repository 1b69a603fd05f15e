/* The C that makes a running program observable: buckets of histograms, and flags for another thread. */

#ifndef HOOP_OBSERVE_H
#define HOOP_OBSERVE_H

#include "shim.h"

/* ---- histograms: see scheduling/histogram.py ----------------------------------------------------------- */

#define HOOP_BUCKETS 248

/* Four buckets for each power of two. Below 4 ns each nanosecond has its own. */
static inline int hoop_bucket(long long ns) {
    int log;
    if (ns < 4) return ns < 0 ? 0 : (int)ns;
    log = 63 - __builtin_clzll((unsigned long long)ns);
    return (log - 1) * 4 + (int)((ns >> (log - 2)) & 3);
}

/* ---- words that another thread reads without the GIL ---------------------------------------------------- */

/* Where the thread is that runs a loop. */
enum {
    AWAKE,     /* it has the GIL, or runs code that let go of it */
    IN_KERNEL, /* the driver waits for events, without the GIL */
    WANTS_GIL, /* the wait is over, and another thread has the GIL */
};

static inline void hoop_tell(int *word, int value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

#endif
