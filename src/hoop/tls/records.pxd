cdef enum:
    HEADER_BYTES = 5                    # of a record's header: its type, two bytes of version, two of length
    RECORD_BYTES = 16384                # the most data that one record holds
    SEALED_BYTES = 18432                # the most bytes that follow a record's header
    PLAIN_BYTES = 278528                # holds a full receive, and a record that began before it

# A stretch of memory, as a buffer that OpenSSL's Python objects accept.
cdef class Window:
    cdef char *start
    cdef Py_ssize_t size

# Memory that the TLS connections of a loop share. Each uses it only during a call.
cdef class Workspace:
    cdef char *plain                    # PLAIN_BYTES for decrypted data
    cdef char *gathered                 # RECORD_BYTES to join small writes in one record
    cdef Window window
    cdef tuple into_window              # the arguments of every read()
    cdef bint busy                      # inside of OpenSSL, which may call the user's code

cdef class Records:
    cdef readonly object sslobj
    cdef object incoming, outgoing      # the BIOs
    cdef object feed_bio, take_bio, decrypt, encrypt    # the C functions of those objects
    cdef bint is_known                  # the objects are Python's own, so that `window` can be used
    cdef Workspace workspace

    # How far the incoming bytes are in a record.
    cdef unsigned char header           # how many bytes of the header were seen, or UNKNOWN
    cdef Py_ssize_t missing             # how many bytes of its body are still missing
    cdef bint whole                     # the last byte fed was the last of a record

    # Data to encrypt: the chunks from `first` on. The first `offset` bytes of that chunk are done.
    cdef list chunks
    cdef Py_ssize_t first, offset
    cdef Py_ssize_t queued              # how many bytes that is

    cdef bint handshake(self) except -1
    cdef bint shutdown(self) except -1
    cdef Py_ssize_t feed_record(self, char *data, Py_ssize_t n) except -1
    cdef Py_ssize_t next_record(self, char *data, Py_ssize_t n) noexcept
    cdef Py_ssize_t unread(self) except -1
    cdef Py_ssize_t decrypt_record(self, void *into, Py_ssize_t room) except -2
    cdef Py_ssize_t decrypt_by_name(self, char *into, Py_ssize_t room) except -2
    cdef int skip(self) except -1
    cdef int add(self, bytes chunk) except -1
    cdef Py_ssize_t encrypt_record(self) except -1
    cdef Py_ssize_t gather(self) except -1
    cdef int consume(self, Py_ssize_t n) except -1
    cdef bint has_output(self) except -1
    cdef bytes take(self)
    cdef int close(self) except -1
