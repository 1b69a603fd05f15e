# The Python stack of a thread that stands still, read without the GIL. Functions raise nothing.
cdef extern from "still.h" nogil:
    enum:
        HOOP_STILL_STACK
    void *hoop_own_state() noexcept                         # of the thread that calls this with the GIL
    int hoop_read_stack(void *const *state, char *text, int size) noexcept
    void hoop_note_still(int fd, int tid, void *const *state) noexcept
