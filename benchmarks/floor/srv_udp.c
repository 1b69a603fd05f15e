/* A bare C datagram server: what has arrived is received and echoed by one system call each.
 *
 * Usage: srv_udp 0    (prints the port of the kernel's choice, and serves until it is killed)
 */
#include "common.h"

enum { BATCH_MAX = 64, DATAGRAM_BYTES_MAX = 2048 };

int main(int argc, char **argv) {
    if (argc != 2) {
        give_up("usage: srv_udp 0");
    }
    start_well();
    int fd = listen_and_announce(argv[1], SOCK_DGRAM | SOCK_NONBLOCK);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        fail("epoll");
    }
    static char buffers[BATCH_MAX][DATAGRAM_BYTES_MAX];
    static struct iovec parts[BATCH_MAX];
    static struct sockaddr_in peers[BATCH_MAX];
    static struct mmsghdr messages[BATCH_MAX];
    for (;;) {
        if (epoll_wait(epoll_fd, &event, 1, -1) < 0 && errno != EINTR) {
            fail("epoll_wait");
        }
        for (int i = 0; i < BATCH_MAX; i++) {
            parts[i] = (struct iovec){.iov_base = buffers[i], .iov_len = DATAGRAM_BYTES_MAX};
            messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i],
                                                  .msg_namelen = sizeof peers[i],
                                                  .msg_iov = &parts[i],
                                                  .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, messages, BATCH_MAX, 0, NULL);
        if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) {
            fail("recvmmsg");
        }
        for (int i = 0; i < count; i++) {
            parts[i].iov_len = messages[i].msg_len;
        }
        if (count > 0 && sendmmsg(fd, messages, (unsigned)count, 0) < 0 && errno != EAGAIN) {
            fail("sendmmsg");
        }
    }
}
