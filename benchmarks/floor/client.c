/* A closed-loop load client for stream sockets: every connection has one request in flight.
 *
 * Usage: client [-c CONNECTIONS] [-b BYTES | -m FILE] [-r BYTES] [-p FILE] [-t] [-n] [-s] ADDRESS
 *
 *   ADDRESS     a TCP port on loopback, or the path of a Unix socket
 *   -c          connections (1)
 *   -b          echo messages of that size (64); every byte that comes back is compared
 *   -m          send what the file holds, instead
 *   -r          and so many bytes come back to it; 0: as many as come to the first request, over HTTP
 *   -p          a file sent once on each connection; its answer ends with an empty line
 *   -t          TLS, whatever the certificate
 *   -n          a new connection for every request
 *   -s          in step: nobody asks again before all have their answers
 *
 * When all connections stand it prints `ready`. Then, for each line with a number of seconds on its
 * standard input, it loads the server for so long, waits for what is in flight, and prints a line of
 * JSON: what it requested is exactly what the server did for it. It ends with its input; until then
 * the connections stay open.
 */
#include "common.h"

/* One address has some 28,000 ports for one server; more connections come from several. */
enum { READ_BYTES_MAX = 256 * 1024, DRAIN_SECONDS = 10, SOURCES = 200, ONE_SOURCE_MAX = 20000 };

struct connection {
    int fd;
    void *tls;
    size_t unsent_bytes;     /* Of the request in flight, not yet taken by the kernel. */
    size_t unreceived_bytes; /* Of its answer, not yet come back; 0 when nothing is in flight. */
    double sent_at;
};

static union any_address address;
static socklen_t address_bytes;
static int epoll_fd;
static bool with_tls, anew, in_step, spread, echo = true;
static char *request;
static size_t request_bytes = 64, answer_bytes;
static char read_buffer[READ_BYTES_MAX];

static int in_flight;

/* ---- connections ---- */

/* So many connections anew would use up the ports of one address while they are in TIME-WAIT. */
static void bind_to_some_source(int fd) {
    static uint32_t turn;
    int on = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0) {
        fail("IP_BIND_ADDRESS_NO_PORT");
    }
    union any_address source = {.in = {.sin_family = AF_INET}};
    source.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % SOURCES);
    if (bind(fd, &source.any, sizeof source.in) < 0) {
        fail("bind");
    }
}

static void open_connection(struct connection *connection, int flags) {
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) {
        fail("socket");
    }
    if (address.any.sa_family == AF_INET) {
        set_nodelay(fd);
        if (anew || spread) {
            bind_to_some_source(fd);
        }
    }
    if (connect(fd, &address.any, address_bytes) < 0 && errno != EINPROGRESS) {
        fail("connect");
    }
    connection->fd = fd;
    connection->tls = with_tls ? wrap_in_tls(fd, false) : NULL;
}

static void watch(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0) {
        fail("epoll_ctl");
    }
}

static void close_connection(struct connection *connection) {
    if (connection->tls != NULL) {
        tls.shutdown(connection->tls);
        tls.free(connection->tls);
    }
    close(connection->fd); /* And out of epoll by that. */
}

/* While it is set up a connection blocks, and what is sent is short. Return the bytes of the answer:
 * up to and with an empty line, and then as many as a Content-Length in it says. */
static size_t exchange_blocking(struct connection *connection, const char *data, size_t bytes) {
    if (send_some(connection->fd, connection->tls, data, bytes) != (ssize_t)bytes) {
        fail("writing before the start");
    }
    size_t received = 0, expected = 0;
    while (expected == 0 || received < expected) {
        ssize_t more = receive_some(connection->fd, connection->tls, read_buffer + received,
                                    sizeof read_buffer - 1 - received);
        if (more <= 0) {
            fail("reading before the start");
        }
        received += (size_t)more;
        read_buffer[received] = '\0';
        char *end = strstr(read_buffer, "\r\n\r\n");
        if (expected == 0 && end != NULL) {
            *end = '\0';
            char *length = strcasestr(read_buffer, "\r\ncontent-length:");
            *end = '\r';
            expected = (size_t)(end + 4 - read_buffer);
            expected += length == NULL ? 0 : strtoul(length + 17, NULL, 10);
        }
    }
    if (received != expected) {
        give_up("the server sent more than was asked for");
    }
    return expected;
}

static void set_up(struct connection *connection, const char *preamble, size_t preamble_bytes) {
    open_connection(connection, 0);
    if (with_tls && tls.handshake(connection->tls) != 1) {
        give_up("the TLS handshake failed");
    }
    if (preamble != NULL) {
        exchange_blocking(connection, preamble, preamble_bytes);
    }
    if (answer_bytes == 0) {
        answer_bytes = exchange_blocking(connection, request, request_bytes);
    }
    if (fcntl(connection->fd, F_SETFL, O_NONBLOCK) < 0) {
        fail("O_NONBLOCK");
    }
    watch(connection);
}

/* ---- requests ---- */

static void send_rest(struct connection *connection) {
    while (connection->unsent_bytes > 0) {
        const char *rest = request + (request_bytes - connection->unsent_bytes);
        ssize_t sent = send_some(connection->fd, connection->tls, rest, connection->unsent_bytes);
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

static void send_request(struct connection *connection) {
    connection->unsent_bytes = request_bytes;
    connection->unreceived_bytes = answer_bytes;
    connection->sent_at = now();
    in_flight++;
    if (anew) {
        open_connection(connection, SOCK_NONBLOCK);
        watch(connection);
    }
    send_rest(connection);
}

static void check(struct connection *connection, size_t received) {
    if (received > connection->unreceived_bytes) {
        give_up("the server sent more than was asked for");
    }
    size_t offset = answer_bytes - connection->unreceived_bytes;
    if (echo && memcmp(read_buffer, request + offset, received) != 0) {
        give_up("the server sent other bytes than it was sent");
    }
}

/* Read what has come back. When the answer is whole, record it; before the deadline, ask again. */
static void receive(struct connection *connection, double deadline) {
    while (connection->unreceived_bytes > 0) {
        ssize_t received =
            receive_some(connection->fd, connection->tls, read_buffer, sizeof read_buffer);
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
            give_up("the server closed a connection");
        }
        check(connection, (size_t)received);
        connection->unreceived_bytes -= (size_t)received;
        if (connection->unreceived_bytes == 0) {
            double time = now();
            record_latency(time - connection->sent_at);
            in_flight--;
            if (anew) {
                close_connection(connection);
            }
            if (time < deadline && !in_step) {
                send_request(connection);
            }
            return; /* What is asked anew is answered later, or its arrival is a new edge. */
        }
        if (connection->tls == NULL && (size_t)received < sizeof read_buffer) {
            return; /* A short read: the socket is empty, its next byte is a new edge. */
        }
    }
}

/* Wait for the answers to what is in flight, and to what is asked anew before the deadline. */
static void wait_for_answers(double deadline) {
    struct epoll_event events[EVENTS_MAX];
    double give_up_at = (in_step ? now() : deadline) + DRAIN_SECONDS;
    while (in_flight > 0) {
        if (now() > give_up_at) {
            fprintf(stderr, "%d of the answers never came\n", in_flight);
            exit(1);
        }
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, 100);
        if (ready < 0 && errno != EINTR) {
            fail("epoll_wait");
        }
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->unreceived_bytes > 0) {
                send_rest(connection);
                receive(connection, deadline);
            }
        }
    }
}

static void load(struct connection *connections, int count, double seconds) {
    double started_at = now();
    double deadline = started_at + seconds;
    do {
        for (int i = 0; i < count; i++) {
            send_request(&connections[i]);
        }
        wait_for_answers(deadline);
    } while (in_step && now() < deadline);
    report(now() - started_at, 0);
}

int main(int argc, char **argv) {
    int count = 1;
    char *preamble = NULL;
    size_t preamble_bytes = 0;
    for (int option; (option = getopt(argc, argv, "c:b:m:r:p:tns")) != -1;) {
        switch (option) {
        case 'c': count = atoi(optarg); break;
        case 'b': request_bytes = strtoul(optarg, NULL, 10); break;
        case 'm': request = read_file(optarg, &request_bytes); break;
        case 'r': echo = false; answer_bytes = strtoul(optarg, NULL, 10); break;
        case 'p': preamble = read_file(optarg, &preamble_bytes); break;
        case 't': with_tls = true; break;
        case 'n': anew = true; break;
        case 's': in_step = true; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || count < 1 || request_bytes < 1) {
        give_up("usage: client [options] ADDRESS");
    }
    start_well();
    spread = count > ONE_SOURCE_MAX;
    if (with_tls) {
        load_tls(false);
    }
    if (request == NULL) {
        request = allocate(request_bytes, 1);
        for (size_t i = 0; i < request_bytes; i++) {
            request[i] = (char)(i * 7 + i / 256);
        }
    }
    if (echo) {
        answer_bytes = request_bytes;
    }
    address_bytes = make_address(argv[optind], &address);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        fail("epoll_create1");
    }
    struct connection *connections = allocate((size_t)count, sizeof *connections);
    for (int i = 0; i < count && !anew; i++) {
        set_up(&connections[i], preamble, preamble_bytes);
    }
    puts("ready");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        load(connections, count, atof(line));
    }
    return 0;
}
