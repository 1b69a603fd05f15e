/* A bare C epoll server: the least this machine can spend on answering over a stream socket.
 *
 * Usage: srv_epoll [-m FILE] [-t CERTIFICATE -k KEY] ADDRESS
 *
 *   ADDRESS     0 for a TCP port of the kernel's choice on loopback, or a path for a Unix socket
 *   -m          answer whatever arrives at once with what the file holds; without it: echo
 *   -t, -k      speak TLS with this certificate and key (PEM files)
 *
 * It prints its address and serves until it is killed. What the kernel does not take waits until the
 * socket is writable again, and nothing more is read from that client meanwhile.
 */
#include "common.h"

enum { READ_BYTES_MAX = 256 * 1024 };

struct connection {
    int fd;
    void *tls;
    char *unsent; /* What the kernel would not take yet, or NULL. */
    size_t unsent_bytes;
    size_t sent_bytes; /* How much of `unsent` has gone since. */
};

static int epoll_fd;
static bool with_tls;
static char *answer;
static size_t answer_bytes;
static char read_buffer[READ_BYTES_MAX];

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0) {
        fail("epoll_ctl");
    }
}

static void drop(struct connection *connection) {
    if (connection->tls != NULL) {
        tls.free(connection->tls);
    }
    close(connection->fd);
    free(connection->unsent);
    free(connection);
}

/* One accept4 per event: the call that would find nothing costs as much as one that finds a client. */
static void accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
            return;
        }
        fail("accept4");
    }
    struct connection *connection = allocate(1, sizeof *connection);
    connection->fd = fd;
    connection->tls = with_tls ? wrap_in_tls(fd, true) : NULL;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

static ssize_t send_now(struct connection *connection, const char *data, size_t bytes) {
    ssize_t sent = send_some(connection->fd, connection->tls, data, bytes);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

/* Send all of it, or keep the rest for on_writable. Return false if the connection is lost. */
static bool send_or_keep(struct connection *connection, const char *data, size_t bytes) {
    size_t sent = 0;
    while (sent < bytes) {
        ssize_t more = send_now(connection, data + sent, bytes - sent);
        if (more < 0) {
            return false;
        }
        if (more == 0 || connection->tls == NULL) { /* TLS takes one record at a time. */
            sent += (size_t)more;
            break;
        }
        sent += (size_t)more;
    }
    if (sent < bytes) {
        connection->sent_bytes = 0;
        connection->unsent_bytes = bytes - sent;
        connection->unsent = allocate(connection->unsent_bytes, 1);
        memcpy(connection->unsent, data + sent, connection->unsent_bytes);
        watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
    }
    return true;
}

static void on_readable(struct connection *connection) {
    for (;;) {
        ssize_t received =
            receive_some(connection->fd, connection->tls, read_buffer, sizeof read_buffer);
        if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (received <= 0 || !send_or_keep(connection, answer ? answer : read_buffer,
                                           answer ? answer_bytes : (size_t)received)) {
            drop(connection);
            return;
        }
        if (connection->tls == NULL || connection->unsent != NULL) {
            return; /* Only OpenSSL may hold more of which epoll knows nothing. */
        }
    }
}

static void on_writable(struct connection *connection) {
    ssize_t sent = send_now(connection, connection->unsent + connection->sent_bytes,
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
        if (connection->tls != NULL) {
            on_readable(connection);
        }
    }
}

int main(int argc, char **argv) {
    const char *certificate = NULL, *key = NULL;
    for (int option; (option = getopt(argc, argv, "m:t:k:")) != -1;) {
        switch (option) {
        case 'm': answer = read_file(optarg, &answer_bytes); break;
        case 't': certificate = optarg; break;
        case 'k': key = optarg; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || (certificate == NULL) != (key == NULL)) {
        give_up("usage: srv_epoll [options] ADDRESS");
    }
    start_well();
    if (certificate != NULL) {
        with_tls = true;
        load_tls(true);
        if (tls.use_certificate(tls.context, certificate) != 1 ||
            tls.use_key(tls.context, key, TLS_FILETYPE_PEM) != 1) {
            give_up("OpenSSL does not take the certificate or its key");
        }
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        fail("epoll_create1");
    }
    struct connection listener = {
        .fd = listen_and_announce(argv[optind], SOCK_STREAM | SOCK_NONBLOCK)};
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
                accept_one(listener.fd);
            } else if (connection->unsent != NULL) {
                on_writable(connection);
            } else {
                on_readable(connection);
            }
        }
    }
}
