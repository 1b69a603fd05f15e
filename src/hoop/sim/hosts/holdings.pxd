from hoop.loop.turn cimport Loop

cdef class Holdings:
    cdef object sockets                 # a WeakSet of those that its code has made
    cdef object files                   # a WeakSet of the raw files of open()
    cdef list buffers                   # of hoop's files: those that may be open
    cdef Py_ssize_t prune_at            # look for closed ones when there are so many
    cdef dict opened                    # descriptors of os.open(): which file each led to
    cdef readonly set given_back        # descriptors of os.open() that were closed at the end
    cdef readonly list stopped          # ops of its loop, which are kept with what waits for them
    cdef int give_back_loop(self, Loop loop) except -1
    cdef int give_back_files(self) except -1
