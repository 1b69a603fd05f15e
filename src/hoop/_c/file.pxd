# System calls on files. Functions return a result or -errno, and raise nothing.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "file.h" nogil:
    enum:
        HOOP_READ
        HOOP_WRITE
        HOOP_FSYNC
        HOOP_FALLOCATE
        HOOP_OPENAT
        HOOP_CLOSE
        HOOP_STATX
        HOOP_RENAMEAT
        HOOP_UNLINKAT
        HOOP_MKDIRAT
        HOOP_FTRUNCATE
        POLLIN
        POLLOUT
        AT_FDCWD
        S_IFMT
        S_IFREG
        S_IFIFO
    uint64_t HOOP_HERE                                  # as an offset: the position of the descriptor
    ctypedef struct hoop_status:
        int64_t size
        uint64_t device
        uint32_t mode, links, block
    ctypedef struct hoop_statx:
        pass

    int hoop_open_cached(const char *path, int flags, int mode) noexcept
    Py_ssize_t hoop_read_cached(int fd, void *buf, size_t n, int64_t offset) noexcept
    int hoop_status_of(int fd, hoop_status *out) noexcept
    int hoop_may_wait(int fd, int flags) noexcept
    int64_t hoop_stand_at(int fd, int64_t offset, int whence) noexcept
    int hoop_is_local(int fd) noexcept
    int hoop_wait_ready(int fd, int events, int abort_fd) noexcept
    long hoop_perform(int code, int fd, unsigned int flags, void *address, unsigned int length, uint64_t offset) noexcept

cdef extern from "file.h":
    object hoop_stat_fields(const hoop_statx *status)   # a tuple for os.stat_result
    int hoop_set_stat_fields(hoop_statx *status, object fields) except -1
