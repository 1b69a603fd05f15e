/* Many datagrams in one system call: recvmmsg and sendmmsg over IPv4 and IPv6. */
#ifndef HOOP_DATAGRAM_H
#define HOOP_DATAGRAM_H

#include "shim.h"

enum { HOOP_DATAGRAMS = 32, HOOP_DATAGRAM_BYTES = 65536 }; /* no UDP datagram is longer */

/* The buffer into which a loop receives datagrams. Only pages that are written to take memory. */
typedef struct {
    struct mmsghdr headers[HOOP_DATAGRAMS];
    struct iovec vecs[HOOP_DATAGRAMS];
    hoop_address senders[HOOP_DATAGRAMS];
    char data[HOOP_DATAGRAMS][HOOP_DATAGRAM_BYTES];
} hoop_inbox;

/* Receive up to n datagrams. Returns how many, or -errno. */
static inline int hoop_receive_batch(int fd, hoop_inbox *in, int n) {
    for (int i = 0; i < n; i++) {
        in->vecs[i] = (struct iovec){in->data[i], HOOP_DATAGRAM_BYTES};
        in->senders[i].family = AF_UNSPEC;
        in->headers[i].msg_hdr = (struct msghdr){.msg_iov = &in->vecs[i],
                                                 .msg_iovlen = 1,
                                                 .msg_name = &in->senders[i],
                                                 .msg_namelen = sizeof in->senders[i]};
    }
    if (n == 1) {
        Py_ssize_t length = HOOP_RESULT(recvmsg(fd, &in->headers[0].msg_hdr, 0));
        if (length < 0) return (int)length;
        in->headers[0].msg_len = (unsigned)length;
        return 1;
    }
    return (int)HOOP_RESULT(recvmmsg(fd, in->headers, (unsigned)n, 0, NULL));
}
static inline char *hoop_received(hoop_inbox *in, int i) { return in->data[i]; }
static inline Py_ssize_t hoop_received_bytes(const hoop_inbox *in, int i) { return in->headers[i].msg_len; }

/* A datagram to send. Without `to` it goes to the address to which the socket is connected. */
typedef struct {
    const char *data;
    size_t length;
    hoop_address *to;
} hoop_letter;

/* Send up to HOOP_DATAGRAMS datagrams. Returns how many the kernel took, or -errno for the first. */
static inline int hoop_send_batch(int fd, const hoop_letter *letters, int n) {
    struct mmsghdr headers[HOOP_DATAGRAMS];
    struct iovec vecs[HOOP_DATAGRAMS];
    for (int i = 0; i < n; i++) {
        hoop_address *to = letters[i].to;
        vecs[i] = (struct iovec){(void *)letters[i].data, letters[i].length};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &vecs[i], .msg_iovlen = 1, .msg_name = to};
        if (to) headers[i].msg_hdr.msg_namelen = to->family == AF_INET ? sizeof to->ipv4 : sizeof to->ipv6;
    }
    if (n == 1) {
        Py_ssize_t r = HOOP_RESULT(sendmsg(fd, &headers[0].msg_hdr, MSG_NOSIGNAL));
        return r < 0 ? (int)r : 1;
    }
    return (int)HOOP_RESULT(sendmmsg(fd, headers, (unsigned)n, MSG_NOSIGNAL));
}

/* Empty the queue of errors that IP_RECVERR keeps. While it holds an error, the socket counts as readable.
 * Time stamps and notices of zero-copy sends stay there, as the user may read them. */
static inline void hoop_drop_errors(int fd) {
    static const int kept_for_the_user[] = {SO_TIMESTAMPING, SO_ZEROCOPY};
    for (int i = 0; i < 2; i++) {
        int on = 0;
        socklen_t size = sizeof on;
        if (getsockopt(fd, SOL_SOCKET, kept_for_the_user[i], &on, &size) == 0 && on) return;
    }
    for (int i = 0; i < 1024; i++) {
        struct msghdr error = {0};
        if (recvmsg(fd, &error, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
    }
}

/* Tell audit hooks the same as socket.sendto() does. */
static inline int hoop_audit_sendto(PyObject *sock, PyObject *address) {
    return PySys_Audit("socket.sendto", "OO", sock, address);
}

/* Parse an address in the socket module's form, `(text, port[, flowinfo[, scope_id]])`. Returns 1 for a
 * literal address of this family, which needs no look-up, and otherwise 0. Raises nothing. */
static inline int hoop_parse_address(int family, PyObject *address, hoop_address *out) {
    if (!PyTuple_CheckExact(address)) return 0;
    Py_ssize_t n = PyTuple_GET_SIZE(address);
    if (n < 2 || n > (family == AF_INET ? 2 : 4) || !PyUnicode_CheckExact(PyTuple_GET_ITEM(address, 0))) return 0;
    long numbers[3] = {0, 0, 0};
    for (Py_ssize_t i = 1; i < n; i++) {
        PyObject *number = PyTuple_GET_ITEM(address, i);
        if (!PyLong_CheckExact(number)) return 0;
        int overflow;
        numbers[i - 1] = PyLong_AsLongAndOverflow(number, &overflow);
        if (overflow || numbers[i - 1] < 0) return 0;
    }
    if (numbers[0] > 65535 || numbers[1] > 0xfffff || numbers[2] > 0xffffffffL) return 0;
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(address, 0), &length);
    if (text == NULL) {
        PyErr_Clear();
        return 0;
    }
    if (memchr(text, 0, (size_t)length)) return 0; /* C would end the text at the zero byte */
    memset(out, 0, sizeof *out);
    if (family == AF_INET) {
        if (inet_pton(AF_INET, text, &out->ipv4.sin_addr) != 1) return 0;
        out->ipv4.sin_port = htons((uint16_t)numbers[0]);
    } else if (family == AF_INET6) {
        if (inet_pton(AF_INET6, text, &out->ipv6.sin6_addr) != 1) return 0;
        out->ipv6.sin6_port = htons((uint16_t)numbers[0]);
        out->ipv6.sin6_flowinfo = htonl((uint32_t)numbers[1]);
        out->ipv6.sin6_scope_id = (uint32_t)numbers[2];
    } else {
        return 0;
    }
    out->family = (sa_family_t)family;
    return 1;
}
static inline int hoop_same_address(const hoop_address *a, const hoop_address *b) {
    if (a->family != b->family) return 0;
    if (a->family == AF_INET)
        return a->ipv4.sin_port == b->ipv4.sin_port && a->ipv4.sin_addr.s_addr == b->ipv4.sin_addr.s_addr;
    return a->family == AF_INET6 && memcmp(&a->ipv6, &b->ipv6, sizeof a->ipv6) == 0;
}
static inline unsigned hoop_tuple_port(PyObject *address) {
    if (!PyTuple_CheckExact(address) || PyTuple_GET_SIZE(address) < 2) return 0;
    PyObject *port = PyTuple_GET_ITEM(address, 1);
    int overflow;
    return PyLong_CheckExact(port) ? (unsigned)PyLong_AsLongAndOverflow(port, &overflow) : 0;
}
static inline unsigned hoop_port(const hoop_address *a) { return ntohs(a->ipv4.sin_port); } /* as in IPv6 */

#endif
