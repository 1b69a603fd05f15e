from hoop._c.linux cimport hoop_address
from hoop._c.python cimport flag
from hoop.scheduling.base cimport LoopBase
from hoop.drivers.op cimport CallOp
from hoop.net.receiver cimport Receiver

cdef class SendOp(CallOp):
    cdef StreamTransport stream         # None once the connection is lost

cdef class StreamTransport(Receiver):
    cdef object server                  # told when the connection is lost

    cdef SendOp send_op

    cdef flag connected                 # connection_made was called
    cdef flag eof_written               # write_eof() was called
    cdef object __weakref__

    cdef int attach(self, LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server) except -1
    cdef int begin(self) except -1
    cdef int on_writable(self) except -1
    cdef int write_to_nobody(self) except -1
    cdef int on_sent(self, long long n) except -1
    cdef int send_failed(self, Py_ssize_t n) except -1
    cdef int wait_to_send(self) except -1
    cdef int send_as_call(self) except -1
    cdef int send(self, object data) except -1
    cdef int queue(self, bytes chunk) except -1
    cdef int send_now(self, bytes chunk) except -1
    cdef int queue_all(self, list chunks) except -1
    cdef int go_on(self) except -1
    cdef int put(self, bytes chunk) except -1
    cdef int check_writable(self, str method) except -1
    cdef int on_drained(self) except -1
    cdef int lose(self, object exc) except -1
    cdef int release(self) except -1

cdef StreamTransport new_stream(
    LoopBase loop, int fd, object sock, object protocol, object context, object extra, object server,
    hoop_address *peer
)
