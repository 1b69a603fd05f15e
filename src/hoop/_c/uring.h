/* The kernel's interface of io_uring, a ring, and a pool of buffers mapped into memory.
 *
 * The interface is stable, and repeated here under names of our own, so that no header of the building
 * machine is needed. No function makes Python objects or raises. They return a count or -errno. See
 * io_uring(7). */
#ifndef HOOP_URING_H
#define HOOP_URING_H

#include "shim.h"
#include <poll.h>
#include <sys/mman.h>

/* ---- the kernel's interface ------------------------------------------------------------------------- */

typedef struct {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t offset; /* or a second address */
    uint64_t address;
    uint32_t length;
    uint32_t op_flags;
    uint64_t user_data;
    uint16_t buffer_group;
    uint16_t personality;
    uint32_t file_index;
    uint64_t unused[2];
} hoop_sqe;

typedef struct {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
} hoop_cqe;

typedef struct {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, unused[3];
    struct {
        uint32_t head, tail, mask, entries, flags, dropped, array, unused;
        uint64_t user_address;
    } sq;
    struct {
        uint32_t head, tail, mask, entries, overflow, cqes, flags, unused;
        uint64_t user_address;
    } cq;
} hoop_uring_params;

typedef struct {
    uint64_t address;
    uint32_t length;
    uint16_t id;
    uint16_t tail; /* the tail of the whole ring, in its first entry only */
} hoop_buffer;

_Static_assert(sizeof(hoop_sqe) == 64, "sqe");
_Static_assert(sizeof(hoop_cqe) == 16, "cqe");
_Static_assert(sizeof(hoop_uring_params) == 120, "params");
_Static_assert(sizeof(hoop_buffer) == 16, "buffer");

enum {
    OP_NOP = 0,
    OP_POLL_ADD = 6,
    OP_ASYNC_CANCEL = 14,
    OP_READ = 22,
    OP_SEND = 26,
    OP_RECV = 27,
    OP_OPENAT = 18,

    SQE_ASYNC = 1 << 4,
    SQE_BUFFER_SELECT = 1 << 5,
    SQE_SKIP_SUCCESS = 1 << 6,
    POLL_MULTISHOT = 1,        /* in `length` */
    RECV_MULTISHOT = 1 << 1,   /* in `ioprio` */

    CQE_BUFFER = 1 << 0,
    CQE_MORE = 1 << 1,
    CQE_BUFFER_MORE = 1 << 4,
    CQE_BUFFER_SHIFT = 16,

    SETUP_CQSIZE = 1 << 3,
    SETUP_CLAMP = 1 << 4,
    SETUP_SUBMIT_ALL = 1 << 7,
    SETUP_TASKRUN_FLAG = 1 << 9,
    SETUP_SINGLE_ISSUER = 1 << 12,
    SETUP_DEFER_TASKRUN = 1 << 13,

    FEATURE_SINGLE_MMAP = 1 << 0,
    FEATURE_NODROP = 1 << 1,
    FEATURE_SUBMIT_STABLE = 1 << 2,
    FEATURE_EXT_ARG = 1 << 8,
    FEATURE_NO_IOWAIT = 1 << 17,

    ENTER_GETEVENTS = 1 << 0,
    ENTER_EXT_ARG = 1 << 3,
    ENTER_NO_IOWAIT = 1 << 7,

    SQ_OVERFLOW = 1 << 1,
    SQ_TASKRUN = 1 << 2,

    REGISTER_PROBE = 8,
    REGISTER_IOWQ_MAX_WORKERS = 19,
    REGISTER_BUFFER_RING = 22,
    UNREGISTER_BUFFER_RING = 23,
    BUFFER_RING_INCREMENTAL = 1 << 1,
};

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

#define HOOP_ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define HOOP_RELEASE(p, value) __atomic_store_n(p, value, __ATOMIC_RELEASE)

/* ---- the ring ------------------------------------------------------------------------------------- */

typedef struct {
    int fd; /* -1 if the ring is closed */
    uint32_t features, enter_flags;
    uint32_t sq_entries, sq_mask, cq_mask;
    uint32_t tail; /* the end of the entries written; `enter` tells the kernel */
    uint32_t *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
    hoop_sqe *sqes;
    hoop_cqe *cqes;
    void *rings, *entries;
    size_t rings_bytes, entries_bytes;
} hoop_ring;

static inline void hoop_ring_close(hoop_ring *r) {
    if (r->rings) munmap(r->rings, r->rings_bytes);
    if (r->entries) munmap(r->entries, r->entries_bytes);
    if (r->fd >= 0) close(r->fd);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

/* Make a ring that belongs to the calling thread. Returns 0 or -errno. */
static inline int hoop_ring_open(hoop_ring *r, unsigned sq_entries, unsigned cq_entries) {
    hoop_uring_params p;
    memset(&p, 0, sizeof p);
    memset(r, 0, sizeof *r);
    p.flags = SETUP_CQSIZE | SETUP_CLAMP | SETUP_SUBMIT_ALL | SETUP_TASKRUN_FLAG | SETUP_SINGLE_ISSUER |
              SETUP_DEFER_TASKRUN;
    p.cq_entries = cq_entries;
    r->fd = (int)HOOP_RESULT(syscall(__NR_io_uring_setup, sq_entries, &p));
    if (r->fd < 0) {
        int error = r->fd;
        r->fd = -1;
        return error;
    }
    r->features = p.features;
    if (!(p.features & FEATURE_SINGLE_MMAP)) {
        hoop_ring_close(r);
        return -ENOSYS;
    }
    size_t sq_bytes = p.sq.array + p.sq_entries * sizeof(uint32_t);
    size_t cq_bytes = p.cq.cqes + p.cq_entries * sizeof(hoop_cqe);
    r->rings_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    r->entries_bytes = p.sq_entries * sizeof(hoop_sqe);
    void *rings = mmap(NULL, r->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, 0);
    void *entries =
        mmap(NULL, r->entries_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, 0x10000000);
    r->rings = rings == MAP_FAILED ? NULL : rings;
    r->entries = entries == MAP_FAILED ? NULL : entries;
    if (!r->rings || !r->entries) {
        hoop_ring_close(r);
        return -ENOMEM;
    }
    char *base = rings;
    r->sq_head = (uint32_t *)(base + p.sq.head);
    r->sq_tail = (uint32_t *)(base + p.sq.tail);
    r->sq_flags = (uint32_t *)(base + p.sq.flags);
    r->cq_head = (uint32_t *)(base + p.cq.head);
    r->cq_tail = (uint32_t *)(base + p.cq.tail);
    r->cqes = (hoop_cqe *)(base + p.cq.cqes);
    r->sqes = entries;
    r->sq_entries = p.sq_entries;
    r->sq_mask = p.sq_entries - 1;
    r->cq_mask = p.cq_entries - 1;
    r->tail = *r->sq_tail;
    uint32_t *array = (uint32_t *)(base + p.sq.array);
    for (uint32_t i = 0; i < p.sq_entries; i++) array[i] = i;
    return 0;
}

static inline int hoop_ring_register(hoop_ring *r, unsigned what, void *argument, unsigned n) {
    return (int)HOOP_RESULT(syscall(__NR_io_uring_register, r->fd, what, argument, n));
}

/* Ask which operations the kernel knows: known[code]. Returns 0 or -errno. */
static inline int hoop_ring_probe(hoop_ring *r, unsigned char known[256]) {
    struct {
        uint8_t last, n;
        uint16_t unused[7];
        struct {
            uint8_t code, unused;
            uint16_t flags; /* bit 0: supported */
            uint32_t unused_too;
        } operations[256];
    } probe;
    memset(&probe, 0, sizeof probe);
    memset(known, 0, 256);
    int result = hoop_ring_register(r, REGISTER_PROBE, &probe, 256);
    for (int i = 0; result >= 0 && i < probe.n; i++) known[i] = probe.operations[i].flags & 1;
    return result;
}

/* Limit the kernel's threads for calls that block. Kernels before 5.15 allow no limit of ours. */
static inline int hoop_ring_bound_workers(hoop_ring *r, uint32_t n) {
    uint32_t for_files_and_for_others[2] = {n, n};
    return hoop_ring_register(r, REGISTER_IOWQ_MAX_WORKERS, for_files_and_for_others, 2);
}

/* Return how many entries were written that the kernel has not taken. */
static inline uint32_t hoop_ring_unsubmitted(hoop_ring *r) { return r->tail - HOOP_ACQUIRE(r->sq_head); }

/* Submit all entries, let the kernel post completions, and wait until there are `wait` of them. Waits for
 * at most timeout_ns, or for ever if that is negative. Returns how many were submitted, or -errno; -ETIME
 * if none came. */
static inline int hoop_ring_enter(hoop_ring *r, unsigned wait, long long timeout_ns) {
    struct {
        uint64_t sigmask;
        uint32_t sigmask_bytes, min_wait_us;
        uint64_t timeout;
    } argument = {0};
    struct {
        int64_t seconds;
        int64_t nanoseconds;
    } timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    unsigned flags = ENTER_GETEVENTS, n = hoop_ring_unsubmitted(r);
    HOOP_RELEASE(r->sq_tail, r->tail);
    if (!wait) return (int)HOOP_RESULT(syscall(__NR_io_uring_enter, r->fd, n, 0, flags, NULL, 0));
    flags |= r->enter_flags;
    if (timeout_ns < 0)
        return (int)HOOP_RESULT(syscall(__NR_io_uring_enter, r->fd, n, wait, flags, NULL, 0));
    argument.timeout = (uint64_t)(uintptr_t)&timeout;
    flags |= ENTER_EXT_ARG;
    return (int)HOOP_RESULT(
        syscall(__NR_io_uring_enter, r->fd, n, wait, flags, &argument, sizeof argument));
}

/* Submit all entries, and look for a completion in memory for at most spin_ns. If the kernel has more to
 * post, it sets a flag, and this enters the kernel. Returns the same as hoop_ring_enter(). */
static inline int hoop_ring_spin(hoop_ring *r, long long spin_ns) {
    long long end = hoop_now_ns() + spin_ns;
    int result = hoop_ring_enter(r, 0, 0);
    while (result >= 0 && *r->cq_head == HOOP_ACQUIRE(r->cq_tail)) {
        if (HOOP_ACQUIRE(r->sq_flags))
            result = hoop_ring_enter(r, 0, 0);
        else if (hoop_now_ns() < end)
            HOOP_PAUSE();
        else
            break;
    }
    return result;
}

/* Return the next entry to write, emptied. NULL if all are full until the kernel takes some. */
static inline hoop_sqe *hoop_ring_next(hoop_ring *r) {
    if (hoop_ring_unsubmitted(r) >= r->sq_entries) return NULL;
    hoop_sqe *e = &r->sqes[r->tail++ & r->sq_mask];
    memset(e, 0, sizeof *e);
    return e;
}

/* Take the oldest completion. Returns 0 if there is none. */
static inline int hoop_ring_take(hoop_ring *r, hoop_cqe *out) {
    uint32_t head = *r->cq_head;
    if (head == HOOP_ACQUIRE(r->cq_tail)) return 0;
    *out = r->cqes[head & r->cq_mask];
    HOOP_RELEASE(r->cq_head, head + 1);
    return 1;
}

/* ---- requests ------------------------------------------------------------------------------------------ */

static inline void hoop_ask_poll(hoop_sqe *e, int fd, int writable, int multishot, uint64_t name) {
    e->opcode = OP_POLL_ADD;
    e->fd = fd;
    e->op_flags = writable ? POLLOUT : POLLIN;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    e->op_flags <<= 16;
#endif
    e->length = multishot ? POLL_MULTISHOT : 0;
    e->user_data = name;
}
static inline void hoop_ask_receive(hoop_sqe *e, int fd, unsigned group, uint64_t name) {
    e->opcode = OP_RECV;
    e->flags = SQE_BUFFER_SELECT;
    e->ioprio = RECV_MULTISHOT;
    e->fd = fd;
    e->buffer_group = (uint16_t)group;
    e->user_data = name;
}
/* Ask to cancel another request. There is a completion only if that fails. */
static inline void hoop_ask_cancel(hoop_sqe *e, uint64_t whom, uint64_t name) {
    e->opcode = OP_ASYNC_CANCEL;
    e->flags = SQE_SKIP_SUCCESS;
    e->fd = -1;
    e->address = whom;
    e->user_data = name;
}
static inline void hoop_ask_call(hoop_sqe *e, int code, int fd, unsigned flags, void *address,
                                 unsigned length, unsigned long long offset, uint64_t name) {
    e->opcode = (uint8_t)code;
    e->fd = fd;
    e->op_flags = flags;
    e->address = (uint64_t)(uintptr_t)address;
    e->length = length;
    e->offset = offset;
    e->user_data = name;
}

/* Make the call in one of the kernel's threads. In the loop's thread it would block unnoticed. */
static inline void hoop_ask_apart(hoop_sqe *e) { e->flags |= SQE_ASYNC; }

/* ---- a pool of buffers that the kernel receives into -------------------------------------------------- */

enum {
    /* As much as a processor's L2 cache holds. The kernel uses the buffers in turn, so all of the pool
     * passes through the cache. */
    POOL_BYTES = 1 << 20,
    POOL_BUFFERS = 64,            /* of 16 KiB, each for one receive */
    POOL_BUFFERS_INCREMENTAL = 4, /* of 256 KiB, each for several receives */
    POOL_GROUP = 0,
};

typedef struct {
    hoop_buffer *ring;
    char *memory;
    uint32_t n, bytes;
    uint16_t tail;
    int incremental;
    uint32_t filled[POOL_BUFFERS_INCREMENTAL];
} hoop_pool;

static inline void hoop_pool_lend(hoop_pool *p, unsigned id) {
    hoop_buffer *b = &p->ring[p->tail & (p->n - 1)];
    b->address = (uint64_t)(uintptr_t)(p->memory + (size_t)id * p->bytes);
    b->length = p->bytes;
    b->id = (uint16_t)id;
    p->tail++;
    HOOP_RELEASE(&p->ring[0].tail, p->tail);
}

/* Call this only after the ring was closed, or the pool unregistered. */
static inline void hoop_pool_close(hoop_pool *p) {
    if (p->memory) munmap(p->memory, POOL_BYTES);
    if (p->ring) munmap(p->ring, POOL_BUFFERS * sizeof(hoop_buffer));
    memset(p, 0, sizeof *p);
}

/* The kernel's structure to register a pool. */
typedef struct {
    uint64_t address;
    uint32_t n;
    uint16_t group, flags;
    uint64_t unused[3];
} hoop_pool_registration;

/* Register a new pool with a ring. Returns 0 or -errno. */
static inline int hoop_pool_open(hoop_pool *p, hoop_ring *r, int incremental) {
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    hoop_pool_registration registration = {0};
    memset(p, 0, sizeof *p);
    p->incremental = incremental;
    p->n = incremental ? POOL_BUFFERS_INCREMENTAL : POOL_BUFFERS;
    p->bytes = POOL_BYTES / p->n;
    void *memory = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    void *ring = mmap(NULL, POOL_BUFFERS * sizeof(hoop_buffer), PROT_READ | PROT_WRITE, anonymous, -1, 0);
    p->memory = memory == MAP_FAILED ? NULL : memory;
    p->ring = ring == MAP_FAILED ? NULL : ring;
    int result = -ENOMEM;
    if (p->memory && p->ring) {
        registration.address = (uint64_t)(uintptr_t)p->ring;
        registration.n = p->n;
        registration.group = POOL_GROUP;
        registration.flags = incremental ? BUFFER_RING_INCREMENTAL : 0;
        result = hoop_ring_register(r, REGISTER_BUFFER_RING, &registration, 1);
    }
    if (result < 0) {
        hoop_pool_close(p);
        return result;
    }
    for (unsigned id = 0; id < p->n; id++) hoop_pool_lend(p, id);
    return 0;
}

/* Unregister a pool from a ring on which nothing receives. */
static inline void hoop_pool_take_back(hoop_pool *p, hoop_ring *r) {
    hoop_pool_registration registration = {.group = POOL_GROUP};
    hoop_ring_register(r, UNREGISTER_BUFFER_RING, &registration, 1);
    hoop_pool_close(p);
}

/* Return the data of a completion. NULL if it names no buffer of this pool. */
static inline char *hoop_pool_data(hoop_pool *p, const hoop_cqe *c) {
    uint32_t id = c->flags >> CQE_BUFFER_SHIFT;
    if (id >= p->n) return NULL;
    return p->memory + (size_t)id * p->bytes + (p->incremental ? p->filled[id] : 0);
}
/* Call this when the data was copied. It lends the buffer again, unless the kernel is still filling it. */
static inline void hoop_pool_done(hoop_pool *p, const hoop_cqe *c) {
    uint32_t id = c->flags >> CQE_BUFFER_SHIFT;
    if (id >= p->n) return;
    if (p->incremental) {
        if (c->flags & CQE_BUFFER_MORE) {
            p->filled[id] += c->res > 0 ? (uint32_t)c->res : 0;
            return;
        }
        p->filled[id] = 0;
    }
    hoop_pool_lend(p, id);
}

/* ---- threads ------------------------------------------------------------------------------------------ */

/* Return the number of this thread. No other thread of the process ever has the same. */
static inline unsigned long hoop_thread_number(void) {
    static unsigned long count;
    static __thread unsigned long mine;
    if (!mine) mine = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    return mine;
}

#endif
