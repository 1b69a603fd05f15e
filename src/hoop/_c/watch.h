/* The questions of the watcher to the kernel, about another thread of this process. Nothing here needs the GIL or
 * raises. See insight/watcher.py, proc_pid_schedstat(5), proc_pid_syscall(5) and timer_create(2). */
#ifndef HOOP_WATCH_H
#define HOOP_WATCH_H

#include "observe.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the lock of the registry ---------------------------------------------------------------------------- */

typedef struct { pthread_mutex_t m; } hoop_mutex;
static inline void hoop_mutex_init(hoop_mutex *l) { pthread_mutex_init(&l->m, NULL); }
static inline void hoop_mutex_take(hoop_mutex *l) { pthread_mutex_lock(&l->m); }
static inline void hoop_mutex_give(hoop_mutex *l) { pthread_mutex_unlock(&l->m); }

/* ---- words that another thread changes meanwhile ---------------------------------------------------------- */

static inline int hoop_read_int(const int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline unsigned long hoop_read_ulong(const unsigned long *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline void *hoop_read_pointer(void *const *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline long long hoop_read_ns(const long long *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }

/* ---- threads ------------------------------------------------------------------------------------------------ */

static inline int hoop_thread_id(void) { return (int)syscall(SYS_gettid); }

/* The kernel's name of the clock of the processor time of a thread. */
static inline clockid_t hoop_cpu_clock(int tid) { return (clockid_t)((~(unsigned)tid << 3) | 6); }

/* How much time of a processor the thread has used; -1 if there is no such thread. */
static inline long long hoop_thread_cpu(int tid) {
    struct timespec t;
    if (tid <= 0 || clock_gettime(hoop_cpu_clock(tid), &t) < 0) return -1;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Read a file of /proc about a thread into `text`, as a string. Returns its length, or -1. */
static inline int hoop_read_thread(int tid, const char *name, char *text, int size) {
    char path[64];
    int fd, n;
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) n = -1;
    else {
        n = (int)read(fd, text, (size_t)size - 1);
        close(fd);
    }
    text[n < 0 ? 0 : n] = 0;
    return n;
}

/* How long the thread has waited for a processor while it could have run; 0 if the kernel does not count it. */
static inline long long hoop_run_delay(int tid) {
    char text[128];
    unsigned long long cpu, delay;
    if (hoop_read_thread(tid, "schedstat", text, sizeof text) <= 0) return 0;
    return sscanf(text, "%llu %llu", &cpu, &delay) == 2 ? (long long)delay : 0;
}

/* The letter of the thread's state. 'R' means that it runs or wants to. '?' means that it is not known. */
static inline int hoop_thread_state(int tid) {
    char text[256], *end;
    if (hoop_read_thread(tid, "stat", text, sizeof text) <= 0) return '?';
    end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : '?';
}

/* The number of the system call in which the thread waits, or -1 if it runs or that is not known. */
static inline int hoop_thread_call(int tid) {
    char text[256];
    int number;
    if (hoop_read_thread(tid, "syscall", text, sizeof text) <= 0) return -1;
    return sscanf(text, "%d", &number) == 1 ? number : -1;
}

/* The name of the function of the kernel in which the thread waits, as a string; "" if it runs or that is secret. */
static inline void hoop_thread_wchan(int tid, char *name, int size) {
    int i, n = hoop_read_thread(tid, "wchan", name, size);
    if (n == 1 && name[0] == '0') name[0] = 0;
    for (i = 0; name[i]; i++)
        if ((unsigned char)name[i] < ' ' || (unsigned char)name[i] > '~') name[i] = '?';
}

#define HOOP_NAME(call) case SYS_##call: return #call;

/* The name of a system call that may block, or NULL. */
static inline const char *hoop_call_name(int number) {
    switch (number) {
    HOOP_NAME(futex) HOOP_NAME(read) HOOP_NAME(write) HOOP_NAME(readv) HOOP_NAME(writev)
    HOOP_NAME(pread64) HOOP_NAME(pwrite64) HOOP_NAME(openat) HOOP_NAME(close) HOOP_NAME(fsync)
    HOOP_NAME(fdatasync) HOOP_NAME(flock) HOOP_NAME(fcntl) HOOP_NAME(ioctl) HOOP_NAME(sendfile)
    HOOP_NAME(connect) HOOP_NAME(accept) HOOP_NAME(accept4) HOOP_NAME(recvfrom) HOOP_NAME(recvmsg)
    HOOP_NAME(sendto) HOOP_NAME(sendmsg) HOOP_NAME(ppoll) HOOP_NAME(pselect6) HOOP_NAME(epoll_pwait)
    HOOP_NAME(nanosleep) HOOP_NAME(clock_nanosleep) HOOP_NAME(wait4) HOOP_NAME(waitid)
    HOOP_NAME(getdents64) HOOP_NAME(newfstatat) HOOP_NAME(statx) HOOP_NAME(io_uring_enter)
    HOOP_NAME(restart_syscall) HOOP_NAME(rt_sigtimedwait) HOOP_NAME(semtimedop) HOOP_NAME(msgrcv) HOOP_NAME(execve)
#ifdef SYS_open
    HOOP_NAME(open) HOOP_NAME(stat) HOOP_NAME(poll) HOOP_NAME(select) HOOP_NAME(epoll_wait)
    HOOP_NAME(pause) HOOP_NAME(vfork)
#endif
    default: return NULL;
    }
}

/* ---- a timer that only fires while the thread computes ----------------------------------------------------- */

/* Send the thread this signal once it has used so much more time of a processor. Returns a number, or -1. */
static inline int hoop_arm_timer(int tid, int number, long long ns) {
    struct sigevent event;
    struct itimerspec due;
    int timer;
    memset(&event, 0, sizeof event);
    memset(&due, 0, sizeof due);
    event.sigev_notify = 4; /* SIGEV_THREAD_ID */
    event.sigev_signo = number;
    event._sigev_un._tid = tid;
    if (syscall(SYS_timer_create, hoop_cpu_clock(tid), &event, &timer) < 0) return -1;
    due.it_value.tv_sec = ns / 1000000000;
    due.it_value.tv_nsec = ns % 1000000000;
    if (syscall(SYS_timer_settime, timer, 0, &due, NULL) == 0) return timer;
    syscall(SYS_timer_delete, timer);
    return -1;
}

static inline void hoop_drop_timer(int timer) {
    if (timer >= 0) syscall(SYS_timer_delete, timer);
}

/* ---- the memfd ---------------------------------------------------------------------------------------------- */

/* Begin the file anew with a line that says what is seen. Another process can read it, also while C code holds the GIL. */
static inline void hoop_note_stall(int fd, unsigned long loop, int tid, long long since_ns, long long cpu_ns) {
    char line[160];
    int n = snprintf(line, sizeof line, "loop %lu thread %d blocked since %lld ns of CLOCK_MONOTONIC, CPU %lld ns\n",
                     loop, tid, since_ns, cpu_ns);
    if (fd < 0 || ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0) return;
    if (write(fd, line, (size_t)n) < 0) return;
}

/* ---- waiting ------------------------------------------------------------------------------------------------ */

/* Wait until one of the descriptors is ready, for at most so long. Returns how many are. */
static inline int hoop_wait_for(struct pollfd *fds, int n, long long ns) {
    struct timespec t;
    if (ns < 0) ns = 0;
    t.tv_sec = ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    n = ppoll(fds, (nfds_t)n, &t, NULL);
    return n < 0 ? 0 : n;
}

#endif
