/* A closed-loop datagram client: one socket with a number of datagrams in flight.
 *
 * Usage: client_udp [-b BYTES] [-w IN_FLIGHT] PORT
 *
 * Like client.c it prints `ready`, and for each line with a number of seconds a line of JSON. Each
 * datagram begins with its number, and its echo must be the same in every byte. What does not come
 * back within the time limit is counted as lost and sent again.
 */
#include "common.h"

#include <poll.h>

enum { IN_FLIGHT_MAX = 256, DATAGRAM_BYTES_MAX = 2048, LOST_AFTER_MS = 200 };

static int fd;
static size_t datagram_bytes = 64;
static unsigned in_flight = 48;

/* A slot holds one datagram in flight; its number modulo the slots says which. */
static char datagrams[IN_FLIGHT_MAX][DATAGRAM_BYTES_MAX];
static uint64_t numbers[IN_FLIGHT_MAX];
static double sent_at[IN_FLIGHT_MAX];
static bool waiting[IN_FLIGHT_MAX];

static void send_slots(const unsigned *slots, unsigned count) {
    struct iovec parts[IN_FLIGHT_MAX];
    struct mmsghdr messages[IN_FLIGHT_MAX];
    memset(messages, 0, sizeof messages);
    double time = now();
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = slots[i];
        memcpy(datagrams[slot], &numbers[slot], sizeof numbers[slot]);
        sent_at[slot] = time;
        waiting[slot] = true;
        parts[i] = (struct iovec){.iov_base = datagrams[slot], .iov_len = datagram_bytes};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (unsigned sent = 0; sent < count;) {
        int more = sendmmsg(fd, messages + sent, count - sent, 0);
        if (more < 0 && errno != EINTR) {
            fail("sendmmsg");
        }
        sent += more < 0 ? 0 : (unsigned)more;
    }
}

/* Take what has come back. Return how many slots became free, and which. */
static unsigned receive(unsigned *slots) {
    static char buffers[IN_FLIGHT_MAX][DATAGRAM_BYTES_MAX];
    struct iovec parts[IN_FLIGHT_MAX];
    struct mmsghdr messages[IN_FLIGHT_MAX];
    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < in_flight; i++) {
        parts[i] = (struct iovec){.iov_base = buffers[i], .iov_len = DATAGRAM_BYTES_MAX};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int count = recvmmsg(fd, messages, in_flight, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            fail("recvmmsg");
        }
        return 0;
    }
    double time = now();
    unsigned freed = 0;
    for (int i = 0; i < count; i++) {
        uint64_t number;
        memcpy(&number, buffers[i], sizeof number);
        unsigned slot = (unsigned)(number % in_flight);
        if (!waiting[slot] || numbers[slot] != number) {
            continue; /* The late echo of a datagram that was given up. */
        }
        if (messages[i].msg_len != datagram_bytes ||
            memcmp(buffers[i], datagrams[slot], datagram_bytes) != 0) {
            give_up("the server sent other bytes than it was sent");
        }
        record_latency(time - sent_at[slot]);
        waiting[slot] = false;
        numbers[slot] += in_flight;
        slots[freed++] = slot;
    }
    return freed;
}

static void load(double seconds) {
    unsigned slots[IN_FLIGHT_MAX];
    for (unsigned i = 0; i < in_flight; i++) {
        slots[i] = i;
    }
    size_t lost = 0;
    double started_at = now();
    double deadline = started_at + seconds;
    send_slots(slots, in_flight);
    unsigned outstanding = in_flight;
    while (outstanding > 0) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        int ready = poll(&readable, 1, LOST_AFTER_MS);
        if (ready < 0 && errno != EINTR) {
            fail("poll");
        }
        if (ready > 0) {
            unsigned freed = receive(slots);
            if (freed > 0 && now() < deadline) {
                send_slots(slots, freed);
            } else {
                outstanding -= freed;
            }
        } else if (ready == 0) {
            unsigned again = 0;
            for (unsigned i = 0; i < in_flight; i++) {
                if (waiting[i]) {
                    slots[again++] = i;
                }
            }
            lost += again;
            if (lost > 1000) {
                give_up("more than a thousand datagrams were lost");
            }
            send_slots(slots, again);
        }
    }
    report(now() - started_at, lost);
}

int main(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "b:w:")) != -1;) {
        switch (option) {
        case 'b': datagram_bytes = strtoul(optarg, NULL, 10); break;
        case 'w': in_flight = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || in_flight < 1 || in_flight > IN_FLIGHT_MAX || datagram_bytes < 8 ||
        datagram_bytes > DATAGRAM_BYTES_MAX) {
        give_up("usage: client_udp [-b BYTES] [-w IN_FLIGHT] PORT");
    }
    start_well();
    union any_address address;
    socklen_t address_bytes = make_address(argv[optind], &address);
    fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address.any, address_bytes) < 0) {
        fail("connect");
    }
    for (unsigned i = 0; i < in_flight; i++) {
        numbers[i] = i;
        memset(datagrams[i], (int)i, datagram_bytes);
    }
    puts("ready");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        load(atof(line));
    }
    return 0;
}
