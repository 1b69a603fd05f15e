# The questions of the watcher to the kernel, about threads. Functions raise nothing.
cdef extern from "watch.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        SYS_futex
    ctypedef struct hoop_mutex:
        pass
    void hoop_mutex_init(hoop_mutex *lock) noexcept
    void hoop_mutex_take(hoop_mutex *lock) noexcept
    void hoop_mutex_give(hoop_mutex *lock) noexcept
    int hoop_read_int(const int *p) noexcept
    unsigned long hoop_read_ulong(const unsigned long *p) noexcept
    void *hoop_read_pointer(void *const *p) noexcept
    long long hoop_read_ns(const long long *p) noexcept
    int hoop_thread_id() noexcept
    long long hoop_thread_cpu(int tid) noexcept
    long long hoop_run_delay(int tid) noexcept
    int hoop_thread_state(int tid) noexcept
    int hoop_thread_call(int tid) noexcept
    void hoop_thread_wchan(int tid, char *name, int size) noexcept
    const char *hoop_call_name(int number) noexcept
    int hoop_arm_timer(int tid, int number, long long ns) noexcept
    void hoop_drop_timer(int timer) noexcept
    void hoop_note_stall(int fd, unsigned long loop, int tid, long long since_ns, long long cpu_ns) noexcept
    int hoop_wait_for(pollfd *fds, int n, long long ns) noexcept
