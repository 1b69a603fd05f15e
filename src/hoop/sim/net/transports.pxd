from hoop.drivers.op cimport Op
from hoop.net.datagram cimport DatagramTransport
from hoop.net.listener cimport AcceptOp
from hoop.net.stream cimport StreamTransport

cdef enum:
    KEPT_MAX = 2048             # the longest message that is kept: the smallest buffer takes it as a whole

# A socket of the program as its transport and the driver see it. The world's End derives from it.
cdef class Wire:
    cdef bytes kept                     # the one message that the program has sent since the last look
    cdef bytes handed                   # what has arrived for the op that receives
    cdef public unsigned long ino       # the number of its file
    cdef bint claimed                   # a transport of the program's has the descriptor, and no other file
    cdef bint in_kernel                 # the program may have bytes in the kernel that it has not received
    cdef readonly bint open             # the world's end is
    cdef public bint shut               # the program sends no more, as it has said itself
    cdef public bint finished           # the program was sent the end
    cdef bint keep(self, bytes chunk) noexcept
    cdef int spill_kept(self) except -1
    cdef int spill_handed(self) except -1

cdef int note_wire(int fd, Wire wire) except -1
cdef Wire wire_at(int fd)
cdef bint claim(int fd) except -1
cdef bint keep(int fd, bytes chunk) noexcept

cdef bint some_fail                     # whether the world that runs has such faults

# These have no fields: an object only gets their C methods.
cdef class SimStream(StreamTransport):
    cdef int send_now(self, bytes chunk) except -1
    cdef Py_ssize_t send_some(self) noexcept
    cdef int send_failed(self, Py_ssize_t n) except -1

cdef class FailingDatagrams(DatagramTransport):
    cdef int send(self, bytes data, object address) except -1
    cdef int flush(self) except -1

cdef class FailingAccept(AcceptOp):
    cdef int on_ready(self) except -1

cdef int adopt_op(Op op) except -1
cdef int give(object o, object plain, object failing, object before) except -1
cdef int error_of_send(int fd) except -1
