from hoop.scheduling.attributes cimport Attributed
from hoop.tls.layer cimport TlsLayer

cdef class SSLTransport(Attributed):
    cdef TlsLayer tls
    cdef object __weakref__
