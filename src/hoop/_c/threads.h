/* Methods of CPython's that block a thread, and that a simulation puts its own in place of: see blocking.py.
 *
 * A method is changed inside of its PyMethodDef. So bound methods that were taken long ago change, too. CPython
 * calls it as its flags say, which differ from one version of Python to the next. A place has a function for
 * each kind of call. All lead to one way, which gets a tuple and a dict, but only in the thread of the world. */

#ifndef HOOP_THREADS_H
#define HOOP_THREADS_H

#include <Python.h>
#include <pythread.h>

#define HOOP_PLACES 16

/* A function that is called in place of a method. `kwargs` may be NULL. */
typedef PyObject *(*hoop_blocking_way)(int place, PyObject *self, PyObject *args, PyObject *kwargs);

static PyMethodDef *hoop_methods_at[HOOP_PLACES];
static PyTypeObject *hoop_classes_at[HOOP_PLACES]; /* that define the methods */
static PyCFunction hoop_real_at[HOOP_PLACES];
static hoop_blocking_way hoop_way_of_blocking;
static unsigned long hoop_thread_with_turn; /* 0 if no world runs */

/* Say where calls go, and which thread is in the world. */
static inline void hoop_block_by(hoop_blocking_way way) { hoop_way_of_blocking = way; }
static inline void hoop_give_turn(unsigned long ident) { hoop_thread_with_turn = ident; }

static inline int hoop_has_turn(void) {
    return hoop_thread_with_turn != 0 && PyThread_get_thread_ident() == hoop_thread_with_turn;
}

/* Call the way with the arguments of a fast call. */
static PyObject *hoop_go_fast(int place, PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    PyObject *result = NULL, *kwargs = NULL;
    PyObject *tuple = PyTuple_New(n);
    if (tuple == NULL) return NULL;
    for (Py_ssize_t i = 0; i < n; i++) PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (named && (kwargs = PyDict_New()) == NULL) goto done;
    for (Py_ssize_t i = 0; i < named; i++)
        if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(names, i), args[n + i]) < 0) goto done;
    result = hoop_way_of_blocking(place, self, tuple, kwargs);
done:
    Py_DECREF(tuple);
    Py_XDECREF(kwargs);
    return result;
}

/* Call the way with one argument, or none. */
static PyObject *hoop_go_plain(int place, PyObject *self, PyObject *argument) {
    PyObject *tuple = argument == NULL ? PyTuple_New(0) : PyTuple_Pack(1, argument);
    if (tuple == NULL) return NULL;
    PyObject *result = hoop_way_of_blocking(place, self, tuple, NULL);
    Py_DECREF(tuple);
    return result;
}

typedef PyObject *(*hoop_fast)(PyObject *, PyObject *const *, Py_ssize_t);
typedef PyObject *(*hoop_fast_named)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
typedef PyObject *(*hoop_fast_of_class)(PyObject *, PyTypeObject *, PyObject *const *, size_t, PyObject *);
typedef PyObject *(*hoop_named)(PyObject *, PyObject *, PyObject *);

#define HOOP_REAL(kind, place) ((kind)(void (*)(void))hoop_real_at[place])

#define HOOP_PLACE(P)                                                                                          \
    static PyObject *hoop_plain_##P(PyObject *self, PyObject *argument) {                                      \
        if (!hoop_has_turn()) return hoop_real_at[P](self, argument);                                          \
        return hoop_go_plain(P, self, argument);                                                               \
    }                                                                                                          \
    static PyObject *hoop_tuple_##P(PyObject *self, PyObject *args) {                                          \
        if (!hoop_has_turn()) return hoop_real_at[P](self, args);                                              \
        return hoop_way_of_blocking(P, self, args, NULL);                                                      \
    }                                                                                                          \
    static PyObject *hoop_named_##P(PyObject *self, PyObject *args, PyObject *kwargs) {                        \
        if (!hoop_has_turn()) return HOOP_REAL(hoop_named, P)(self, args, kwargs);                             \
        return hoop_way_of_blocking(P, self, args, kwargs);                                                    \
    }                                                                                                          \
    static PyObject *hoop_fast_##P(PyObject *self, PyObject *const *args, Py_ssize_t n) {                      \
        if (!hoop_has_turn()) return HOOP_REAL(hoop_fast, P)(self, args, n);                                   \
        return hoop_go_fast(P, self, args, n, NULL);                                                           \
    }                                                                                                          \
    static PyObject *hoop_fast_named_##P(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) { \
        if (!hoop_has_turn()) return HOOP_REAL(hoop_fast_named, P)(self, args, n, names);                      \
        return hoop_go_fast(P, self, args, n, names);                                                          \
    }                                                                                                          \
    static PyObject *hoop_fast_of_class_##P(PyObject *self, PyTypeObject *cls, PyObject *const *args, size_t n, \
                                            PyObject *names) {                                                 \
        if (!hoop_has_turn()) return HOOP_REAL(hoop_fast_of_class, P)(self, cls, args, n, names);              \
        return hoop_go_fast(P, self, args, PyVectorcall_NARGS(n), names);                                      \
    }

#define HOOP_EACH_PLACE(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

HOOP_EACH_PLACE(HOOP_PLACE)

#define HOOP_ROW(P)                                                                                            \
    {                                                                                                          \
        hoop_plain_##P, hoop_tuple_##P, (PyCFunction)(void (*)(void))hoop_named_##P,                           \
            (PyCFunction)(void (*)(void))hoop_fast_##P, (PyCFunction)(void (*)(void))hoop_fast_named_##P,      \
            (PyCFunction)(void (*)(void))hoop_fast_of_class_##P,                                               \
    },

static const PyCFunction hoop_ours_at[HOOP_PLACES][6] = {HOOP_EACH_PLACE(HOOP_ROW)};

/* Which of the six functions of a place is called by these flags; -1 if none is. */
static inline int hoop_kind_of_call(int flags) {
    switch (flags) {
        case METH_NOARGS:
        case METH_O: return 0;
        case METH_VARARGS: return 1;
        case METH_VARARGS | METH_KEYWORDS: return 2;
        case METH_FASTCALL: return 3;
        case METH_FASTCALL | METH_KEYWORDS: return 4;
        case METH_METHOD | METH_FASTCALL | METH_KEYWORDS: return 5;
        default: return -1;
    }
}

/* Have calls of a method in the thread of the world go another way. TypeError if it is called in none we know. */
static inline int hoop_block_at(int place, PyObject *method) {
    PyMethodDef *found = NULL;
    if (Py_IS_TYPE(method, &PyMethodDescr_Type)) found = ((PyMethodDescrObject *)method)->d_method;
    int kind = found == NULL ? -1 : hoop_kind_of_call(found->ml_flags);
    if (kind < 0 || place < 0 || place >= HOOP_PLACES) {
        PyErr_Format(PyExc_TypeError, "%R is called in another way", method);
        return -1;
    }
    hoop_methods_at[place] = found;
    hoop_classes_at[place] = PyDescr_TYPE(method);
    hoop_real_at[place] = found->ml_meth;
    found->ml_meth = hoop_ours_at[place][kind];
    return 0;
}

/* Put the method back. */
static inline void hoop_unblock_at(int place) {
    if (hoop_methods_at[place] == NULL) return;
    hoop_methods_at[place]->ml_meth = hoop_real_at[place];
    hoop_methods_at[place] = NULL;
}

/* Call the method itself. `kwargs` may be NULL. */
static PyObject *hoop_really(int place, PyObject *self, PyObject *args, PyObject *kwargs) {
    PyObject *const *given = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    PyObject *names = NULL, *result = NULL, *flat = NULL;
    switch (hoop_methods_at[place]->ml_flags) {
        case METH_NOARGS: return hoop_real_at[place](self, NULL);
        case METH_O: return hoop_real_at[place](self, given[0]);
        case METH_VARARGS: return hoop_real_at[place](self, args);
        case METH_VARARGS | METH_KEYWORDS: return HOOP_REAL(hoop_named, place)(self, args, kwargs);
        case METH_FASTCALL: return HOOP_REAL(hoop_fast, place)(self, given, n);
    }
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) { /* a fast call has the values of names after the others */
        PyObject *key, *value;
        Py_ssize_t at = 0, i = 0;
        if ((flat = PyList_New(0)) == NULL || (names = PyTuple_New(PyDict_GET_SIZE(kwargs))) == NULL) goto done;
        for (Py_ssize_t k = 0; k < n; k++)
            if (PyList_Append(flat, given[k]) < 0) goto done;
        while (PyDict_Next(kwargs, &at, &key, &value)) {
            PyTuple_SET_ITEM(names, i++, Py_NewRef(key));
            if (PyList_Append(flat, value) < 0) goto done;
        }
        given = ((PyListObject *)flat)->ob_item;
    }
    if (hoop_methods_at[place]->ml_flags & METH_METHOD)
        result = HOOP_REAL(hoop_fast_of_class, place)(self, hoop_classes_at[place], given, (size_t)n, names);
    else
        result = HOOP_REAL(hoop_fast_named, place)(self, given, n, names);
done:
    Py_XDECREF(names);
    Py_XDECREF(flat);
    return result;
}

/* Wait for a lock of C's without the GIL, for so many microseconds, or for ever if it is negative. */
static inline int hoop_wait_for(PyThread_type_lock lock, long long microseconds) {
    PyLockStatus status;
    Py_BEGIN_ALLOW_THREADS
    status = PyThread_acquire_lock_timed(lock, microseconds, 0);
    Py_END_ALLOW_THREADS
    return status == PY_LOCK_ACQUIRED;
}

#endif
