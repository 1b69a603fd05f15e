/* A closed-loop echo client: every connection keeps exactly one message in flight.
 *
 * Usage: client PORT CONNECTIONS MESSAGE_BYTES SECONDS
 *
 * After SECONDS no new message is sent; those in flight are still waited for, so the number of
 * requests it reports is exactly what the server did for it. It prints one line of JSON: requests
 * done, requests per second, and the 50th and 99th percentile of the round trip in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, READ_BYTES_MAX = 1024 * 1024, DRAIN_SECONDS = 5 };

struct connection {
    int fd;
    size_t unsent_bytes;     /* Of the message in flight, not yet taken by the kernel. */
    size_t unreceived_bytes; /* Of its echo, not yet come back; 0 when nothing is in flight. */
    double sent_at;
};

static size_t message_bytes;
static char *message;
static char read_buffer[READ_BYTES_MAX];

static float *latencies_us;
static size_t latencies_size;
static size_t requests;
static int in_flight;

static void fail(const char *operation) {
    perror(operation);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail("socket");
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail("connect");
    }
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        fail("TCP_NODELAY");
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        fail("O_NONBLOCK");
    }
    return fd;
}

static void send_rest(struct connection *connection) {
    while (connection->unsent_bytes > 0) {
        const char *rest = message + (message_bytes - connection->unsent_bytes);
        ssize_t sent = write(connection->fd, rest, connection->unsent_bytes);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN) {
                return; /* The edge-triggered EPOLLOUT brings us back. */
            }
            fail("write");
        }
        connection->unsent_bytes -= (size_t)sent;
    }
}

static void send_message(struct connection *connection) {
    connection->unsent_bytes = message_bytes;
    connection->unreceived_bytes = message_bytes;
    connection->sent_at = now();
    in_flight++;
    send_rest(connection);
}

static void record_latency(double seconds) {
    if (requests == latencies_size) {
        latencies_size = latencies_size ? 2 * latencies_size : 1 << 20;
        latencies_us = realloc(latencies_us, latencies_size * sizeof *latencies_us);
        if (latencies_us == NULL) {
            fail("realloc");
        }
    }
    latencies_us[requests++] = (float)(seconds * 1e6);
}

/* Read what has come back. When the echo is whole, record it; before the deadline, send again. */
static void receive(struct connection *connection, double deadline) {
    for (;;) {
        ssize_t received = read(connection->fd, read_buffer, sizeof read_buffer);
        if (received < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN) {
                return;
            }
            fail("read");
        }
        if (received == 0) {
            fprintf(stderr, "the server closed a connection\n");
            exit(1);
        }
        if ((size_t)received > connection->unreceived_bytes) {
            fprintf(stderr, "the server sent more than it was sent\n");
            exit(1);
        }
        connection->unreceived_bytes -= (size_t)received;
        if (connection->unreceived_bytes == 0) {
            double time = now();
            record_latency(time - connection->sent_at);
            in_flight--;
            if (time < deadline) {
                send_message(connection);
            }
        }
        if ((size_t)received < sizeof read_buffer) {
            return; /* A short read: the socket is empty, its next byte is a new edge. */
        }
    }
}

static int compare_floats(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS MESSAGE_BYTES SECONDS\n", argv[0]);
        return 2;
    }
    int port = atoi(argv[1]);
    int connections_count = atoi(argv[2]);
    message_bytes = (size_t)atol(argv[3]);
    double seconds = atof(argv[4]);
    signal(SIGPIPE, SIG_IGN);

    message = malloc(message_bytes);
    struct connection *connections = calloc((size_t)connections_count, sizeof *connections);
    if (message == NULL || connections == NULL) {
        fail("malloc");
    }
    memset(message, 'x', message_bytes);

    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        fail("epoll_create1");
    }
    for (int i = 0; i < connections_count; i++) {
        connections[i].fd = connect_to(port);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                    .data.ptr = &connections[i]};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connections[i].fd, &event) < 0) {
            fail("epoll_ctl");
        }
    }

    double started_at = now();
    double deadline = started_at + seconds;
    for (int i = 0; i < connections_count; i++) {
        send_message(&connections[i]);
    }
    struct epoll_event events[EVENTS_MAX];
    while (in_flight > 0) {
        if (now() > deadline + DRAIN_SECONDS) {
            fprintf(stderr, "%d echoes never came back\n", in_flight);
            return 1;
        }
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, 100);
        if (count < 0 && errno != EINTR) {
            fail("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            send_rest(connection);
            if (connection->unreceived_bytes > 0) {
                receive(connection, deadline);
            }
        }
    }
    double elapsed = now() - started_at;

    qsort(latencies_us, requests, sizeof *latencies_us, compare_floats);
    printf("{\"requests\": %zu, \"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           requests, (double)requests / elapsed, (double)latencies_us[requests / 2],
           (double)latencies_us[requests * 99 / 100]);
    return 0;
}
