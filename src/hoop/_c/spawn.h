/* The code that a child process runs between clone() and exec.
 *
 * The child shares the parent's memory, so nothing is copied, even if the parent is large. The parent does
 * not wait for the child, as it would after vfork(). Both run at once, on different stacks, but with the
 * same thread-local storage. Therefore the child
 *
 *   - touches only its launch, which nobody else touches until `sharing` is 0;
 *   - makes system calls by itself, because the C library would write the parent's errno and resolve symbols;
 *   - starts with all signals blocked, and removes the parent's handlers before it unblocks any. */
#ifndef HOOP_SPAWN_H
#define HOOP_SPAWN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOOP_STACK 16384
#define HOOP_SIGNALS 64

/* The step at which the child failed. */
enum { HOOP_SETUP, HOOP_CHDIR, HOOP_EXEC };

typedef struct {
    int error; /* an errno */
    int step;
} hoop_failure;

typedef struct hoop_launch {
    struct hoop_launch *next;
    char **programs;            /* paths to try in this order; NULL ends it, and each list below */
    char **argv, **envp;
    char *cwd;                  /* or NULL */
    int *keep;                  /* descriptors to pass on, ascending; `report` is among them */
    unsigned *groups;           /* -1 in n_groups leaves them */
    int n_keep, n_groups;
    int stdio[3];               /* descriptors that become 0, 1 and 2; -1 leaves one as it is */
    int report;                 /* the pipe for a hoop_failure; exec closes it */
    int reader;                 /* the parent's end of that pipe */
    int closes, restores_signals, new_session;
    int process_group, umask;   /* -1 leaves it */
    long long uid, gid;         /* -1 leaves it */
    long descriptors_max;
    uint64_t mask;              /* the signals that the program has blocked */
    int sharing;                /* the kernel sets it to 0 when the child no longer uses this memory */
    char *free_from;            /* the unused rest of `memory` */
    _Alignas(16) char stack[HOOP_STACK];
    _Alignas(16) char memory[];
} hoop_launch;

/* ---- system calls without the C library: they return a result or -errno ------------------------------ */

#if defined(__x86_64__)
#define HOOP_CAN_SPAWN 1
static inline __attribute__((always_inline)) long hoop_raw4(long n, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
static inline long hoop_raw_clone(int flags, char *stack, int *child_tid, int (*run)(void *), void *arg) {
    register long r10 __asm__("r10") = (long)child_tid;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[arg], %%rdi\n\t" /* in the child; either may be in rbp */
                     "mov %[run], %%rax\n\t"
                     "xor %%ebp, %%ebp\n\t" /* there is no calling frame */
                     "call *%%rax\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"(__NR_clone), "D"((long)flags), "S"(stack), "d"(0L), "r"(r10), [run] "r"(run),
                       [arg] "r"(arg)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define HOOP_CAN_SPAWN 1
static inline __attribute__((always_inline)) long hoop_raw4(long n, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
static inline long hoop_raw_clone(int flags, char *stack, int *child_tid, int (*run)(void *), void *arg) {
    register long x8 __asm__("x8") = __NR_clone;
    register long x0 __asm__("x0") = flags;
    register char *x1 __asm__("x1") = stack;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register int *x4 __asm__("x4") = child_tid;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[arg]\n\t" /* in the child; either may be in x29 */
                     "mov x1, %[run]\n\t"
                     "mov x29, #0\n\t" /* there is no calling frame */
                     "mov x30, #0\n\t"
                     "blr x1\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [run] "r"(run), [arg] "r"(arg)
                     : "x30", "memory");
    return x0;
}
#else
#define HOOP_CAN_SPAWN 0
#define hoop_raw4(n, a, b, c, d) (-ENOSYS)
#define hoop_raw_clone(flags, stack, child_tid, run, arg) (-ENOSYS)
#endif
#define hoop_raw(n, a, b, c) hoop_raw4(n, (long)(a), (long)(b), (long)(c), 8) /* a signal set has 8 bytes */

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

/* ---- the child --------------------------------------------------------------------------------------- */

#if defined(__has_attribute) && __has_attribute(no_stack_protector)
#define HOOP_CHILD static __attribute__((noinline, no_stack_protector, no_sanitize("address", "undefined")))
#else
#define HOOP_CHILD static __attribute__((noinline))
#endif
#define HOOP_TRY(call) \
    do { \
        long r_ = (call); \
        if (r_ < 0) return (int)r_; \
    } while (0)

HOOP_CHILD void hoop_close_between(long first, long last, long descriptors_max) {
    if (first > last || hoop_raw(__NR_close_range, first, last, 0) >= 0) return;
    for (; first <= last && first < descriptors_max; first++) hoop_raw(__NR_close, first, 0, 0);
}

/* Everything but chdir and exec. */
HOOP_CHILD int hoop_set_up_descriptors(const hoop_launch *l) {
    int stdio[3];
    for (int i = 0; i < l->n_keep; i++)
        if (l->keep[i] != l->report) HOOP_TRY(hoop_raw(__NR_fcntl, l->keep[i], F_SETFD, 0));
    /* First move those that are in the way, then put each in its place. */
    for (int i = 0; i < 3; i++) {
        stdio[i] = l->stdio[i];
        if (stdio[i] >= 0 && stdio[i] < 3 && stdio[i] != i) {
            HOOP_TRY(stdio[i] = (int)hoop_raw(__NR_fcntl, stdio[i], F_DUPFD_CLOEXEC, 3));
        }
    }
    for (int i = 0; i < 3; i++) {
        if (stdio[i] == i) HOOP_TRY(hoop_raw(__NR_fcntl, i, F_SETFD, 0));
        else if (stdio[i] != -1) HOOP_TRY(hoop_raw(__NR_dup3, stdio[i], i, 0));
    }
    return 0;
}

HOOP_CHILD void hoop_reset_signals(const hoop_launch *l) {
    /* The kernel's struct sigaction begins with the handler. A zeroed one is SIG_DFL. */
    uintptr_t found[4 + HOOP_SIGNALS / 8] = {0}, none[4 + HOOP_SIGNALS / 8] = {0};
    for (int sig = 1; sig <= HOOP_SIGNALS; sig++) {
        int restores = l->restores_signals && (sig == SIGPIPE || sig == SIGXFSZ);
        if (hoop_raw(__NR_rt_sigaction, sig, 0, found) < 0) continue;
        if (restores || (found[0] != (uintptr_t)SIG_DFL && found[0] != (uintptr_t)SIG_IGN))
            hoop_raw(__NR_rt_sigaction, sig, none, 0);
    }
}

HOOP_CHILD int hoop_set_up_identity(const hoop_launch *l) {
    if (l->new_session) HOOP_TRY(hoop_raw(__NR_setsid, 0, 0, 0));
    if (l->process_group >= 0) HOOP_TRY(hoop_raw(__NR_setpgid, 0, l->process_group, 0));
    if (l->n_groups >= 0) HOOP_TRY(hoop_raw(__NR_setgroups, l->n_groups, l->groups, 0));
    if (l->gid >= 0) HOOP_TRY(hoop_raw(__NR_setregid, l->gid, l->gid, 0));
    if (l->uid >= 0) HOOP_TRY(hoop_raw(__NR_setreuid, l->uid, l->uid, 0));
    return 0;
}

/* Try the programs. Returns the error of the first one that exists. */
HOOP_CHILD int hoop_exec(const hoop_launch *l) {
    int why = 0, last = -ENOENT;
    for (char **program = l->programs; *program != NULL; program++) {
        last = (int)hoop_raw(__NR_execve, *program, l->argv, l->envp);
        if (last != -ENOENT && last != -ENOTDIR && why == 0) why = last;
    }
    return why ? why : last;
}

HOOP_CHILD int hoop_child(void *launch) {
    const hoop_launch *l = launch;
    hoop_failure failure = {0, HOOP_SETUP};
    failure.error = hoop_set_up_descriptors(l);
    if (failure.error == 0 && l->cwd) {
        failure.step = HOOP_CHDIR;
        failure.error = (int)hoop_raw(__NR_chdir, l->cwd, 0, 0);
    }
    if (failure.error == 0) {
        failure.step = HOOP_SETUP;
        if (l->umask >= 0) hoop_raw(__NR_umask, l->umask, 0, 0);
        hoop_reset_signals(l);
        failure.error = hoop_set_up_identity(l);
    }
    if (failure.error == 0) {
        long first = 3;
        if (l->closes) {
            for (int i = 0; i < l->n_keep; i++) {
                if (l->keep[i] < first) continue;
                hoop_close_between(first, l->keep[i] - 1L, l->descriptors_max);
                first = l->keep[i] + 1L;
            }
            hoop_close_between(first, INT_MAX, l->descriptors_max);
        }
        failure.step = HOOP_EXEC;
        hoop_raw(__NR_rt_sigprocmask, SIG_SETMASK, &l->mask, 0);
        failure.error = hoop_exec(l);
    }
    failure.error = -failure.error;
    hoop_raw(__NR_write, l->report, &failure, sizeof failure);
    hoop_raw(__NR_exit_group, 255, 0, 0);
    return 255;
}

/* ---- the parent -------------------------------------------------------------------------------------- */

static hoop_launch *hoop_launches = NULL; /* the GIL protects it */

/* Free the launches that no child uses any more. A launch that a child never gives up is lost, as can
 * happen in a forked copy of this process. */
static inline void hoop_sweep(void) {
    hoop_launch **place = &hoop_launches;
    while (*place != NULL) {
        hoop_launch *l = *place;
        if (__atomic_load_n(&l->sharing, __ATOMIC_ACQUIRE)) {
            place = &l->next;
        } else {
            *place = l->next;
            PyMem_RawFree(l);
        }
    }
}
static inline int hoop_count_launches(void) {
    int n = 0;
    for (hoop_launch *l = hoop_launches; l != NULL; l = l->next) n++;
    return n;
}

/* Make a launch with room for so many bytes; NULL without memory. A later sweep frees it. */
static inline hoop_launch *hoop_new_launch(size_t bytes) {
    struct rlimit limit = {0};
    hoop_sweep();
    hoop_launch *l = PyMem_RawMalloc(sizeof *l + bytes);
    if (l == NULL) return NULL;
    memset(l, 0, offsetof(hoop_launch, stack));
    l->report = l->reader = -1;
    l->sharing = 1; /* so that the sweep leaves it alone */
    l->free_from = l->memory;
    getrlimit(RLIMIT_NOFILE, &limit);
    l->descriptors_max = limit.rlim_cur > INT_MAX ? INT_MAX : (long)limit.rlim_cur;
    l->next = hoop_launches;
    hoop_launches = l;
    return l;
}
static inline size_t hoop_room(size_t bytes) { return (bytes + 7) & ~(size_t)7; }
static inline void *hoop_take_room(hoop_launch *l, size_t bytes) {
    void *taken = l->free_from;
    l->free_from += hoop_room(bytes);
    return taken;
}

/* Make the child. Returns its process number or -errno. With shared memory this takes the same time for a
 * large parent as for a small one. Otherwise the kernel copies the parent's memory. In some time namespaces
 * it cannot share: EINVAL. */
static inline int hoop_clone(hoop_launch *l, int flags) {
    uint64_t all = ~(uint64_t)0;
    hoop_raw(__NR_rt_sigprocmask, SIG_SETMASK, &all, &l->mask);
    long pid = hoop_raw_clone(flags | SIGCHLD, l->stack + HOOP_STACK, &l->sharing, hoop_child, l);
    hoop_raw(__NR_rt_sigprocmask, SIG_SETMASK, &l->mask, 0);
    return (int)pid;
}
static inline int hoop_clone_sharing(hoop_launch *l) { return hoop_clone(l, CLONE_VM | CLONE_CHILD_CLEARTID); }
static inline int hoop_clone_copying(hoop_launch *l) { return hoop_clone(l, 0); }

/* Make the pipe for the report. The writing end is above 2, the reading end non-blocking. 0 or -errno. */
static inline int hoop_open_report(hoop_launch *l) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    l->reader = ends[0];
    l->report = ends[1] >= 3 ? ends[1] : fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
    int error = l->report < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? errno : 0;
    if (l->report != ends[1]) close(ends[1]);
    return -error;
}
static inline int hoop_read_failure(int fd, hoop_failure *failure) {
    ssize_t n = read(fd, failure, sizeof *failure);
    return n < 0 ? -errno : (int)n;
}

#endif
