from hoop._core.attributes cimport Attributed
from hoop._core.tls_layer cimport TlsLayer

cdef class SSLTransport(Attributed):
    cdef TlsLayer tls
    cdef object __weakref__
