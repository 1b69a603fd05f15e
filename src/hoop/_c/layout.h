/* Reads objects in the same way as shim.h and Cython's code, so that selfcheck.py can compare the results. */
#ifndef HOOP_LAYOUT_H
#define HOOP_LAYOUT_H

#include <Python.h>
#include <string.h>
#include "shim.h"

static inline Py_ssize_t hoop_head_size(void) { return (Py_ssize_t)sizeof(PyObject); }
static inline Py_ssize_t hoop_type_size(void) { return (Py_ssize_t)sizeof(PyHeapTypeObject); }

static inline int hoop_finds_stop_value(PyObject *stop, PyObject *value) {
    PyStopIterationObject *found = (PyStopIterationObject *)stop;
    return Py_TYPE(stop)->tp_basicsize == (Py_ssize_t)sizeof(PyStopIterationObject) && found->value == value &&
           PyTuple_CheckExact(found->args) && PyTuple_GET_ITEM(found->args, 0) == value && !found->dict && !found->traceback;
}
static inline int hoop_finds_referent(PyObject *weak, PyObject *referent) {
    return Py_TYPE(weak)->tp_basicsize == (Py_ssize_t)sizeof(PyWeakReference) &&
           ((PyWeakReference *)weak)->wr_object == referent;
}
static inline int hoop_finds_variables(PyObject *context, PyObject *like, PyObject *unlike) {
    return Py_TYPE(context)->tp_basicsize >= (Py_ssize_t)(sizeof(PyObject) + 2 * sizeof(PyObject *)) &&
           hoop_variables(context) == hoop_variables(like) && hoop_variables(context) != hoop_variables(unlike) &&
           strcmp(Py_TYPE(hoop_variables(context))->tp_name, "hamt") == 0;
}
static inline int hoop_finds_c_function(PyObject *method, const char *name) {
    return Py_TYPE(method)->tp_basicsize == (Py_ssize_t)sizeof(PyMethodDescrObject) &&
           strcmp(((PyMethodDescrObject *)method)->d_method->ml_name, name) == 0 &&
           ((PyMethodDescrObject *)method)->d_method->ml_flags == METH_O;
}

#endif
