cdef enum:
    CALL_CODES = 256

# What the kernel's io_uring does here; each bit can be forced off.
cdef struct Capabilities:
    bint receive                        # multishot RECV into a pool of buffers
    bint incremental                    # buffers of the pool that are filled piece by piece
    bint send                           # SEND on a non-blocking socket waits until the kernel takes more
    bint no_iowait                      # a sleep is not counted as waiting for a disk
    unsigned char calls[CALL_CODES]     # which operations it knows

cdef Capabilities of_this_kernel        # all zero until `refusal` was asked
cdef object refusal()
