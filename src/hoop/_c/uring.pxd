# The ring of io_uring, its buffers and requests. Functions return a count or -errno.
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef extern from "uring.h" nogil:
    ctypedef struct hoop_sqe:
        pass
    ctypedef struct hoop_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags
    ctypedef struct hoop_ring:
        int fd                                          # -1 if the ring is closed
        uint32_t features, enter_flags
        uint32_t *sq_flags
    ctypedef struct hoop_pool:
        char *memory
    enum:
        OP_NOP
        OP_POLL_ADD
        OP_ASYNC_CANCEL
        OP_SEND
        OP_RECV
        CQE_BUFFER
        CQE_MORE
        FEATURE_NODROP
        FEATURE_SUBMIT_STABLE
        FEATURE_EXT_ARG
        FEATURE_NO_IOWAIT
        ENTER_NO_IOWAIT
        POOL_GROUP

    int hoop_ring_open(hoop_ring *ring, unsigned int sq_entries, unsigned int cq_entries) noexcept
    void hoop_ring_close(hoop_ring *ring) noexcept
    int hoop_ring_bound_workers(hoop_ring *ring, uint32_t n) noexcept
    int hoop_ring_probe(hoop_ring *ring, unsigned char *known) noexcept
    uint32_t hoop_ring_unsubmitted(hoop_ring *ring) noexcept
    int hoop_ring_enter(hoop_ring *ring, unsigned int wait, long long timeout_ns) noexcept
    int hoop_ring_spin(hoop_ring *ring, long long spin_ns) noexcept
    hoop_sqe *hoop_ring_next(hoop_ring *ring) noexcept
    bint hoop_ring_take(hoop_ring *ring, hoop_cqe *out) noexcept

    void hoop_ask_poll(hoop_sqe *e, int fd, bint writable, bint multishot, uint64_t name) noexcept
    void hoop_ask_receive(hoop_sqe *e, int fd, unsigned int group, uint64_t name) noexcept
    void hoop_ask_cancel(hoop_sqe *e, uint64_t whom, uint64_t name) noexcept
    void hoop_ask_call(hoop_sqe *e, int code, int fd, unsigned int flags, void *address, unsigned int length, unsigned long long offset, uint64_t name) noexcept
    void hoop_ask_apart(hoop_sqe *e) noexcept

    int hoop_pool_open(hoop_pool *pool, hoop_ring *ring, bint incremental) noexcept
    void hoop_pool_close(hoop_pool *pool) noexcept
    void hoop_pool_take_back(hoop_pool *pool, hoop_ring *ring) noexcept
    char *hoop_pool_data(hoop_pool *pool, const hoop_cqe *c) noexcept
    void hoop_pool_done(hoop_pool *pool, const hoop_cqe *c) noexcept

    unsigned long hoop_thread_number() noexcept
