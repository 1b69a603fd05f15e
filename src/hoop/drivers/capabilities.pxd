cdef enum:
    CALL_CODES = 256

# The features of the kernel's io_uring. A test can force each of them off.
cdef struct Capabilities:
    bint receive                        # multishot RECV into buffers that the driver provides
    bint incremental                    # such a buffer can be filled piece by piece
    bint send                           # SEND on a non-blocking socket waits until the kernel takes more
    bint no_iowait                      # a sleeping loop does not count as waiting for a disk
    unsigned char calls[CALL_CODES]     # which operations the kernel knows, by code

cdef Capabilities of_this_kernel        # all zero until refusal() was called
cdef object refusal()
