cdef int raise_errno(int result, object doing=*) except -1
cdef object os_error(int result)
