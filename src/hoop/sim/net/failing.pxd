from hoop.drivers.op cimport Op
from hoop.net.datagram cimport DatagramTransport
from hoop.net.listener cimport AcceptOp
from hoop.net.stream cimport StreamTransport

cdef bint some_fail                     # whether the world that runs has such faults

# These have no fields: an object only gets their C methods.
cdef class FailingStream(StreamTransport):
    cdef int send_now(self, bytes chunk) except -1
    cdef Py_ssize_t send_some(self) noexcept

cdef class FailingDatagrams(DatagramTransport):
    cdef int send(self, bytes data, object address) except -1
    cdef int flush(self) except -1

cdef class FailingAccept(AcceptOp):
    cdef int on_ready(self) except -1

cdef int adopt(Op op) except -1
cdef int give(object o, object plain, object failing, object before) except -1
cdef int error_of_send(int fd) except -1
