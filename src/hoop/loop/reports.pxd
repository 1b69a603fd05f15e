from hoop.drivers.ready cimport Runnable

cdef int check_callback(object callback, str method) except -1
cdef object to_show(Runnable running)
cdef str described(object called)
cdef int report_slow(Runnable what, object slowest, double seconds) except -1
