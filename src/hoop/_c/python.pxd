# Functions of CPython's C API that Cython does not provide.
#
# Functions declared to return `object` raise on NULL, and the caller gets the reference. Functions that
# return `Ref` give a borrowed reference, or may fail without an exception. Each caller says which.
from cpython.object cimport PyObject, PyTypeObject

ctypedef PyObject *Ref              # a raw reference, which Cython does not count

cdef extern from "stdbool.h":
    ctypedef bint flag "bool"       # a bint in one byte, for fields: a bint takes four

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef PyObject *(*unaryfunc)(PyObject *) noexcept
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef PyObject *(*iternextfunc)(PyObject *) noexcept
    ctypedef object (*PyCFunction)(object, object)

    Ref Py_None
    Ref Py_False
    void Py_INCREF(Ref)
    void Py_DECREF(Ref)
    void Py_XDECREF(Ref)
    Py_ssize_t Py_REFCNT(Ref) noexcept
    PyTypeObject *Py_TYPE(Ref)

    PySendResult PyIter_Send(Ref iterator, Ref value, Ref *result) noexcept
    Ref PyObject_CallMethodOneArg(object o, object name, object arg) noexcept
    Ref call_one_quiet "PyObject_CallOneArg"(Ref callable, Ref arg) noexcept
    Ref call_quiet "PyObject_Call"(Ref callable, Ref args_tuple, Ref kwargs) noexcept
    object PyObject_GetAttr(object o, object name)
    Py_ssize_t PyLong_AsSsize_t(Ref o) except? -1
    long PyLong_AsLongAndOverflow(Ref o, int *overflow) except? -1
    Py_ssize_t PyNumber_AsSsize_t(object o, Ref error) except? -1       # clipped if `error` is NULL

    object PyContext_CopyCurrent()
    object PyContext_Copy(object context)
    int PyContext_Enter(Ref context) noexcept
    int enter_context "PyContext_Enter"(Ref context) except -1
    int PyContext_Exit(Ref context) noexcept
    int exit_context "PyContext_Exit"(Ref context) except -1

    int PyDict_SetItem(Ref d, Ref key, Ref value) except -1
    int PyDict_DelItem(Ref d, Ref key) noexcept
    Ref PyDict_GetItemWithError(Ref d, Ref key) except? NULL    # borrowed; NULL if it is missing
    object PyObject_GenericGetDict(object o, void *context)
    Ref PyList_GET_ITEM(object list, Py_ssize_t i) noexcept      # borrowed
    void PyErr_Clear() noexcept
    void PyErr_WriteUnraisable(Ref o) noexcept
    bint PyErr_ExceptionMatches(Ref exception_or_tuple) noexcept
    bint is_error "PyErr_GivenExceptionMatches"(object exception, object type_or_tuple) noexcept   # by its true type
    bint PyExceptionInstance_Check(object o) noexcept                    # the same
    int PyException_SetTraceback(object exception, object traceback) except -1
    void PyErr_SetObject(object type, object value) noexcept
    int PyErr_CheckSignals() except -1
    void PyObject_GC_UnTrack(Ref o) noexcept
    int PyObject_CallFinalizerFromDealloc(Ref o) noexcept
    int PyObject_GC_IsFinalized(Ref o) noexcept         # the garbage collector has called its finalizer
    unsigned long PyThread_get_thread_ident() noexcept nogil

cdef extern from "shim.h":
    object hoop_take_exception()                        # takes the raised exception and clears it
    Ref hoop_iter_return(Ref value) noexcept            # ends an iterator with a value
    void hoop_drop_stop() noexcept                      # to be called when such an iterator dies
    object hoop_stop_value(object stop_iteration)
    object hoop_traceback(object exception)
    int hoop_require(bint holds, const char *name, const char *what) except -1
    int hoop_check_spared(object type) except -1        # raises ImportError
    int hoop_set_await(object type, unaryfunc f) except -1
    int hoop_set_iternext(object type, iternextfunc f) except -1
    int hoop_inherit_anext(object type, object base) except -1
    int hoop_set_dictoffset(object type, Py_ssize_t offset) except -1
    int hoop_forbid_new(object type) except -1
    int hoop_set_signature(object type, const char *signature) except -1
    int hoop_show_method_as(object type, const char *name, const char *shown) except -1
    traverseproc hoop_swap_traverse(object type, traverseproc f) except? NULL
    inquiry hoop_swap_clear(object type, inquiry f) except? NULL
    destructor hoop_swap_dealloc(object type, destructor f) except? NULL
    void hoop_free(Ref o, destructor slot, destructor free) noexcept
    int hoop_visit(Ref o, visitproc visit, void *arg) noexcept
    ctypedef struct hoop_spares:
        pass
    Ref hoop_revive(hoop_spares *spares) noexcept
    bint hoop_may_spare(hoop_spares *spares, object type, Ref o) noexcept
    bint hoop_is_sole(Ref o) noexcept
    bint hoop_spare(hoop_spares *spares, Ref o) noexcept
    Ref hoop_call(Ref callable, Ref args_tuple) noexcept
    bint hoop_is_method_of(Ref callable, object type) noexcept
    unsigned int hoop_type_version(object type) noexcept
    bint hoop_may_have_changed(object type, unsigned int version) noexcept
    bint hoop_is_static(object type) noexcept
    int hoop_name_type(object type, const char *name) except -1
    bint hoop_is_dead(object weak_reference) noexcept
    PyCFunction hoop_c_method(object descriptor) except NULL

    object hoop_snapshot(object last)                   # a copy of the current context
    Ref call_two_quiet "hoop_call_two"(Ref callable, Ref first, Ref second) noexcept

cdef inline Ref ref(object o) noexcept:                 # borrowed
    return <Ref>o

cdef inline Ref own(object o) noexcept:                 # a counted reference, which the caller owns
    Py_INCREF(<Ref>o)
    return <Ref>o

cdef inline object take(Ref r):                         # turns an owned reference into an object
    o = <object>r
    Py_DECREF(r)
    return o
