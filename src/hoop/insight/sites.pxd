from hoop._c.python cimport Ref

cdef enum:
    SITES_MAX = 4096                    # tasks of further places have no site
    SLOTS = 16384                       # of the hash table: a power of two, and more than twice as many

# A place that makes tasks: a code object, and where in it. Sites are kept for ever, as are the counts.
cdef struct Site:
    Ref code                            # owned
    int offset
    unsigned long made, ended

cdef bint recording                     # whether new tasks are to note where they are made
cdef Site *sites                        # by number; number 0 stands for an unknown place
cdef int make_tables() except -1
cdef unsigned int note_site() noexcept
cdef object running_code()               # the nearest code outside asyncio and hoop, and where in it
cdef object place_of(unsigned int number)
