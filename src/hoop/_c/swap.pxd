# Puts functions in place of others: see swap.h.
from hoop._c.python cimport Ref

cdef extern from "swap.h":
    ctypedef object (*hoop_function)(Ref, Ref)
    ctypedef object (*hoop_fast_function)(Ref, Ref *, Py_ssize_t, Ref)
    ctypedef Py_ssize_t (*hashfunc)(Ref) noexcept
    ctypedef void *hoop_code            # a C function of any kind
    hoop_code hoop_swap_function(object function, int flags, hoop_code with_function) except NULL
    hoop_fast_function hoop_put_before(object function, hoop_fast_function f) except NULL
    hashfunc hoop_hash_of(object type) noexcept
    void hoop_set_hash(object type, hashfunc f) noexcept
    int hoop_set_method(object method, hoop_code f) except -1
    ctypedef int (*initproc)(Ref, Ref, Ref) noexcept    # it returns -1 if it raises
    initproc hoop_init_of(object type) noexcept
    void hoop_set_init(object type, initproc f) noexcept
    ctypedef void (*destructor)(Ref) noexcept
    void hoop_forget(dict addresses, Ref o, object finalized) noexcept
    bint hoop_finalize_with(object type, object model, destructor f) noexcept
    ctypedef object (*hoop_way)(Ref, Ref *, size_t, Ref)
    ctypedef struct hoop_calls:         # how a builtin function was called
        hoop_way way
        int flags
    int hoop_turn_calls(object function, hoop_way way, hoop_calls *former) except -1
    void hoop_turn_back(object function, const hoop_calls *former) noexcept
    long long hoop_queued(int fd) noexcept      # changes when bytes enter or leave the buffers
    int hoop_unsent(int fd) noexcept            # bytes of a Unix socket that the other end has not received
    int hoop_has_hung_up(int fd) noexcept       # whether the other end of a pair is closed
    unsigned long hoop_inode(int fd) noexcept   # the number of its file; 0 if it is closed
    bint hoop_has_methods(object o, object model, object before) noexcept
    int hoop_adopt_methods(object o, object plain, object model, object before) except -1

cdef extern from "Python.h":
    int METH_NOARGS
    int METH_O
    int METH_VARARGS
    int METH_FASTCALL
    int METH_KEYWORDS
    int METH_CLASS
    object PyObject_Vectorcall(object function, Ref *args, size_t n, Ref names)
