/* The code that runs now, in Python: where a task is made. No frame object is made, and no text is read twice. */

#ifndef HOOP_FRAMES_H
#define HOOP_FRAMES_H

#include <Python.h>

/* The first fields of the interpreter's frames, which have no public name. They are the same in versions 3.12 to
   3.14. Where `at` is another field no place is known by it, and the slower way finds all: see below. */
typedef struct hoop_frame {
#if PY_VERSION_HEX < 0x030c0000
    void *function, *globals, *builtins, *locals;
    PyCodeObject *code;
    void *object;
    struct hoop_frame *previous;
    void *at;
#else
    void *executable;
    struct hoop_frame *previous;
    void *function, *globals, *builtins, *locals, *object;
    void *at; /* the instruction */
#endif
} hoop_frame;

static inline hoop_frame *hoop_current_frame(void) {
#if PY_VERSION_HEX < 0x030d0000
    return (hoop_frame *)_PyThreadState_UncheckedGet()->cframe->current_frame;
#else
    return (hoop_frame *)PyThreadState_GetUnchecked()->current_frame;
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
    return (int)((char *)frame->at - (char *)frame->code->co_code_adaptive);
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

/* Instructions that are known: to those of a program belongs the number of their site, to asyncio's and hoop's 0.
   Sites keep their code alive, and this keeps the other code. So an address stays that of one instruction. */
#define HOOP_KNOWN 512
static struct { void *at; unsigned site; } hoop_known[HOOP_KNOWN];

static inline size_t hoop_known_slot(void *at) { return (((size_t)at >> 1) ^ ((size_t)at >> 9)) % HOOP_KNOWN; }

/* Of two in one slot, asyncio's or hoop's stays, for the interpreter comes past it for each task. */
static inline void hoop_know(PyObject *code, int offset, unsigned site) {
    void *at = (char *)((PyCodeObject *)code)->co_code_adaptive + offset;
    size_t i = hoop_known_slot(at);
    if (hoop_known[i].at && !hoop_known[i].site) return;
    if (!site) Py_INCREF(code);
    hoop_known[i].at = at;
    hoop_known[i].site = site;
}

/* The site of the nearest frame outside asyncio and hoop; 0 if not all frames up to there are known. */
static inline unsigned hoop_known_site(void) {
    hoop_frame *frame = hoop_current_frame();
    size_t i;
    for (; frame; frame = frame->previous) {
        i = hoop_known_slot(frame->at);
        if (hoop_known[i].at != frame->at) return 0;
        if (hoop_known[i].site) return hoop_known[i].site;
    }
    return 0;
}

/* The code of the nearest frame outside asyncio and hoop, or else of the nearest frame, and where it is. The
   reference is borrowed. NULL if no code in Python runs. */
static inline PyObject *hoop_caller(PyObject *folders, int *offset, int *is_users) {
    hoop_frame *frame = hoop_current_frame(), *nearest = NULL;
    PyCodeObject *code, *found = NULL;
    for (; frame; frame = frame->previous) {
        code = hoop_frame_code(frame);
        if (code == NULL) continue;
        if (hoop_is_users(code->co_filename, folders)) {
            *offset = hoop_frame_offset(frame);
            *is_users = 1;
            return (PyObject *)code;
        }
        hoop_know((PyObject *)code, hoop_frame_offset(frame), 0);
        if (found == NULL) { found = code; nearest = frame; }
    }
    if (found) *offset = hoop_frame_offset(nearest);
    *is_users = 0;
    return (PyObject *)found;
}

/* The line of an instruction; -1 if it has none. */
static inline int hoop_code_line(PyObject *code, int offset) {
    return PyCode_Addr2Line((PyCodeObject *)code, offset);
}

#endif
