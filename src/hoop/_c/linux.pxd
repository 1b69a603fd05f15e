# System calls of Linux. Functions return a count, a descriptor or -errno, and raise nothing.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "shim.h" nogil:
    void *memchr(const void *data, int byte, size_t n)
    void *memmem(const void *data, size_t n, const void *wanted, size_t length)
    struct epoll_event:
        uint32_t events
        uint64_t data "data.u64"
    ctypedef struct hoop_address:                             # an IPv4 or IPv6 address, or none
        pass
    ctypedef struct hoop_peer:                                # the address of a connected peer, of any family
        pass
    struct iovec:
        void *iov_base
        size_t iov_len
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLET
        EPOLLRDHUP
        EPOLLPRI
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        SHUT_WR
        MSG_NOSIGNAL
        AF_UNSPEC
        AF_INET
        AF_INET6
        SO_DOMAIN
        SO_TYPE
        SO_PROTOCOL

    double hoop_now() noexcept                          # CLOCK_MONOTONIC in seconds
    long long hoop_now_ns() noexcept
    ctypedef struct hoop_effort:
        pass
    void hoop_effort_now(hoop_effort *e) noexcept
    bint hoop_was_preempted(hoop_effort *since, long long most_ns) noexcept
    long long hoop_tick() noexcept                      # a coarse clock in milliseconds; takes a few ns

    int hoop_epoll_create() noexcept
    int hoop_epoll_ctl(int epfd, int action, int fd, uint32_t events, uint64_t data) noexcept
    int hoop_epoll_wait(int epfd, epoll_event *events, int n, long long timeout_ns) noexcept
    int hoop_epoll_spin(int epfd, epoll_event *events, int n, long long spin_ns) noexcept
    int hoop_processors() noexcept                      # how many the calling thread may run on
    int hoop_eventfd() noexcept
    int hoop_eventfd_write(int fd) noexcept
    int hoop_twin(int fd) noexcept                      # another descriptor of the same file
    int hoop_close(int fd) noexcept
    int usleep(unsigned int microseconds) noexcept
    int hoop_replace(int fd, int fresh) noexcept

    Py_ssize_t hoop_recv(int fd, void *buf, size_t n) noexcept
    Py_ssize_t hoop_unread(int fd) noexcept
    Py_ssize_t hoop_send(int fd, const void *buf, size_t n) noexcept
    Py_ssize_t hoop_sendv(int fd, iovec *vec, size_t n) noexcept
    Py_ssize_t hoop_try_recv(int fd, void *buf, size_t n) noexcept          # never blocks, whatever the socket
    Py_ssize_t hoop_try_send(int fd, const void *buf, size_t n) noexcept
    bint hoop_is_readable(int fd) noexcept                                  # or it has an error, or is closed
    bint hoop_is_plain_tcp(int fd) noexcept
    int hoop_accept(int fd, hoop_peer *peer) noexcept
    void hoop_peer_address(hoop_peer *peer, hoop_address *out) noexcept
    int hoop_shutdown(int fd, int how) noexcept
    Py_ssize_t hoop_read(int fd, void *buf, size_t n) noexcept
    Py_ssize_t hoop_write(int fd, const void *buf, size_t n) noexcept
    Py_ssize_t hoop_writev(int fd, iovec *vec, size_t n) noexcept
    int hoop_pipe_size(int fd) noexcept                 # how many bytes the pipe holds at most
    int hoop_sockopt(int fd, int option) noexcept       # a SOL_SOCKET option
    int hoop_tcp_nodelay(int fd) noexcept
    int hoop_address_family(hoop_address *address) noexcept
    int hoop_name(int fd, bint of_peer, hoop_address *out) noexcept

cdef extern from "shim.h":
    object hoop_address_tuple(hoop_address *address)    # in the socket module's form, or None
    object hoop_peer_name(hoop_peer *peer)              # the name of a Unix socket, or None
