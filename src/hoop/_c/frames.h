/* The code that runs now, in Python: where a task is made. No frame object is made, and no text is read twice. */

#ifndef HOOP_FRAMES_H
#define HOOP_FRAMES_H

#include <Python.h>

/* The first fields of the interpreter's frames, which have no public name. They are the same in all versions
   from 3.12 on. */
typedef struct hoop_frame {
#if PY_VERSION_HEX < 0x030c0000
    void *function, *globals, *builtins, *locals;
    PyCodeObject *code;
    void *object;
    struct hoop_frame *previous;
    _Py_CODEUNIT *before;
#else
    void *executable;
    struct hoop_frame *previous;
#endif
} hoop_frame;

static inline hoop_frame *hoop_current_frame(void) {
#if PY_VERSION_HEX < 0x030d0000
    return (hoop_frame *)PyThreadState_Get()->cframe->current_frame;
#else
    return (hoop_frame *)PyThreadState_Get()->current_frame;
#endif
}

/* The code of a frame, borrowed from it; NULL if it is one that the interpreter puts between others. */
static inline PyCodeObject *hoop_frame_code(hoop_frame *frame) {
#if PY_VERSION_HEX < 0x030c0000
    return frame->code;
#else
    PyObject *code = PyUnstable_InterpreterFrame_GetCode((struct _PyInterpreterFrame *)frame);
    Py_DECREF(code);
    return PyCode_Check(code) ? (PyCodeObject *)code : NULL;
#endif
}

static inline int hoop_frame_offset(hoop_frame *frame) {
#if PY_VERSION_HEX < 0x030c0000
    return (int)(frame->before - (_Py_CODEUNIT *)frame->code->co_code_adaptive) * (int)sizeof(_Py_CODEUNIT);
#else
    return PyUnstable_InterpreterFrame_GetLasti((struct _PyInterpreterFrame *)frame);
#endif
}

/* The files that were judged last, by the address of their names, which are kept alive. A name has four places,
   so that a few files which follow each other do not push each other out. */
#define HOOP_JUDGED 64
#define HOOP_WAYS 4
static struct { PyObject *name; int is_users; } hoop_judged[HOOP_JUDGED + HOOP_WAYS - 1];

/* Whether a file is neither of asyncio nor of hoop. `folders` are theirs, but the last is a program's again. */
static inline int hoop_is_users(PyObject *name, PyObject *folders) {
    static unsigned oldest;
    size_t i = (((size_t)name >> 4) ^ ((size_t)name >> 10)) % HOOP_JUDGED, end = i + HOOP_WAYS;
    Py_ssize_t n, last = PyTuple_GET_SIZE(folders) - 1;
    PyObject *former;
    int users = 1;
    for (; i != end; i++)
        if (hoop_judged[i].name == name) return hoop_judged[i].is_users;
    i = end - HOOP_WAYS + oldest++ % HOOP_WAYS;
    former = hoop_judged[i].name;
    for (n = 0; n <= last; n++)
        if (PyUnicode_Tailmatch(name, PyTuple_GET_ITEM(folders, n), 0, PY_SSIZE_T_MAX, -1) == 1) users = n == last;
    hoop_judged[i].name = Py_NewRef(name);
    hoop_judged[i].is_users = users;
    Py_XDECREF(former);
    return users;
}

/* The code of the nearest frame outside asyncio and hoop, or else of the nearest frame, and where it is. The
   reference is borrowed. NULL if no code in Python runs. */
static inline PyObject *hoop_caller(PyObject *folders, int *offset) {
    hoop_frame *frame = hoop_current_frame(), *nearest = NULL;
    PyCodeObject *code, *found = NULL;
    for (; frame; frame = frame->previous) {
        code = hoop_frame_code(frame);
        if (code == NULL) continue;
        if (hoop_is_users(code->co_filename, folders)) {
            *offset = hoop_frame_offset(frame);
            return (PyObject *)code;
        }
        if (found == NULL) { found = code; nearest = frame; }
    }
    if (found) *offset = hoop_frame_offset(nearest);
    return (PyObject *)found;
}

/* The line of an instruction; -1 if it has none. */
static inline int hoop_code_line(PyObject *code, int offset) {
    return PyCode_Addr2Line((PyCodeObject *)code, offset);
}

#endif
