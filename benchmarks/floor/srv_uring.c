/* A bare C io_uring server: the least an echo over TCP costs when completions are asked for.
 *
 * Usage: srv_uring ADDRESS    (as srv_epoll, but echo only)
 *
 * Multishot accept and receive with buffers that the kernel picks from a shared ring. They are few, so
 * that they stay in the cache; with half as many, a thousand connections would wait for each other's.
 * If one connection has something to send when a batch of completions is done it is sent at once, if
 * several have, they go to the kernel together: each is the cheaper way then. No liburing: the
 * kernel's header is enough.
 */
#include "common.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum {
    SQ_ENTRIES = 256,
    CQ_ENTRIES = 4096,
    BUFFERS = 128,
    BUFFER_BYTES = 16 * 1024,
    ENOUGH_BUFFERS = BUFFERS / 4, /* A receive that found none is tried again with so many. */
    PARTS_MAX = 16,
    FDS_MAX = 1 << 16,
    NONE = -1
};
enum kind { ACCEPT, RECEIVE, SEND };

/* A connection is in `connections` at its descriptor, which is closed when no request is under way. */
struct connection {
    bool receiving, sending, dirty, ending;
    int first, last;    /* Buffers to send, linked by `next_buffer`. */
    int sending_count;  /* How many of them are in the send under way, from the first. */
    size_t sent_bytes;  /* Of the first. */
    struct iovec parts[PARTS_MAX];
    struct msghdr message;
};

static int ring_fd;
static unsigned *sq_tail, *sq_head, sq_mask, unsubmitted;
static unsigned *cq_head, *cq_tail, cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *free_buffers;
static char buffers[BUFFERS][BUFFER_BYTES];
static size_t buffer_bytes[BUFFERS];
static int next_buffer[BUFFERS];
static int free_count;

static struct connection *connections[FDS_MAX];
static int dirty[FDS_MAX], starved[FDS_MAX];
static int dirty_count, starved_count;

/* ---- the ring ---- */

static void enter(unsigned wait_for) {
    long submitted = syscall(__NR_io_uring_enter, ring_fd, unsubmitted, wait_for,
                             IORING_ENTER_GETEVENTS, NULL, 0);
    if (submitted < 0 && errno != EINTR) {
        fail("io_uring_enter");
    }
    unsubmitted -= submitted < 0 ? 0 : (unsigned)submitted;
}

static void set_up_ring(void) {
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = CQ_ENTRIES};
    ring_fd = (int)syscall(__NR_io_uring_setup, SQ_ENTRIES, &params);
    if (ring_fd < 0) {
        fail("io_uring_setup");
    }
    size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    char *ring = mmap(NULL, sq_bytes > cq_bytes ? sq_bytes : cq_bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, ring_fd, IORING_OFF_SQ_RING);
    sqes = mmap(NULL, params.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_POPULATE, ring_fd, IORING_OFF_SQES);
    if (ring == MAP_FAILED || (void *)sqes == MAP_FAILED) {
        fail("mmap");
    }
    sq_head = (unsigned *)(ring + params.sq_off.head);
    sq_tail = (unsigned *)(ring + params.sq_off.tail);
    sq_mask = *(unsigned *)(ring + params.sq_off.ring_mask);
    cq_head = (unsigned *)(ring + params.cq_off.head);
    cq_tail = (unsigned *)(ring + params.cq_off.tail);
    cq_mask = *(unsigned *)(ring + params.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(ring + params.cq_off.cqes);
    unsigned *array = (unsigned *)(ring + params.sq_off.array);
    for (unsigned i = 0; i < params.sq_entries; i++) {
        array[i] = i;
    }
}

static struct io_uring_sqe *prepare(enum kind kind, int fd) {
    unsigned tail = *sq_tail;
    while (tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) == SQ_ENTRIES) {
        enter(0);
    }
    struct io_uring_sqe *sqe = &sqes[tail & sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->fd = fd;
    sqe->user_data = (uint64_t)kind << 32 | (uint32_t)fd;
    __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
    unsubmitted++;
    return sqe;
}

/* ---- buffers ---- */

static void give_back(int buffer) {
    struct io_uring_buf *entry = &free_buffers->bufs[free_buffers->tail & (BUFFERS - 1)];
    entry->addr = (uintptr_t)buffers[buffer];
    entry->len = BUFFER_BYTES;
    entry->bid = (uint16_t)buffer;
    __atomic_store_n(&free_buffers->tail, free_buffers->tail + 1, __ATOMIC_RELEASE);
    free_count++;
}

static void set_up_buffers(void) {
    free_buffers = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if ((void *)free_buffers == MAP_FAILED) {
        fail("mmap");
    }
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)free_buffers,
                                            .ring_entries = BUFFERS};
    if (syscall(__NR_io_uring_register, ring_fd, IORING_REGISTER_PBUF_RING, &registration, 1) < 0) {
        fail("IORING_REGISTER_PBUF_RING");
    }
    for (int i = 0; i < BUFFERS; i++) {
        give_back(i);
    }
}

/* ---- connections ---- */

static void arm_accept(int listener) {
    struct io_uring_sqe *sqe = prepare(ACCEPT, listener);
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    sqe->accept_flags = SOCK_CLOEXEC;
}

static void arm_receive(int fd) {
    struct io_uring_sqe *sqe = prepare(RECEIVE, fd);
    sqe->opcode = IORING_OP_RECV;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    connections[fd]->receiving = true;
}

static void drop_first_buffer(struct connection *connection) {
    int buffer = connection->first;
    connection->first = next_buffer[buffer];
    connection->sent_bytes = 0;
    give_back(buffer);
}

static void close_if_idle(int fd) {
    struct connection *connection = connections[fd];
    if (!connection->ending || connection->receiving || connection->sending ||
        connection->dirty) {
        return;
    }
    while (connection->first != NONE) {
        drop_first_buffer(connection);
    }
    close(fd);
    free(connection);
    connections[fd] = NULL;
}

static void mark_dirty(int fd) {
    struct connection *connection = connections[fd];
    if (!connection->dirty && !connection->sending && connection->first != NONE) {
        connection->dirty = true;
        dirty[dirty_count++] = fd;
    }
}

static void end(int fd) {
    connections[fd]->ending = true;
    if (connections[fd]->receiving) {
        shutdown(fd, SHUT_RDWR); /* Ends the receive too. */
    }
}

/* The message of everything that is to be sent, as far as it fits. */
static struct msghdr *gather(struct connection *connection) {
    int count = 0;
    for (int b = connection->first; b != NONE && count < PARTS_MAX; b = next_buffer[b]) {
        connection->parts[count++] =
            (struct iovec){.iov_base = buffers[b], .iov_len = buffer_bytes[b]};
    }
    connection->parts[0].iov_base = buffers[connection->first] + connection->sent_bytes;
    connection->parts[0].iov_len -= connection->sent_bytes;
    connection->sending_count = count;
    connection->message =
        (struct msghdr){.msg_iov = connection->parts, .msg_iovlen = (size_t)count};
    return &connection->message;
}

static void send_by_ring(int fd) {
    struct connection *connection = connections[fd];
    struct msghdr *message = gather(connection);
    struct io_uring_sqe *sqe = prepare(SEND, fd);
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    if (message->msg_iovlen == 1) {
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (uintptr_t)message->msg_iov->iov_base;
        sqe->len = (uint32_t)message->msg_iov->iov_len;
    } else {
        sqe->opcode = IORING_OP_SENDMSG;
        sqe->addr = (uintptr_t)message;
        sqe->len = 1;
    }
    connection->sending = true;
}

static void send_at_once(int fd) {
    struct connection *connection = connections[fd];
    ssize_t sent = sendmsg(fd, gather(connection), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        end(fd);
        return;
    }
    size_t left = sent < 0 ? 0 : (size_t)sent;
    while (connection->first != NONE) {
        size_t unsent = buffer_bytes[connection->first] - connection->sent_bytes;
        if (left < unsent) {
            connection->sent_bytes += left;
            send_by_ring(fd);
            return;
        }
        left -= unsent;
        drop_first_buffer(connection);
    }
}

/* ---- completions ---- */

static void on_accepted(int listener, const struct io_uring_cqe *cqe) {
    if (cqe->res >= FDS_MAX) {
        give_up("too many connections");
    }
    if (cqe->res >= 0) {
        connections[cqe->res] = allocate(1, sizeof(struct connection));
        connections[cqe->res]->first = NONE;
        arm_receive(cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        arm_accept(listener);
    }
}

static void on_received(int fd, const struct io_uring_cqe *cqe) {
    struct connection *connection = connections[fd];
    connection->receiving = cqe->flags & IORING_CQE_F_MORE;
    if (cqe->res > 0) {
        int buffer = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        free_count--;
        buffer_bytes[buffer] = (size_t)cqe->res;
        next_buffer[buffer] = NONE;
        if (connection->first == NONE) {
            connection->first = buffer;
        } else {
            next_buffer[connection->last] = buffer;
        }
        connection->last = buffer;
        mark_dirty(fd);
    }
    if (connection->receiving) {
        return;
    }
    if (cqe->res == -ENOBUFS) {
        connection->receiving = true; /* It will be: nobody may close it meanwhile. */
        starved[starved_count++] = fd;
    } else if (cqe->res > 0 && !connection->ending) {
        arm_receive(fd);
    } else {
        connection->ending = true;
        close_if_idle(fd);
    }
}

static void on_sent(int fd, const struct io_uring_cqe *cqe) {
    struct connection *connection = connections[fd];
    connection->sending = false;
    for (int i = 0; i < connection->sending_count; i++) {
        drop_first_buffer(connection);
    }
    if (cqe->res < 0) {
        end(fd);
    } else {
        mark_dirty(fd);
    }
    close_if_idle(fd);
}

static void reap(void) {
    unsigned head = *cq_head;
    unsigned tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &cqes[head & cq_mask];
        int fd = (int)(uint32_t)cqe->user_data;
        switch ((enum kind)(cqe->user_data >> 32)) {
        case ACCEPT: on_accepted(fd, cqe); break;
        case RECEIVE: on_received(fd, cqe); break;
        case SEND: on_sent(fd, cqe); break;
        }
    }
    __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
}

static void flush(void) {
    void (*send_dirty)(int) = dirty_count == 1 ? send_at_once : send_by_ring;
    for (int i = 0; i < dirty_count; i++) {
        connections[dirty[i]]->dirty = false;
        send_dirty(dirty[i]);
        close_if_idle(dirty[i]);
    }
    dirty_count = 0;
    if (free_count >= ENOUGH_BUFFERS) {
        for (int i = 0; i < starved_count; i++) {
            arm_receive(starved[i]);
        }
        starved_count = 0;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        give_up("usage: srv_uring ADDRESS");
    }
    start_well();
    set_up_ring();
    set_up_buffers();
    arm_accept(listen_and_announce(argv[1], SOCK_STREAM));
    for (;;) {
        enter(1);
        reap();
        flush();
    }
}
