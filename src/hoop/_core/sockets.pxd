from libc.stdint cimport uint32_t
from hoop._core.base cimport LoopBase
from hoop._core.coroutine cimport Method, NativeCoroutine
from hoop._core.readiness cimport SocketTable

# The part of a loop that receives and sends on sockets of the user's.
cdef class SocketLoop(LoopBase):
    cdef SocketTable socket_table       # None until a task waits for a socket
    cdef int open_socket_table(self) except -1
    cdef int close_socket_table(self) except -1

# One of the loop's methods. A coroutine's value is the tuple of its arguments, the socket first, or the
# Sending, until it is over.
cdef class SocketMethod(Method):
    cdef int attempt(self, NativeCoroutine c) except -1     # virtual: do it now, or wait

cdef class Receive(SocketMethod):
    pass

cdef class ReceiveInto(SocketMethod):
    pass

# Receives by a method of the socket.
cdef class ByName(SocketMethod):
    cdef bint may_wait(self, tuple arguments) except -1     # virtual

cdef class ReceiveFrom(ByName):
    pass

cdef class ReceiveFromInto(ByName):
    pass

cdef class Accept(ByName):
    pass

cdef class SendTo(SocketMethod):
    pass

cdef class SendAll(SocketMethod):
    cdef int go_on(self, NativeCoroutine c, Sending sending) except -1

# What is left of a sock_sendall() that has to wait.
cdef class Sending:
    cdef object sock
    cdef object view                    # a memoryview of the data, in bytes
    cdef Py_ssize_t position

cdef class Connect(SocketMethod):
    cdef int connect(self, NativeCoroutine c) except -1

cdef bint is_socket(object sock) except -1
cdef int descriptor_of(object sock) except? -1
cdef int check(SocketLoop loop, object sock) except -1
cdef bint is_drained(SocketLoop loop, object sock, int fd) except -1
cdef int note_short(SocketLoop loop, object sock, int fd) except -1
cdef int wait_ready(NativeCoroutine c, object sock, uint32_t mask, bint again) except -1
cdef Py_ssize_t room_in(object buffer) except -1
cdef Py_ssize_t send_some(object sock, object data) except -2
cdef Py_ssize_t size_of(object n) except? -1
