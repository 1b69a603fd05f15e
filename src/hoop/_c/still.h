/* The Python stack of a thread of this process that stands still, read without the GIL. The thread may wake up at any
 * moment and free what is read here. So all is copied by the kernel, which refuses an address that is gone. Whether the
 * copy is true is for the caller to check: it is if the thread has used no processor time meanwhile. */
#ifndef HOOP_STILL_H
#define HOOP_STILL_H

#include "frames.h"
#include "watch.h"
#include <sys/uio.h>

#define HOOP_STILL_FRAMES 64
#define HOOP_STILL_TABLE 8192 /* bytes of the table of lines of a code object */
#define HOOP_STILL_TEXT 400   /* characters of a file's or a function's name */
#define HOOP_STILL_STACK 16384

/* Copy `size` bytes from an address that may be wrong. Returns whether they are there. */
static inline int hoop_copy(void *into, const void *from, size_t size) {
    struct iovec here = {into, size}, there = {(void *)from, size};
    return from && process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Append a character as UTF-8. Returns the end. */
static inline char *hoop_put_utf8(char *end, unsigned c) {
    if (c < 0x80) *end++ = (char)(c < ' ' || c == 0x7f ? '?' : c);
    else {
        if (c < 0x800) *end++ = (char)(0xC0 | c >> 6);
        else {
            if (c < 0x10000) *end++ = (char)(0xE0 | c >> 12);
            else {
                *end++ = (char)(0xF0 | c >> 18);
                *end++ = (char)(0x80 | (c >> 12 & 0x3F));
            }
            *end++ = (char)(0x80 | (c >> 6 & 0x3F));
        }
        *end++ = (char)(0x80 | (c & 0x3F));
    }
    return end;
}

/* Append a str as UTF-8, cut if it is long. Returns the end; NULL if it is no such object. */
static inline char *hoop_put_text(char *end, PyObject *from) {
    PyCompactUnicodeObject text;
    char letters[4 * HOOP_STILL_TEXT];
    PyObject *copy = (PyObject *)&text;
    Py_ssize_t n, i;
    int kind;
    if (!hoop_copy(&text, from, sizeof text) || Py_TYPE(copy) != &PyUnicode_Type || !text._base.state.compact) return NULL;
    n = text._base.length < HOOP_STILL_TEXT ? text._base.length : HOOP_STILL_TEXT;
    kind = (int)text._base.state.kind;
    if (n < 0 || (kind != 1 && kind != 2 && kind != 4)) return NULL;
    if (!hoop_copy(letters, (char *)from + (text._base.state.ascii ? sizeof text._base : sizeof text), (size_t)(n * kind)))
        return n ? NULL : end;
    for (i = 0; i < n; i++)
        end = hoop_put_utf8(end, kind == 1   ? ((unsigned char *)letters)[i]
                                 : kind == 2 ? ((unsigned short *)letters)[i]
                                             : ((unsigned *)letters)[i]);
    return end;
}

/* The line of an instruction of a code object, of which `code` is a copy that this changes. */
static inline int hoop_copied_line(PyCodeObject *code, int offset) {
    struct { PyVarObject head; Py_hash_t hash; char bytes[HOOP_STILL_TABLE]; } table;
    size_t before = offsetof(PyBytesObject, ob_sval), size;
    if (!hoop_copy(&table, code->co_linetable, before) || Py_TYPE((PyObject *)&table) != &PyBytes_Type) return -1;
    size = (size_t)Py_SIZE(&table.head);
    if (size > sizeof table.bytes) size = sizeof table.bytes;
    if (!hoop_copy((char *)&table + before, (char *)code->co_linetable + before, size)) return -1;
    Py_SET_SIZE(&table.head, (Py_ssize_t)size);
    code->co_linetable = (PyObject *)&table;
#if PY_VERSION_HEX < 0x030c0000
    code->_co_linearray = NULL;
#else
    code->_co_monitoring = NULL;
#endif
    return PyCode_Addr2Line(code, offset);
}

/* Append a line about a frame to the text, as faulthandler writes it. Returns the end, which is `text` for a frame
 * that the interpreter puts between others; NULL if this is no frame. `next` is set to the frame that called it. */
static inline char *hoop_put_frame(char *text, void **next) {
    union { hoop_frame frame; void *words[12]; } of;
    union { PyCodeObject code; char bytes[sizeof(PyCodeObject)]; } its;
    char *end = text;
    void *code;
    int offset, line;
    memset(&of, 0, sizeof of);
    if (!hoop_copy(&of, *next, 9 * sizeof(void *))) return NULL; /* what follows may end with the page */
    *next = of.frame.previous;
#if PY_VERSION_HEX < 0x030c0000
    code = of.frame.code;
    offset = (int)((char *)of.frame.at - (char *)((PyCodeObject *)code)->co_code_adaptive);
#else
    code = (void *)((size_t)of.frame.executable & ~(size_t)7); /* the lowest bits tell how it is owned */
    offset = PyUnstable_InterpreterFrame_GetLasti((struct _PyInterpreterFrame *)&of); /* by its address alone */
#endif
    if (!hoop_copy(&its, code, sizeof its)) return NULL;
    if (Py_TYPE((PyObject *)&its.code) != &PyCode_Type) return text;
    memcpy(end, "  File \"", 8);
    end = hoop_put_text(end + 8, its.code.co_filename);
    if (end == NULL || memcmp(text + 8, "<shim>", 6) == 0) return end ? text : NULL;
    line = hoop_copied_line(&its.code, offset);
    end += sprintf(end, "\", line %d in ", line > 0 ? line : its.code.co_firstlineno);
    end = hoop_put_text(end, its.code.co_qualname);
    if (end) *end++ = '\n';
    return end;
}

/* Write the stack of a thread, the address of whose state is at `state`, into `text`, as faulthandler does. Returns the
 * length; 0 if it cannot be read. */
static inline int hoop_read_stack(void *const *state, char *text, int size) {
    PyThreadState *thread;
    void *frame;
    char *end = text + sprintf(text, "Stack (most recent call first):\n"), *last = end;
    int i;
    if (!hoop_copy(&thread, state, sizeof thread) || thread == NULL) return 0;
#if PY_VERSION_HEX < 0x030d0000
    if (!hoop_copy(&frame, &thread->cframe, sizeof frame)) return 0;
    if (!hoop_copy(&frame, &((_PyCFrame *)frame)->current_frame, sizeof frame)) return 0;
#else
    if (!hoop_copy(&frame, &thread->current_frame, sizeof frame)) return 0;
#endif
    for (i = 0; frame && i < HOOP_STILL_FRAMES; i++) {
        if (end - text > size - (8 * HOOP_STILL_TEXT + 64)) break;
        end = hoop_put_frame(end, &frame);
        if (end == NULL) return 0;
    }
    return end == last ? 0 : (int)(end - text);
}

static inline void *hoop_own_state(void) { return PyThreadState_Get(); }

/* Append the stack of a thread to the memfd, if it sleeps in the kernel and does not wake up meanwhile. */
static inline void hoop_note_still(int fd, int tid, void *const *state) {
    char text[HOOP_STILL_STACK];
    long long cpu = hoop_thread_cpu(tid);
    int n, letter = hoop_thread_state(tid);
    if (fd < 0 || cpu < 0 || (letter != 'S' && letter != 'D')) return;
    n = hoop_read_stack(state, text, sizeof text);
    if (n && hoop_thread_cpu(tid) == cpu && write(fd, text, (size_t)n) < 0) return;
}

#endif
