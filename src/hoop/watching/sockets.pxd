from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint32_t
from hoop.scheduling.base cimport LoopBase
from hoop.scheduling.coroutine cimport Method, NativeCoroutine
from hoop.watching.readiness cimport SocketSlot, SocketTable

# The part of a loop that uses the user's own sockets.
cdef class SocketLoop(LoopBase):
    cdef SocketTable socket_table       # None until a task waits for a socket
    cdef int check_driver(self) except -1
    cdef int open_socket_table(self) except -1
    cdef int close_socket_table(self) except -1

# A method of the loop. Until its coroutine ends, `value` is the socket. `extra` is the other argument, or a
# tuple of the others.
cdef class SocketMethod(Method):
    cdef int attempt(self, NativeCoroutine c) except -1     # virtual: try the call, or wait

# A method that receives by calling a method of the socket.
cdef class ByName(SocketMethod):
    cdef int of_listener                # 1 if only a listening socket has what it receives, else 0
    cdef bint may_wait(self, object arguments) except -1    # virtual

cdef class SendAll(SocketMethod):
    cdef int go_on(self, NativeCoroutine c, Sending sending) except -1
    cdef int wait_or_end(self, NativeCoroutine c, Sending sending) except -1

# The `extra` of a sock_sendall() that has to wait.
cdef class Sending:
    cdef object view                    # a memoryview of the data, in bytes
    cdef Py_ssize_t position

cdef class Connect(SocketMethod):
    cdef int connect(self, NativeCoroutine c) except -1
    cdef int end_waiting(self, NativeCoroutine c) except -1

cdef bint is_socket(object sock) except -1
cdef int descriptor_of(object sock) except? -1
cdef int check(SocketLoop loop, object sock) except -1
cdef SocketSlot slot_of(NativeCoroutine c, int fd)
cdef int wait_again(NativeCoroutine c, uint32_t mask) except -1
cdef int wait_ready(
    NativeCoroutine c, int fd, SocketSlot slot, uint32_t mask, bint again
) except -1
cdef Py_ssize_t size_of(object n) noexcept
cdef Py_ssize_t receive_some(int fd, SocketSlot slot, void *buffer, Py_ssize_t size) except -2
cdef bint borrow(object buffer, Py_buffer *view) except -1
cdef Py_ssize_t room_in(object buffer) except -1
cdef Py_ssize_t send_some(object sock, object data) except -2
