cdef enum:
    HEADER_BYTES = 5                    # of a record: its type, two of version, two of length
    RECORD_BYTES = 16384                # the most that one record holds
    SEALED_BYTES = 18432                # the most that a record is long behind its header
    PLAIN_BYTES = 278528                # what one receive and a record that began before it can hold

# Memory of ours, as OpenSSL's Python objects want to see it.
cdef class Window:
    cdef char *start
    cdef Py_ssize_t size

# What the TLS connections of a loop share: each uses it for no longer than one call lasts.
cdef class Workspace:
    cdef char *plain                    # PLAIN_BYTES into which is decrypted
    cdef char *gathered                 # RECORD_BYTES in which small writes become one record
    cdef Window window
    cdef tuple into_window              # the arguments of every read
    cdef bint busy                      # in OpenSSL, which may call the user

cdef class Records:
    cdef readonly object sslobj
    cdef object incoming, outgoing      # the BIOs
    cdef object feed_bio, take_bio, decrypt, encrypt    # the C functions of all three
    cdef bint is_known                  # they are Python's, as is what they do with memory
    cdef Workspace workspace

    # Where in a record the incoming bytes are.
    cdef unsigned char header           # bytes of the header seen, or UNKNOWN
    cdef Py_ssize_t missing             # bytes of its body still to come
    cdef bint whole                     # the last byte fed was a record's last

    # What waits to be encrypted: chunks from the `first` on, that one from `offset` on.
    cdef list chunks
    cdef Py_ssize_t first, offset
    cdef Py_ssize_t queued              # bytes in all of it

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
