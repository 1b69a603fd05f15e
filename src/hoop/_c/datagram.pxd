# Several datagrams in one system call. Functions return a count or -errno, and raise nothing.
from hoop._c.linux cimport hoop_address

cdef extern from "datagram.h" nogil:
    enum:
        HOOP_DATAGRAMS                                  # the most in one system call
        HOOP_DATAGRAM_BYTES                             # the longest datagram
    ctypedef struct hoop_inbox:
        hoop_address *senders
    ctypedef struct hoop_letter:
        const char *data
        size_t length
        hoop_address *to
    int hoop_receive_batch(int fd, hoop_inbox *inbox, int n) noexcept
    char *hoop_received(hoop_inbox *inbox, int i) noexcept
    Py_ssize_t hoop_received_bytes(const hoop_inbox *inbox, int i) noexcept
    int hoop_send_batch(int fd, const hoop_letter *letters, int n) noexcept
    void hoop_drop_errors(int fd) noexcept                      # for an IPv4 or IPv6 socket
    bint hoop_same_address(const hoop_address *a, const hoop_address *b) noexcept
    unsigned int hoop_port(const hoop_address *a) noexcept

cdef extern from "datagram.h":
    bint hoop_parse_address(int family, object address, hoop_address *out) noexcept
    int hoop_audit_sendto(object sock, object address) except -1
    unsigned int hoop_tuple_port(object address) noexcept       # 0 if it has no port
