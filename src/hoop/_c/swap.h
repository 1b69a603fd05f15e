/* Puts functions in place of others: of CPython in a simulation, C methods of a loop, and calls without keywords. */

#ifndef HOOP_SWAP_H
#define HOOP_SWAP_H

#include <Python.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

typedef void *hoop_code; /* a C function of any kind */
typedef PyObject *(*hoop_function)(PyObject *, PyObject *);
typedef PyObject *(*hoop_fast_function)(PyObject *, PyObject **, Py_ssize_t, PyObject *);

/* Put another C function into a builtin function, or into a method of a type in C. Every name that
 * Python knows it by then calls the other one. Return the former. TypeError if its calls are of another kind. */
static inline hoop_code hoop_swap_function(PyObject *o, int flags, hoop_code function) {
    PyMethodDef *method = NULL;
    if (PyCFunction_CheckExact(o)) method = ((PyCFunctionObject *)o)->m_ml;
    else if (Py_IS_TYPE(o, &PyClassMethodDescr_Type) || Py_IS_TYPE(o, &PyMethodDescr_Type))
        method = ((PyMethodDescrObject *)o)->d_method;
    if (method == NULL || method->ml_flags != flags) {
        PyErr_Format(PyExc_TypeError, "%R is called in another way", o);
        return NULL;
    }
    hoop_code former = (hoop_code)method->ml_meth;
    method->ml_meth = (PyCFunction)function;
    return former;
}
/* The same for one that takes keywords. The new one may call the former. */
static inline hoop_fast_function hoop_put_before(PyObject *o, hoop_fast_function function) {
    return (hoop_fast_function)hoop_swap_function(o, METH_FASTCALL | METH_KEYWORDS, (hoop_code)function);
}

/* A number that changes when bytes enter or leave the buffers of a descriptor. */
static inline long long hoop_queued(int fd) {
    int unread = 0, unsent = 0;
    if (ioctl(fd, FIONREAD, &unread) < 0) unread = 0;
    if (ioctl(fd, TIOCOUTQ, &unsent) < 0) unsent = 0;
    return 3LL * unread + unsent;
}

/* How many bytes that were sent on a Unix socket nobody has received. -1 if that cannot be said. */
static inline int hoop_unsent(int fd) {
    int n = 0;
    return ioctl(fd, TIOCOUTQ, &n) < 0 ? -1 : n;
}

/* The number of the file behind a descriptor; 0 if it is closed. An older libc has no symbol for fstat(). */
static inline unsigned long hoop_inode(int fd) {
    struct statx s;
    return statx(fd, "", AT_EMPTY_PATH, STATX_INO, &s) < 0 ? 0 : (unsigned long)s.stx_ino;
}

/* Whether the other end of a pair of sockets is closed. */
static inline int hoop_has_hung_up(int fd) {
    struct pollfd p = {.fd = fd, .events = 0};
    return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

typedef PyObject *(*hoop_way)(PyObject *, PyObject **, size_t, PyObject *); /* a vectorcallfunc */

/* How a builtin function was called before hoop_turn_calls(). */
typedef struct {
    hoop_way way;
    int flags;
} hoop_calls;

/* Have each call of a builtin function go to `way`, which learns what was called. TypeError if it cannot be. */
static inline int hoop_turn_calls(PyObject *o, hoop_way way, hoop_calls *former) {
    PyCFunctionObject *function = (PyCFunctionObject *)o;
    if (!PyCFunction_CheckExact(o) || function->vectorcall == NULL) {
        PyErr_Format(PyExc_TypeError, "the calls of %R cannot be turned", o);
        return -1;
    }
    former->way = (hoop_way)function->vectorcall;
    former->flags = function->m_ml->ml_flags;
    /* For the kinds of functions that exist, calls take short cuts. There are none for this kind. */
    function->m_ml->ml_flags = METH_KEYWORDS;
    function->vectorcall = (vectorcallfunc)way;
    return 0;
}
static inline void hoop_turn_back(PyObject *o, const hoop_calls *former) {
    ((PyCFunctionObject *)o)->m_ml->ml_flags = former->flags;
    ((PyCFunctionObject *)o)->vectorcall = (vectorcallfunc)former->way;
}

/* Return the function by which objects of a class are hashed. */
static inline hashfunc hoop_hash_of(PyObject *type) { return ((PyTypeObject *)type)->tp_hash; }
static inline void hoop_set_hash(PyObject *type, hashfunc f) { ((PyTypeObject *)type)->tp_hash = f; }

/* Have a method of a builtin type, such as object.__hash__, call `f`. Classes that Python code makes from now on
 * inherit `f`. TypeError if it is no longer the method of the type. */
static inline int hoop_set_method(PyObject *method, hoop_code f) {
    if (!Py_IS_TYPE(method, &PyWrapperDescr_Type)) {
        PyErr_Format(PyExc_TypeError, "%R is another method", method);
        return -1;
    }
    ((PyWrapperDescrObject *)method)->d_wrapped = f;
    return 0;
}

/* Return the function that initializes objects of a class. */
static inline initproc hoop_init_of(PyObject *type) { return ((PyTypeObject *)type)->tp_init; }
static inline void hoop_set_init(PyObject *type, initproc f) { ((PyTypeObject *)type)->tp_init = f; }

/* Have `f` called when an object of a class dies. Return 0 if the class has a finalizer, or is none that Python
 * code made, as `model` is. */
static inline int hoop_finalize_with(PyObject *type, PyObject *model, destructor f) {
    PyTypeObject *cls = (PyTypeObject *)type;
    if (cls->tp_finalize == f) return 1;
    if (cls->tp_finalize != NULL || cls->tp_dealloc != ((PyTypeObject *)model)->tp_dealloc) return 0;
    cls->tp_finalize = f;
    return 1;
}

/* Take the address of an object that dies out of a dict, where it has a hash and a mark. An object of a cycle does
 * not die yet: finalizers of others come after its own, and may hash it. Its mark becomes `finalized`. An exception
 * may be on its way. */
static inline void hoop_forget(PyObject *addresses, PyObject *o, PyObject *finalized) {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *raised = PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
#endif
    PyObject *address = PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)o);
    PyObject *found = address == NULL ? NULL : PyDict_GetItemWithError(addresses, address);
    if (found != NULL && Py_REFCNT(o) > 1) {
        found = PyTuple_Pack(2, PyTuple_GET_ITEM(found, 0), finalized);
        if (found != NULL) PyDict_SetItem(addresses, address, found);
        Py_XDECREF(found);
    } else if (found != NULL) {
        PyDict_DelItem(addresses, address);
    }
    if (PyErr_Occurred()) PyErr_WriteUnraisable(o);
    Py_XDECREF(address);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(raised);
#else
    PyErr_Restore(type, value, traceback);
#endif
}

/* Cython keeps the table of an object's C methods in the first field of the class that began it. `before` is the
 * base of that class. */
static inline void **hoop_methods(PyObject *o, PyObject *before) {
    return (void **)((char *)o + ((PyTypeObject *)before)->tp_basicsize);
}

/* Return whether `o` has the C methods of `model`. */
static inline int hoop_has_methods(PyObject *o, PyObject *model, PyObject *before) {
    return *hoop_methods(o, before) == *hoop_methods(model, before);
}

/* Give `o` the C methods of `model`, whose class derives from that of `plain` and adds no fields. TypeError if
 * `o` has other methods than `plain`. */
static inline int hoop_adopt_methods(PyObject *o, PyObject *plain, PyObject *model, PyObject *before) {
    if (!hoop_has_methods(o, plain, before) || hoop_has_methods(o, model, before) ||
        Py_TYPE(plain)->tp_basicsize != Py_TYPE(model)->tp_basicsize) {
        PyErr_Format(PyExc_TypeError, "the C methods of %R cannot be changed", o);
        return -1;
    }
    *hoop_methods(o, before) = *hoop_methods(model, before);
    return 0;
}

#endif
