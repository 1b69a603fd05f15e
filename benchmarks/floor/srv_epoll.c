/* A bare C epoll echo server: the least this machine can spend on echoing bytes over TCP.
 *
 * Usage: srv_epoll LIFETIME_SECONDS
 *
 * It listens on a loopback port that the kernel picks and prints that port. What a client sends
 * goes straight back; what does not fit in the socket's buffer waits until it is writable again,
 * and nothing more is read from that client meanwhile. It ends by itself (SIGALRM) after its
 * lifetime.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, BACKLOG = 4096, READ_BYTES_MAX = 256 * 1024 };

struct connection {
    int fd;
    char *unsent; /* What the kernel would not take yet, or NULL. */
    size_t unsent_bytes;
    size_t sent_bytes; /* How much of `unsent` has gone since. */
};

static int epoll_fd;
static char read_buffer[READ_BYTES_MAX];

static void fail(const char *operation) {
    perror(operation);
    exit(1);
}

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0) {
        fail("epoll_ctl");
    }
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection->unsent);
    free(connection);
}

/* Send as much as the kernel takes. Return the number of bytes, or -1 if the connection is lost. */
static ssize_t send_some(int fd, const char *data, size_t bytes) {
    ssize_t sent = write(fd, data, bytes);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return sent;
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN) {
                return;
            }
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            fail("accept4");
        }
        int on = 1;
        if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
            fail("TCP_NODELAY");
        }
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            fail("calloc");
        }
        connection->fd = fd;
        watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void on_readable(struct connection *connection) {
    ssize_t received = read(connection->fd, read_buffer, sizeof read_buffer);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (received <= 0) {
        drop(connection);
        return;
    }
    ssize_t sent = send_some(connection->fd, read_buffer, (size_t)received);
    if (sent < 0) {
        drop(connection);
        return;
    }
    if (sent == received) {
        return;
    }
    connection->sent_bytes = 0;
    connection->unsent_bytes = (size_t)(received - sent);
    connection->unsent = malloc(connection->unsent_bytes);
    if (connection->unsent == NULL) {
        fail("malloc");
    }
    memcpy(connection->unsent, read_buffer + sent, connection->unsent_bytes);
    watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
}

static void on_writable(struct connection *connection) {
    ssize_t sent = send_some(connection->fd, connection->unsent + connection->sent_bytes,
                             connection->unsent_bytes - connection->sent_bytes);
    if (sent < 0) {
        drop(connection);
        return;
    }
    connection->sent_bytes += (size_t)sent;
    if (connection->sent_bytes == connection->unsent_bytes) {
        free(connection->unsent);
        connection->unsent = NULL;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    }
}

/* Listen on a loopback port of the kernel's choice and print its number. */
static int listen_and_announce(void) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        fail("socket");
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) {
        fail("bind");
    }
    if (listen(listener, BACKLOG) < 0) {
        fail("listen");
    }
    if (getsockname(listener, (struct sockaddr *)&address, &address_bytes) < 0) {
        fail("getsockname");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv) {
    if (argc != 2 || atoi(argv[1]) < 1) {
        fprintf(stderr, "usage: %s LIFETIME_SECONDS\n", argv[0]);
        return 2;
    }
    alarm((unsigned)atoi(argv[1]));
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        fail("epoll_create1");
    }
    struct connection listener = {.fd = listen_and_announce()};
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);

    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) {
            fail("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == &listener) {
                accept_all(listener.fd);
            } else if (connection->unsent != NULL) {
                on_writable(connection);
            } else {
                on_readable(connection);
            }
        }
    }
}
