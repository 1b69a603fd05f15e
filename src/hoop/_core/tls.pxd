from hoop._core.tls_layer cimport TlsLayer

cdef class TlsTransport:
    cdef TlsLayer tls
    cdef dict __dict__                  # asyncio's transports take attributes
    cdef object __weakref__
