from hoop.scheduling.handle cimport Handle
from hoop.drivers.op cimport Op
from hoop.watching.sockets cimport SocketLoop

cdef class WatchOp(Op):
    cdef Handle handle

cdef class WatchLoop(SocketLoop):
    cdef dict watched                   # by descriptor: the object that add_reader() was given
    cdef object watch(self, object fileobj, int interest, object callback, tuple args, object context)
    cdef int arm(
        self, WatchOp watch, int fd, int interest, object callback, tuple args, object context
    ) except -1
    cdef bint unwatch(self, object fileobj, int interest) except -1
    cdef object watched_descriptor(self, object fileobj)

cdef object descriptor(object fileobj)
