/* System calls on files. Functions return a result or -errno. The loop's thread may call those that cannot
 * wait for a disk. hoop_perform() makes any of the others from the fields of an op. */
#ifndef HOOP_FILE_H
#define HOOP_FILE_H

#include "shim.h"
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

/* The codes of io_uring's operations. Both drivers use them, since they are part of Linux's interface. */
enum {
    HOOP_READ = 22,
    HOOP_WRITE = 23,
    HOOP_FSYNC = 3,
    HOOP_FALLOCATE = 17,
    HOOP_OPENAT = 18,
    HOOP_CLOSE = 19,
    HOOP_STATX = 21,
    HOOP_RENAMEAT = 35,
    HOOP_UNLINKAT = 36,
    HOOP_MKDIRAT = 37,
    HOOP_FTRUNCATE = 55,
};
#define HOOP_HERE ((uint64_t)-1) /* as an offset: the position of the descriptor */

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef __NR_openat2
#define __NR_openat2 437
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif
#define HOOP_MOUNT_UNIQUE 0x4000 /* STATX_MNT_ID_UNIQUE, Linux 6.8 */
#define HOOP_MOUNT_OFFSET 144    /* of stx_mnt_id; older headers lack it */

/* ---- calls that cannot wait for a disk --------------------------------------------------------------- */

/* Open a file if the kernel has its name in memory (Linux 5.12). Otherwise -EAGAIN. */
static inline int hoop_open_cached(const char *path, int flags, int mode) {
    struct {
        uint64_t flags, mode, resolve;
    } how = {.flags = (uint64_t)(unsigned)flags, .mode = 0, .resolve = 0x20 /* RESOLVE_CACHED */};
    (void)mode; /* used only with O_CREAT */
    return (int)HOOP_RESULT(syscall(__NR_openat2, AT_FDCWD, path, &how, sizeof how));
}
/* Read bytes that are in the page cache. -EAGAIN if the next byte is not there, -EOPNOTSUPP if unknown. */
static inline Py_ssize_t hoop_read_cached(int fd, void *buf, size_t n, int64_t offset) {
    struct iovec vec = {buf, n};
    return HOOP_RESULT(preadv2(fd, &vec, 1, offset, RWF_NOWAIT));
}
/* Facts that the kernel has in memory about an open file; it asks no server. `device` tells file systems
 * apart. It is the number of the mount, which is never used again. Before Linux 6.8 it is the number of the
 * device, which may be used again. */
typedef struct {
    int64_t size;
    uint64_t device;
    uint32_t mode, links, block;
} hoop_status;
static inline int hoop_status_of(int fd, hoop_status *out) {
    struct statx s;
    /* The kernel has the other facts in memory. If asked for them, it would update them from a server. */
    int r = (int)HOOP_RESULT(statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, HOOP_MOUNT_UNIQUE, &s));
    if (r < 0) return r;
    out->size = (int64_t)s.stx_size;
    if (s.stx_mask & HOOP_MOUNT_UNIQUE)
        memcpy(&out->device, (const char *)&s + HOOP_MOUNT_OFFSET, sizeof out->device);
    else
        out->device = ((uint64_t)s.stx_dev_major << 32) | s.stx_dev_minor;
    out->mode = s.stx_mode;
    out->links = s.stx_nlink;
    out->block = s.stx_blksize;
    return 0;
}
static inline int hoop_may_wait(int fd, int flags) { /* without O_NONBLOCK; -1 for the present flags */
    if (flags < 0 && (flags = fcntl(fd, F_GETFL)) < 0) return -errno;
    return (int)HOOP_RESULT(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
}
static inline int64_t hoop_stand_at(int fd, int64_t offset, int whence) {
    return HOOP_RESULT(lseek(fd, offset, whence));
}

/* ---- calls that can wait for a disk ------------------------------------------------------------------- */

/* Whether the file is on a file system of this machine. There, opening a known name and closing a file that
 * was only read ask no server and no other process. */
static inline int hoop_is_local(int fd) {
    struct statfs s;
    if (fstatfs(fd, &s) < 0) return -errno;
    switch ((uint32_t)s.f_type) {
    case 0x0000EF53: /* ext2, ext3, ext4 */
    case 0x58465342: /* xfs */
    case 0x9123683E: /* btrfs */
    case 0x01021994: /* tmpfs */
    case 0x858458F6: /* ramfs */
    case 0xF2F52010: /* f2fs */
    case 0xCA451A4E: /* bcachefs */
    case 0x2FC12FC1: /* zfs */
    case 0x794C7630: /* overlayfs */
    case 0x73717368: /* squashfs */
    case 0xE0F5E1E2: /* erofs */
        return 1;
    }
    return 0;
}
/* Wait until a descriptor is ready for `events`. -ECANCELED once `abort_fd` is readable. */
static inline int hoop_wait_ready(int fd, int events, int abort_fd) {
    struct pollfd both[2] = {{.fd = fd, .events = (short)events}, {.fd = abort_fd, .events = POLLIN}};
    for (;;) {
        int n = poll(both, 2, -1);
        if (n < 0) return -errno;
        if (both[1].revents) return -ECANCELED;
        if (both[0].revents) return 0;
    }
}

/* Make the system call that the fields of an op describe, as io_uring would. */
static inline long hoop_perform(int code, int fd, unsigned flags, void *address, unsigned length,
                                uint64_t offset) {
    switch (code) {
    case HOOP_READ:
        return HOOP_RESULT(offset == HOOP_HERE ? read(fd, address, length)
                                               : pread(fd, address, length, (off_t)offset));
    case HOOP_WRITE:
        return HOOP_RESULT(offset == HOOP_HERE ? write(fd, address, length)
                                               : pwrite(fd, address, length, (off_t)offset));
    case HOOP_FSYNC: return HOOP_RESULT(flags & 1 ? fdatasync(fd) : fsync(fd));
    case HOOP_FALLOCATE: return HOOP_RESULT(fallocate(fd, (int)length, (off_t)offset, (off_t)(intptr_t)address));
    case HOOP_OPENAT: return HOOP_RESULT(openat(fd, address, (int)flags, length));
    case HOOP_CLOSE: return HOOP_RESULT(close(fd));
    case HOOP_STATX: return HOOP_RESULT(statx(fd, address, (int)flags, length, (struct statx *)(uintptr_t)offset));
    case HOOP_RENAMEAT:
        /* musl has no renameat2(). */
        return HOOP_RESULT(syscall(__NR_renameat2, fd, address, (int)length, (const char *)(uintptr_t)offset, flags));
    case HOOP_UNLINKAT: return HOOP_RESULT(unlinkat(fd, address, (int)flags));
    case HOOP_MKDIRAT: return HOOP_RESULT(mkdirat(fd, address, length));
    case HOOP_FTRUNCATE: return HOOP_RESULT(ftruncate(fd, (off_t)offset));
    }
    return -ENOSYS;
}

typedef struct statx hoop_statx;

/* Convert a statx buffer to the nineteen fields of os.stat_result. */
static inline PyObject *hoop_stat_fields(const struct statx *s) {
#define HOOP_SECONDS(t) ((double)(t).tv_sec + 1e-9 * (t).tv_nsec)
#define HOOP_NS(t) ((long long)(t).tv_sec * 1000000000LL + (t).tv_nsec)
    return Py_BuildValue(
        "(IKKIIILLLLdddLLLIKK)", s->stx_mode, (unsigned long long)s->stx_ino,
        (unsigned long long)makedev(s->stx_dev_major, s->stx_dev_minor), s->stx_nlink, s->stx_uid,
        s->stx_gid, (long long)s->stx_size, (long long)s->stx_atime.tv_sec, (long long)s->stx_mtime.tv_sec,
        (long long)s->stx_ctime.tv_sec, HOOP_SECONDS(s->stx_atime), HOOP_SECONDS(s->stx_mtime),
        HOOP_SECONDS(s->stx_ctime), HOOP_NS(s->stx_atime), HOOP_NS(s->stx_mtime), HOOP_NS(s->stx_ctime),
        s->stx_blksize, (unsigned long long)s->stx_blocks,
        (unsigned long long)makedev(s->stx_rdev_major, s->stx_rdev_minor));
}

/* The same backwards: write the fields of a file that no kernel knows. */
static inline int hoop_set_stat_fields(struct statx *s, PyObject *fields) {
    unsigned int mode, links, uid, gid, block;
    unsigned long long number, device, blocks, rdev;
    long long size, seconds[3], ns[3];
    double exact[3];
    if (!PyArg_ParseTuple(fields, "IKKIIILLLLdddLLLIKK", &mode, &number, &device, &links, &uid, &gid, &size,
                          &seconds[0], &seconds[1], &seconds[2], &exact[0], &exact[1], &exact[2], &ns[0], &ns[1],
                          &ns[2], &block, &blocks, &rdev))
        return -1;
    memset(s, 0, sizeof *s);
    struct statx_timestamp *times[3] = {&s->stx_atime, &s->stx_mtime, &s->stx_ctime};
    for (int i = 0; i < 3; i++) {
        times[i]->tv_sec = ns[i] / 1000000000;
        times[i]->tv_nsec = (unsigned)(ns[i] % 1000000000);
    }
    s->stx_mode = (uint16_t)mode;
    s->stx_ino = number;
    s->stx_dev_major = major(device);
    s->stx_dev_minor = minor(device);
    s->stx_nlink = links;
    s->stx_uid = uid;
    s->stx_gid = gid;
    s->stx_size = (uint64_t)size;
    s->stx_blksize = block;
    s->stx_blocks = blocks;
    s->stx_rdev_major = major(rdev);
    s->stx_rdev_minor = minor(rdev);
    return 0;
}

#endif
