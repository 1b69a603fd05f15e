/* Common to the clients and servers of the floor: addresses, errors, time, TLS.
 *
 * A program loads OpenSSL when it asks for TLS, not when it is compiled. So it needs no headers, and on a
 * machine without the library everything but TLS works.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, BACKLOG = 4096 };

static inline void fail(const char *operation) {
    perror(operation);
    exit(1);
}

static inline void give_up(const char *reason) {
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

static inline void *allocate(size_t count, size_t bytes) {
    void *memory = calloc(count, bytes);
    if (memory == NULL) {
        fail("calloc");
    }
    return memory;
}

static inline double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* End together with whoever started us. */
static inline void start_well(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
}

static inline char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail(path);
    }
    char *content = NULL;
    size_t length = 0, got;
    do {
        content = realloc(content, length + 4096);
        if (content == NULL) {
            fail("realloc");
        }
        got = fread(content + length, 1, 4096, file);
        length += got;
    } while (got > 0);
    fclose(file);
    *bytes = length;
    return content;
}

/* ---- addresses: "12345" is a TCP or UDP port on loopback, all else the path of a Unix socket ---- */

union any_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static inline socklen_t make_address(const char *text, union any_address *address) {
    memset(address, 0, sizeof *address);
    if (text[strspn(text, "0123456789")] == '\0') {
        address->in.sin_family = AF_INET;
        address->in.sin_port = htons((uint16_t)atoi(text));
        address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof address->in;
    }
    if (strlen(text) >= sizeof address->un.sun_path) {
        give_up("the path is too long for a socket");
    }
    address->un.sun_family = AF_UNIX;
    strcpy(address->un.sun_path, text);
    return sizeof address->un;
}

static inline void set_nodelay(int fd) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        fail("TCP_NODELAY");
    }
}

/* Bind to the address ("0": a port of the kernel's choice), listen, and print where. */
static inline int listen_and_announce(const char *text, int type) {
    union any_address address;
    socklen_t bytes = make_address(text, &address);
    int fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail("socket");
    }
    if (bind(fd, &address.any, bytes) < 0) {
        fail("bind");
    }
    if (type & SOCK_STREAM && listen(fd, BACKLOG) < 0) {
        fail("listen");
    }
    if (address.any.sa_family == AF_INET) {
        if (type & SOCK_STREAM) {
            set_nodelay(fd); /* Accepted sockets inherit this. */
        }
        if (getsockname(fd, &address.any, &bytes) < 0) {
            fail("getsockname");
        }
        printf("%d\n", ntohs(address.in.sin_port));
    } else {
        printf("%s\n", text);
    }
    fflush(stdout);
    return fd;
}

/* ---- what a client saw ---- */

static float *latencies_us;
static size_t latencies_size, latencies_count;

static inline void record_latency(double seconds) {
    if (latencies_count == latencies_size) {
        latencies_size = latencies_size ? 2 * latencies_size : 1 << 16;
        latencies_us = realloc(latencies_us, latencies_size * sizeof *latencies_us);
        if (latencies_us == NULL) {
            fail("realloc");
        }
    }
    latencies_us[latencies_count++] = (float)(seconds * 1e6);
}

static inline int compare_floats(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

/* Print a line of JSON about what was recorded since the last one. */
static inline void report(double wall_s, size_t lost) {
    if (latencies_count == 0) {
        give_up("no answer was counted");
    }
    qsort(latencies_us, latencies_count, sizeof *latencies_us, compare_floats);
    printf("{\"operations\": %zu, \"wall_s\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"lost\": %zu}\n",
           latencies_count, wall_s, (double)latencies_us[latencies_count / 2],
           (double)latencies_us[latencies_count * 99 / 100], lost);
    fflush(stdout);
    latencies_count = 0;
}

/* ---- TLS: the few functions of OpenSSL that are needed, as openssl(7) declares them ---- */

enum {
    TLS_WANT_READ = 2,
    TLS_WANT_WRITE = 3,
    TLS_ZERO_RETURN = 6,
    TLS_FILETYPE_PEM = 1,
    TLS_CTRL_MODE = 33,
    /* Partial writes from a buffer that may move; idle connections give their buffers back, as
     * those of Python's ssl module do. */
    TLS_MODE = 0x1 | 0x2 | 0x10
};

static struct {
    void *context;
    void *(*client_method)(void);
    void *(*server_method)(void);
    void *(*context_new)(void *method);
    long (*context_ctrl)(void *context, int command, long argument, void *pointer);
    int (*use_certificate)(void *context, const char *path);
    int (*use_key)(void *context, const char *path, int type);
    void *(*new)(void *context);
    int (*set_fd)(void *tls, int fd);
    void (*set_connect_state)(void *tls);
    void (*set_accept_state)(void *tls);
    int (*handshake)(void *tls);
    int (*read)(void *tls, void *buffer, int bytes);
    int (*write)(void *tls, const void *buffer, int bytes);
    int (*get_error)(void *tls, int result);
    int (*shutdown)(void *tls);
    void (*free)(void *tls);
    void (*clear_errors)(void);
} tls;

static inline void load_tls(bool server) {
    void *library = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        give_up(dlerror());
    }
    struct {
        const char *name;
        void *pointer;
    } functions[] = {
        {"TLS_client_method", &tls.client_method},
        {"TLS_server_method", &tls.server_method},
        {"SSL_CTX_new", &tls.context_new},
        {"SSL_CTX_ctrl", &tls.context_ctrl},
        {"SSL_CTX_use_certificate_chain_file", &tls.use_certificate},
        {"SSL_CTX_use_PrivateKey_file", &tls.use_key},
        {"SSL_new", &tls.new},
        {"SSL_set_fd", &tls.set_fd},
        {"SSL_set_connect_state", &tls.set_connect_state},
        {"SSL_set_accept_state", &tls.set_accept_state},
        {"SSL_do_handshake", &tls.handshake},
        {"SSL_read", &tls.read},
        {"SSL_write", &tls.write},
        {"SSL_get_error", &tls.get_error},
        {"SSL_shutdown", &tls.shutdown},
        {"SSL_free", &tls.free},
        {"ERR_clear_error", &tls.clear_errors},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(library, functions[i].name);
        if (found == NULL) {
            give_up(dlerror());
        }
        memcpy(functions[i].pointer, &found, sizeof found);
    }
    tls.context = tls.context_new(server ? tls.server_method() : tls.client_method());
    if (tls.context == NULL) {
        give_up("OpenSSL makes no context");
    }
    tls.context_ctrl(tls.context, TLS_CTRL_MODE, TLS_MODE, NULL);
}

static inline void *wrap_in_tls(int fd, bool server) {
    void *session = tls.new(tls.context);
    if (session == NULL || tls.set_fd(session, fd) != 1) {
        give_up("OpenSSL makes no session");
    }
    (server ? tls.set_accept_state : tls.set_connect_state)(session);
    return session;
}

/* The result of an OpenSSL call, in the terms of read(2): bytes, 0 at the end, or -1 and errno. */
static inline ssize_t tls_result(void *session, int result) {
    if (result > 0) {
        return result;
    }
    int error = tls.get_error(session, result);
    if (error == TLS_ZERO_RETURN) {
        return 0;
    }
    errno = error == TLS_WANT_READ || error == TLS_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

static inline ssize_t receive_some(int fd, void *session, void *buffer, size_t bytes) {
    if (session == NULL) {
        return read(fd, buffer, bytes);
    }
    tls.clear_errors();
    return tls_result(session, tls.read(session, buffer, (int)bytes));
}

static inline ssize_t send_some(int fd, void *session, const void *buffer, size_t bytes) {
    if (session == NULL) {
        return write(fd, buffer, bytes);
    }
    tls.clear_errors();
    return tls_result(session, tls.write(session, buffer, (int)bytes));
}
