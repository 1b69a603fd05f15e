# Making a child process. Functions return a count, a descriptor or -errno, and raise nothing.
cdef extern from "spawn.h" nogil:
    enum:
        EINVAL
        HOOP_CAN_SPAWN                                  # whether spawn.h knows this processor
    char **environ
    ctypedef struct hoop_failure:
        int error
        int step
    ctypedef struct hoop_launch:                        # spawn.h describes the fields
        char **programs
        char **argv
        char **envp
        char *cwd
        int *keep
        unsigned *groups
        int n_keep
        int n_groups
        int *stdio
        int report
        int reader
        int sharing
        bint closes
        bint restores_signals
        bint new_session
        int process_group
        int umask
        long long uid
        long long gid

    hoop_launch *hoop_new_launch(size_t bytes) noexcept # or NULL
    size_t hoop_room(size_t bytes) noexcept             # bytes of a launch that a piece of this size takes
    void *hoop_take_room(hoop_launch *launch, size_t bytes) noexcept
    int hoop_clone_sharing(hoop_launch *launch) noexcept
    int hoop_clone_copying(hoop_launch *launch) noexcept
    void hoop_sweep() noexcept
    int hoop_count_launches() noexcept

    int hoop_open_report(hoop_launch *launch) noexcept
    int hoop_read_failure(int fd, hoop_failure *failure) noexcept
