/* Small things that neither Cython nor CPython's stable headers offer.
 *
 * They set slots of types that exist already, end an iterator without making a StopIteration object, and
 * make system calls that return -errno. */
#ifndef HOOP_SHIM_H
#define HOOP_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How many dead objects of a kind are kept to be used again. Debug builds keep none, so that they notice
 * each use of a dead object. A build with sanitizers keeps them if the environment has HOOP_SPARES=1. */
#define HOOP_SPARES 128
#if defined(HOOP_POISON)
static inline int hoop_spares_max(void) {
    static int max = -1;
    const char *asked = max < 0 ? getenv("HOOP_SPARES") : NULL;
    if (max < 0) max = asked && *asked == '1' ? HOOP_SPARES : 0;
    return max;
}
#elif defined(HOOP_DEBUG) || defined(Py_GIL_DISABLED)
#define hoop_spares_max() 0
#else
#define hoop_spares_max() HOOP_SPARES
#endif

/* ---- contexts ---------------------------------------------------------------------------------- */

/* The variables of a context: an object that never changes. A context that changes gets another one. */
#define hoop_variables(context) (((PyObject **)((char *)(context) + sizeof(PyObject)))[1])

/* Return a copy of the current context (a new reference). If `last` was such a copy, and no variable has
 * another value since then, it is that one again. So nobody may change it. */
static inline PyObject *hoop_snapshot(PyObject *last) {
#ifndef Py_GIL_DISABLED
    PyObject *current = PyThreadState_Get()->context;
    if (last != Py_None && current != NULL && hoop_variables(current) == hoop_variables(last)) return Py_NewRef(last);
#endif
    return PyContext_CopyCurrent();
}

/* ---- exceptions -------------------------------------------------------------------------------- */

/* Take the raised exception (a new reference). None if there is none. */
static inline PyObject *hoop_take_exception(void) {
    PyObject *exc;
#if PY_VERSION_HEX >= 0x030C0000
    exc = PyErr_GetRaisedException();
#else
    PyObject *type, *traceback;
    PyErr_Fetch(&type, &exc, &traceback);
    if (type != NULL) {
        PyErr_NormalizeException(&type, &exc, &traceback);
        if (traceback) {
            PyException_SetTraceback(exc, traceback);
            Py_DECREF(traceback);
        }
        Py_DECREF(type);
    }
#endif
    if (exc == NULL) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    return exc;
}

static inline PyObject *hoop_stop_with(PyObject *value) {
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

/* Return an exception's traceback, or None. It does not look at properties of a subclass. */
static inline PyObject *hoop_traceback(PyObject *exc) {
    PyObject *traceback = PyException_GetTraceback(exc);
    return traceback ? traceback : Py_NewRef(Py_None);
}

/* Return the value of a StopIteration, or of an instance of a subclass. */
static inline PyObject *hoop_stop_value(PyObject *stop) {
    PyObject *value = ((PyStopIterationObject *)stop)->value;
    return Py_NewRef(value ? value : Py_None);
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED) && (!defined(HOOP_DEBUG) || defined(HOOP_POISON))
#define HOOP_USES_STOPS_AGAIN 1
/* The StopIteration that ends an await lives for some nanoseconds. Making it costs more than all else about
 * the await. So each module keeps one, and the tuple of its arguments. It uses them again while nobody else
 * has a reference to either. The object keeps its value until the iterator dies: see hoop_drop_stop(). */
static PyStopIterationObject *hoop_stop = NULL;
static int hoop_stop_is_full = 0;

static PyStopIterationObject *hoop_new_stop(void) {
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, Py_None);
    if (stop == NULL) return NULL;
    Py_XSETREF(hoop_stop, (PyStopIterationObject *)stop);
    return hoop_stop;
}

/* Whether nobody else has a reference to the kept StopIteration, and it is as good as new. */
static inline int hoop_stop_is_ours(void) {
    PyStopIterationObject *stop = hoop_stop;
    return stop && Py_REFCNT(stop) == 1 && Py_REFCNT(stop->args) == 1 &&
           PyTuple_GET_SIZE(stop->args) == 1 && !stop->traceback && !stop->context &&
           !stop->cause && !stop->dict && !stop->notes && !stop->suppress_context;
}

static void hoop_fill_stop(PyStopIterationObject *stop, PyObject *value) {
    PyObject *old_value = stop->value, *old_argument = PyTuple_GET_ITEM(stop->args, 0);
    stop->value = Py_NewRef(value);
    PyTuple_SET_ITEM(stop->args, 0, Py_NewRef(value));
    Py_XDECREF(old_value);
    Py_DECREF(old_argument);
}

/* Clear the value of the kept StopIteration. An iterator that dies calls this. */
static void hoop_empty_stop(void) {
    hoop_stop_is_full = 0;
    if (hoop_stop_is_ours())
        hoop_fill_stop(hoop_stop, Py_None);
    else
        Py_CLEAR(hoop_stop);
}
static inline void hoop_drop_stop(void) {
    if (hoop_stop_is_full) hoop_empty_stop();
}
#else
static inline void hoop_drop_stop(void) {}
#endif

/* End an iterator with `value` (borrowed). Returning NULL without an exception means None. Before Python
 * 3.12 a StopIteration is made only if somebody looks at it. The caller must call hoop_drop_stop() when it
 * dies. */
static inline PyObject *hoop_iter_return(PyObject *value) {
    if (value == Py_None) return NULL;
#if PY_VERSION_HEX < 0x030C0000
    if (PyTuple_Check(value) || PyExceptionInstance_Check(value)) return hoop_stop_with(value);
    Py_INCREF(PyExc_StopIteration);
    Py_INCREF(value);
    PyErr_Restore(PyExc_StopIteration, value, NULL);
    return NULL;
#elif !defined(HOOP_USES_STOPS_AGAIN)
    return hoop_stop_with(value);
#else
    PyStopIterationObject *stop = hoop_stop;
    if (!hoop_spares_max()) return hoop_stop_with(value);
    if (!hoop_stop_is_ours() && (stop = hoop_new_stop()) == NULL) return NULL;
    /* The garbage collector stops tracking a tuple that holds nothing to collect. */
    if (!PyObject_GC_IsTracked(stop->args)) PyObject_GC_Track(stop->args);
    hoop_stop_is_full = 1;
    Py_INCREF(stop); /* first, because dropping the old value may run any code */
    hoop_fill_stop(stop, value);
    PyErr_SetRaisedException((PyObject *)stop);
    return NULL;
#endif
}

/* Whether a callable is a method, written in C, of an object of that type. */
static inline int hoop_is_method_of(PyObject *callable, PyObject *type) {
    PyObject *self;
    if (!PyCFunction_CheckExact(callable)) return 0;
    self = PyCFunction_GET_SELF(callable);
    return self && PyObject_TypeCheck(self, (PyTypeObject *)type);
}

/* Call with a tuple of arguments. The callable and the tuple stay alive during the call. */
static inline PyObject *hoop_call(PyObject *callable, PyObject *args) {
    Py_INCREF(callable);
    Py_INCREF(args);
    PyObject *result = PyObject_Vectorcall(callable, &PyTuple_GET_ITEM(args, 0),
                                           (size_t)PyTuple_GET_SIZE(args), NULL);
    Py_DECREF(args);
    Py_DECREF(callable);
    return result;
}

static inline PyObject *hoop_call_two(PyObject *callable, PyObject *first, PyObject *second) {
    PyObject *args[] = {NULL, first, second};
    return PyObject_Vectorcall(callable, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* Return the C function of a builtin type's method with one argument or none. Else TypeError. */
static inline PyCFunction hoop_c_method(PyObject *descriptor) {
    if (Py_IS_TYPE(descriptor, &PyMethodDescr_Type)) {
        PyMethodDef *method = ((PyMethodDescrObject *)descriptor)->d_method;
        if (method->ml_flags == METH_O || method->ml_flags == METH_NOARGS) return method->ml_meth;
    }
    PyErr_Format(PyExc_TypeError, "%R is called in another way", descriptor);
    return NULL;
}

/* A static type has its module in its name, up to the last dot. */
static inline int hoop_is_static(PyObject *type) {
    return !(((PyTypeObject *)type)->tp_flags & Py_TPFLAGS_HEAPTYPE);
}

/* The copy is never freed: a static type lives as long as the process, longer than any Python object. */
static inline int hoop_name_type(PyObject *type, const char *name) {
    char *copy = strdup(name);
    if (copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ((PyTypeObject *)type)->tp_name = copy;
    PyType_Modified((PyTypeObject *)type);
    return 0;
}

/* Return the number that a class has until it or one of its bases changes; 0 if it has none now. From Python 3.13 on
 * a class that has changed a thousand times gets none any more. */
static inline unsigned int hoop_type_version(PyObject *type) { return ((PyTypeObject *)type)->tp_version_tag; }
static inline int hoop_may_have_changed(PyObject *type, unsigned int version) {
    return version == 0 || hoop_type_version(type) != version;
}

/* Whether the object of a weak reference is gone. */
static inline int hoop_is_dead(PyObject *weak) { return ((PyWeakReference *)weak)->wr_object == Py_None; }

/* ---- type slots, set before the type is first used ------------------------------------------------ */

/* Another Cython or CPython may lay out its types differently. So each assumption is checked, and importing
 * hoop raises ImportError rather than crash later. */
#define HOOP_STR_(x) #x
#define HOOP_STR(x) HOOP_STR_(x)
static inline int hoop_require(int holds, const char *name, const char *what) {
    if (holds) return 0;
    PyErr_Format(PyExc_ImportError,
                 "hoop was compiled for Python %s (Cython " HOOP_STR(CYTHON_HEX_VERSION) ") and does not fit "
                 "this Python %s: %s %s. Please compile hoop again; if that does not help, report this.",
                 PY_VERSION, Py_GetVersion(), name, what);
    return -1;
}

/* Whether the offset of a pointer lies inside a type's objects. */
static inline int hoop_lies_in(PyTypeObject *tp, Py_ssize_t offset) {
    return offset >= (Py_ssize_t)sizeof(PyObject) && offset % sizeof(PyObject *) == 0 &&
           offset <= tp->tp_basicsize - (Py_ssize_t)sizeof(PyObject *);
}

/* Check a type whose slots are to be set. It must be static, as heap types do more when an object dies. */
static inline int hoop_check_type(PyObject *type) {
    PyTypeObject *tp = (PyTypeObject *)type;
    if (!PyType_Check(type)) return hoop_require(0, "something", "is no type");
    if (hoop_require(!(tp->tp_flags & Py_TPFLAGS_HEAPTYPE), tp->tp_name, "is a heap type")) return -1;
    if (hoop_require((tp->tp_flags & Py_TPFLAGS_READY) != 0, tp->tp_name, "is not ready")) return -1;
    return hoop_require(tp->tp_itemsize == 0, tp->tp_name, "has objects of several sizes");
}
/* Check a type whose dead objects are to be kept. */
static inline int hoop_check_spared(PyObject *type) {
    PyTypeObject *tp = (PyTypeObject *)type;
    if (hoop_check_type(type) < 0) return -1;
    if (hoop_require(PyType_IS_GC(tp), tp->tp_name, "is not seen by the garbage collector")) return -1;
    return hoop_require(hoop_lies_in(tp, tp->tp_weaklistoffset), tp->tp_name,
                        "keeps its weak references elsewhere");
}

static inline int hoop_set_await(PyObject *type, unaryfunc f) {
    PyTypeObject *tp = (PyTypeObject *)type;
    if (hoop_check_type(type) < 0) return -1;
    if (tp->tp_as_async == NULL) {
        tp->tp_as_async = PyMem_Calloc(1, sizeof(PyAsyncMethods)); /* never freed, like the type */
        if (tp->tp_as_async == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    tp->tp_as_async->am_await = f;
    PyType_Modified(tp);
    return 0;
}
/* Give a class the `async for` of its base, if it has no __anext__ of its own. Python would have looked the
 * base's method up for each line, as Cython adds such methods to the slots. */
static inline int hoop_inherit_anext(PyObject *type, PyObject *base) {
    PyTypeObject *tp = (PyTypeObject *)type;
    if (hoop_check_type(base) < 0) return -1;
    if (hoop_require(PyType_IsSubtype(tp, (PyTypeObject *)base), tp->tp_name, "is no subclass")) return -1;
    tp->tp_as_async->am_anext = ((PyTypeObject *)base)->tp_as_async->am_anext;
    PyType_Modified(tp);
    return 0;
}
static inline int hoop_set_iternext(PyObject *type, iternextfunc f) {
    if (hoop_check_type(type) < 0) return -1;
    ((PyTypeObject *)type)->tp_iternext = f;
    PyType_Modified((PyTypeObject *)type);
    return 0;
}
static inline int hoop_set_dictoffset(PyObject *type, Py_ssize_t offset) {
    PyTypeObject *tp = (PyTypeObject *)type;
    if (hoop_check_type(type) < 0) return -1;
    if (hoop_require(hoop_lies_in(tp, offset), tp->tp_name, "has no place for a __dict__")) return -1;
#ifdef Py_TPFLAGS_MANAGED_DICT
    if (hoop_require(!(tp->tp_flags & Py_TPFLAGS_MANAGED_DICT), tp->tp_name, "keeps its __dict__ elsewhere"))
        return -1;
#endif
    tp->tp_dictoffset = offset;
    PyType_Modified(tp);
    return 0;
}
/* Give a class the signature that inspect finds before its documentation: "(value=1)". */
static inline int hoop_set_signature(PyObject *type, const char *signature) {
    PyTypeObject *tp = (PyTypeObject *)type;
    const char *name = strrchr(tp->tp_name, '.'), *doc = tp->tp_doc ? tp->tp_doc : "";
    name = name ? name + 1 : tp->tp_name;
    size_t size = strlen(name) + strlen(signature) + strlen(doc) + sizeof "\n--\n\n";
    char *text = PyMem_Malloc(size); /* never freed, like the type */
    if (text == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    snprintf(text, size, "%s%s\n--\n\n%s", name, signature, doc);
    tp->tp_doc = text;
    return 0;
}

/* Have the bound methods of a class show another name than the attribute has. */
static inline int hoop_show_method_as(PyObject *type, const char *name, const char *shown) {
    PyObject *method = PyObject_GetAttrString(type, name);
    if (method == NULL)
        return -1;
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type)) {
        PyErr_Format(PyExc_TypeError, "%s is no method in C", name);
        Py_DECREF(method);
        return -1;
    }
    ((PyMethodDescrObject *)method)->d_method->ml_name = shown;
    Py_DECREF(method);
    return 0;
}
static PyObject *hoop_refuse_new(PyObject *type, PyObject *args) {
    PyErr_Format(PyExc_TypeError, "cannot create '%s' instances", ((PyTypeObject *)type)->tp_name);
    return NULL;
}
static int hoop_refuse_init(PyObject *self, PyObject *args, PyObject *keywords) {
    return hoop_refuse_new((PyObject *)Py_TYPE(self), args) ? 0 : -1;
}
/* Forbid to make objects of a class by __new__() alone, or by a call if it has no __init__(). Such objects
 * would crash, because compiled code has not filled them in. C code still uses tp_new. */
static inline int hoop_forbid_new(PyObject *type) {
    static PyMethodDef refuse = {"__new__", hoop_refuse_new, METH_VARARGS, NULL};
    PyTypeObject *tp = (PyTypeObject *)type;
    PyObject *method = PyCFunction_New(&refuse, type);
    if (method == NULL) return -1;
    int error = PyDict_SetItemString(tp->tp_dict, "__new__", method);
    Py_DECREF(method);
    if (tp->tp_init == NULL || tp->tp_init == PyBaseObject_Type.tp_init) {
        tp->tp_init = hoop_refuse_init;
        tp->tp_vectorcall = NULL; /* Cython's would not call tp_init */
    }
    PyType_Modified(tp);
    return error;
}
/* These set a slot and return its former value. If they fail, an exception is set. */
static inline traverseproc hoop_swap_traverse(PyObject *type, traverseproc f) {
    if (hoop_check_type(type) < 0) return NULL;
    traverseproc old = ((PyTypeObject *)type)->tp_traverse;
    ((PyTypeObject *)type)->tp_traverse = f;
    return old;
}
static inline inquiry hoop_swap_clear(PyObject *type, inquiry f) {
    if (hoop_check_type(type) < 0) return NULL;
    inquiry old = ((PyTypeObject *)type)->tp_clear;
    ((PyTypeObject *)type)->tp_clear = f;
    return old;
}
static inline destructor hoop_swap_dealloc(PyObject *type, destructor f) {
    if (hoop_check_type(type) < 0) return NULL;
    destructor old = ((PyTypeObject *)type)->tp_dealloc;
    ((PyTypeObject *)type)->tp_dealloc = f;
    return old;
}

/* A chain of objects, each the only owner of the next, is freed by calls inside each other. It may be longer
 * than the C stack. Python's trashcan frees its rest later, one by one. It costs more than a count of the
 * nested calls, so that it begins at some depth. From Python 3.14 on, Python does so for every class.
 *
 * `free` frees the object; `slot` is the tp_dealloc that calls this. A subclass of Python's has been to the
 * trashcan already, and has another slot. */
#if PY_VERSION_HEX < 0x030E0000
#define HOOP_SHALLOW 100
static int hoop_freeing = 0;

static void hoop_free_deep(PyObject *o, destructor slot, destructor free) {
    int is_exact = Py_TYPE(o)->tp_dealloc == slot;
    if (is_exact) PyObject_GC_UnTrack(o); /* the trashcan uses its links */
    Py_TRASHCAN_BEGIN(o, slot)
    if (is_exact) PyObject_GC_Track(o); /* as `free` expects it */
    free(o);
    Py_TRASHCAN_END
}
static inline void hoop_free(PyObject *o, destructor slot, destructor free) {
    if (hoop_freeing >= HOOP_SHALLOW) {
        hoop_free_deep(o, slot, free);
        return;
    }
    hoop_freeing++;
    free(o);
    hoop_freeing--;
}
#else
static inline void hoop_free(PyObject *o, destructor slot, destructor free) { free(o); }
#endif
static inline int hoop_visit(PyObject *o, visitproc visit, void *arg) { return o ? visit(o, arg) : 0; }

/* ---- spare objects ---------------------------------------------------------------------------------
 * Handles, futures and tasks are made and dropped all the time. Some dead ones are emptied and kept, to be
 * used again. A build with sanitizers poisons them: see below. */

typedef struct {
    PyObject *objects[HOOP_SPARES];
    int count;
#if defined(HOOP_POISON)
    PyTypeObject *type;
#endif
} hoop_spares;

#if defined(HOOP_POISON)
#include <sanitizer/asan_interface.h>
/* Make each use of a spare object fail. The sanitizer finds uses in compiled code. The interpreter crashes
 * at an invalid type. A spare is used again only after some others have died, and the oldest comes first. */
#define HOOP_RESTING 8
#define HOOP_NO_TYPE ((PyTypeObject *)(uintptr_t)0xdead0000)
static inline PyObject *hoop_take_spare(hoop_spares *spares) {
    if (spares->count <= HOOP_RESTING) return NULL;
    PyObject *o = spares->objects[0];
    memmove(spares->objects, spares->objects + 1, sizeof(PyObject *) * (size_t)--spares->count);
    ASAN_UNPOISON_MEMORY_REGION(o, spares->type->tp_basicsize);
    o->ob_type = spares->type;
    return o;
}
static inline void hoop_keep_spare(hoop_spares *spares, PyObject *o) {
    spares->objects[spares->count++] = o;
    spares->type = Py_TYPE(o);
    o->ob_type = HOOP_NO_TYPE;
    ASAN_POISON_MEMORY_REGION(o, spares->type->tp_basicsize);
}
#else
static inline PyObject *hoop_take_spare(hoop_spares *spares) {
    return spares->count ? spares->objects[--spares->count] : NULL;
}
static inline void hoop_keep_spare(hoop_spares *spares, PyObject *o) { spares->objects[spares->count++] = o; }
#endif

/* Revive a spare object. Returns a new reference; NULL if there is none. */
static inline PyObject *hoop_revive(hoop_spares *spares) {
    PyObject *o = hoop_take_spare(spares);
    if (o == NULL) return NULL;
    Py_SET_REFCNT(o, 1);
    PyObject_GC_Track(o);
    return o;
}
/* Whether a dying object may become a spare: it must be of exactly this type. If so, this untracks it and
 * clears its weak references. The caller then empties its fields. */
static inline int hoop_may_spare(hoop_spares *spares, PyObject *type, PyObject *o) {
    if (spares->count >= hoop_spares_max() || (PyObject *)Py_TYPE(o) != type) return 0;
    if (Py_TYPE(o)->tp_finalize && PyObject_GC_IsFinalized(o)) return 0;
    PyObject_GC_UnTrack(o);
    if (*(PyObject **)((char *)o + Py_TYPE(o)->tp_weaklistoffset)) PyObject_ClearWeakRefs(o);
    return 1;
}
/* Keep a spare. False if others have taken the place while it was emptied. */
static inline int hoop_spare(hoop_spares *spares, PyObject *o) {
    if (spares->count >= hoop_spares_max()) return 0;
    hoop_keep_spare(spares, o);
    return 1;
}

/* Whether the caller has the only reference to a future, so that it can be used again. */
static inline int hoop_is_sole(PyObject *o) {
    return hoop_spares_max() && Py_REFCNT(o) == 1 &&
           *(PyObject **)((char *)o + Py_TYPE(o)->tp_weaklistoffset) == NULL;
}

/* ---- clocks ---------------------------------------------------------------------------------------- */

static inline long long hoop_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* How much time this thread has used a processor, and how often it waited or was preempted. */
typedef struct { long long cpu_ns; long waits, preemptions; } hoop_effort;
static inline void hoop_effort_now(hoop_effort *e) {
    struct timespec t;
    struct rusage usage;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    getrusage(RUSAGE_THREAD, &usage);
    e->cpu_ns = t.tv_sec * 1000000000LL + t.tv_nsec;
    e->waits = usage.ru_nvcsw;
    e->preemptions = usage.ru_nivcsw;
}
/* Whether the time since then has passed only because other threads had the processor. */
static inline int hoop_was_preempted(const hoop_effort *since, long long most_ns) {
    hoop_effort now;
    hoop_effort_now(&now);
    return now.preemptions != since->preemptions && now.waits == since->waits &&
        now.cpu_ns - since->cpu_ns <= most_ns;
}

static inline double hoop_now(void) { return (double)hoop_now_ns() * 1e-9; }
static inline long long hoop_tick(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- spinning --------------------------------------------------------------------------------------- */

#if defined(__x86_64__) || defined(__i386__)
#define HOOP_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define HOOP_PAUSE() __asm__ volatile("yield")
#else
#define HOOP_PAUSE() ((void)0)
#endif

/* Return how many processors the calling thread may run on; CPU_SETSIZE if the set has no room for them. */
static inline int hoop_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? CPU_SETSIZE : CPU_COUNT(&set);
}

/* ---- system calls: they return a result or -errno -------------------------------------------------- */

#define HOOP_RESULT(call) ({ long r_ = (long)(call); r_ < 0 ? -errno : r_; })

/* The calls for each event go by number. glibc's functions can be cancelled. In a process of several threads
 * each takes 50 instructions more for that, some of them atomic. A build with sanitizers uses the functions, for
 * it knows what they do to memory. */
#if defined(HOOP_POISON)
#define HOOP_RECV(fd, buf, n, flags) recv(fd, buf, n, flags)
#define HOOP_SEND(fd, buf, n, flags) send(fd, buf, n, flags)
#define HOOP_SENDMSG(fd, message, flags) sendmsg(fd, message, flags)
#define HOOP_EPOLL_WAIT(epfd, events, n, ms) epoll_wait(epfd, events, n, ms)
#define HOOP_READ(fd, buf, n) read(fd, buf, n)
#define HOOP_WRITE(fd, buf, n) write(fd, buf, n)
#define HOOP_WRITEV(fd, vec, n) writev(fd, vec, n)
#else
#define HOOP_RECV(fd, buf, n, flags) syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL)
#define HOOP_SEND(fd, buf, n, flags) syscall(SYS_sendto, fd, buf, n, flags, NULL, 0)
#define HOOP_SENDMSG(fd, message, flags) syscall(SYS_sendmsg, fd, message, flags)
#ifdef SYS_epoll_wait
#define HOOP_EPOLL_WAIT(epfd, events, n, ms) syscall(SYS_epoll_wait, epfd, events, n, ms)
#else
#define HOOP_EPOLL_WAIT(epfd, events, n, ms) syscall(SYS_epoll_pwait, epfd, events, n, ms, NULL, 0)
#endif
#define HOOP_READ(fd, buf, n) syscall(SYS_read, fd, buf, n)
#define HOOP_WRITE(fd, buf, n) syscall(SYS_write, fd, buf, n)
#define HOOP_WRITEV(fd, vec, n) syscall(SYS_writev, fd, vec, n)
#endif

static inline int hoop_epoll_create(void) { return (int)HOOP_RESULT(epoll_create1(EPOLL_CLOEXEC)); }
static inline int hoop_epoll_ctl(int epfd, int action, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return (int)HOOP_RESULT(epoll_ctl(epfd, action, fd, &event));
}

/* Wait for at most timeout_ns, or for ever if that is negative. epoll_pwait2 (Linux 5.11) takes
 * nanoseconds. Without it the time is rounded up to milliseconds, so that no timer runs early. */
#ifndef __NR_epoll_pwait2
#define __NR_epoll_pwait2 441
#endif
static inline int hoop_epoll_wait(int epfd, struct epoll_event *events, int n, long long timeout_ns) {
    static int no_pwait2 = 0;
    if (timeout_ns <= 0) return (int)HOOP_RESULT(HOOP_EPOLL_WAIT(epfd, events, n, timeout_ns ? -1 : 0));
    if (!no_pwait2) {
        struct timespec t = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
        int r = (int)HOOP_RESULT(syscall(__NR_epoll_pwait2, epfd, events, n, &t, NULL, 0));
        if (r != -ENOSYS && r != -EPERM) return r;
        no_pwait2 = 1;
    }
    long long ms = (timeout_ns + 999999) / 1000000;
    return (int)HOOP_RESULT(HOOP_EPOLL_WAIT(epfd, events, n, ms > INT_MAX ? INT_MAX : (int)ms));
}

/* Look for events again and again, for at most spin_ns. */
static inline int hoop_epoll_spin(int epfd, struct epoll_event *events, int n, long long spin_ns) {
    long long end = hoop_now_ns() + spin_ns;
    int r;
    while ((r = hoop_epoll_wait(epfd, events, n, 0)) == 0 && hoop_now_ns() < end) HOOP_PAUSE();
    return r;
}

static inline int hoop_eventfd(void) { return (int)HOOP_RESULT(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
static inline int hoop_eventfd_write(int fd) {
    uint64_t one = 1;
    return (int)HOOP_RESULT(HOOP_WRITE(fd, &one, sizeof one));
}
/* Another descriptor of the same file, with the lowest number that is free. */
static inline int hoop_twin(int fd) { return (int)HOOP_RESULT(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static inline int hoop_close(int fd) { return (int)HOOP_RESULT(close(fd)); }
/* Replace the file of a descriptor by a fresh one, and close that one's descriptor. */
static inline int hoop_replace(int fd, int fresh) {
    int r = (int)HOOP_RESULT(dup3(fresh, fd, O_CLOEXEC));
    close(fresh);
    return r;
}

static inline Py_ssize_t hoop_recv(int fd, void *buf, size_t n) { return HOOP_RESULT(HOOP_RECV(fd, buf, n, 0)); }

/* How many bytes a stream socket has received and not yet handed over; 0 or less if that is not known. */
static inline Py_ssize_t hoop_unread(int fd) {
    int n = 0;
    return ioctl(fd, FIONREAD, &n) < 0 ? -errno : n;
}
static inline Py_ssize_t hoop_send(int fd, const void *buf, size_t n) {
    return HOOP_RESULT(HOOP_SEND(fd, buf, n, MSG_NOSIGNAL));
}
static inline Py_ssize_t hoop_sendv(int fd, struct iovec *vec, size_t n) {
    struct msghdr message = {.msg_iov = vec, .msg_iovlen = n};
    return HOOP_RESULT(HOOP_SENDMSG(fd, &message, MSG_NOSIGNAL));
}
/* Receive from a socket of the user's, which may be a blocking one, without waiting. */
static inline Py_ssize_t hoop_try_recv(int fd, void *buf, size_t n) {
    Py_ssize_t r;
    do r = HOOP_RESULT(HOOP_RECV(fd, buf, n, MSG_DONTWAIT));
    while (r == -EINTR);
    return r;
}
static inline Py_ssize_t hoop_try_send(int fd, const void *buf, size_t n) {
    Py_ssize_t r;
    do r = HOOP_RESULT(HOOP_SEND(fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT));
    while (r == -EINTR);
    return r;
}
static inline int hoop_is_readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd < 0 || poll(&p, 1, 0) != 0;
}
/* Whether a socket is plain TCP. With kTLS it would return one record at a time. */
#ifndef TCP_ULP
#define TCP_ULP 31
#endif
static inline int hoop_is_plain_tcp(int fd) {
    int protocol = 0;
    char layer[16] = "";
    socklen_t n = sizeof protocol, n_layer = sizeof layer;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) == 0 && protocol == IPPROTO_TCP &&
           (getsockopt(fd, IPPROTO_TCP, TCP_ULP, layer, &n_layer) < 0 || n_layer == 0);
}
static inline int hoop_shutdown(int fd, int how) { return (int)HOOP_RESULT(shutdown(fd, how)); }
static inline Py_ssize_t hoop_read(int fd, void *buf, size_t n) { return HOOP_RESULT(HOOP_READ(fd, buf, n)); }
static inline Py_ssize_t hoop_write(int fd, const void *buf, size_t n) { return HOOP_RESULT(HOOP_WRITE(fd, buf, n)); }
static inline Py_ssize_t hoop_writev(int fd, const struct iovec *vec, size_t n) {
    return HOOP_RESULT(HOOP_WRITEV(fd, vec, n));
}
static inline int hoop_pipe_size(int fd) {
    int size = fcntl(fd, F_GETPIPE_SZ);
    return size < 0 ? -errno : size;
}
static inline int hoop_sockopt(int fd, int option) {
    int value = 0;
    socklen_t n = sizeof value;
    int r = (int)HOOP_RESULT(getsockopt(fd, SOL_SOCKET, option, &value, &n));
    return r < 0 ? r : value;
}
static inline int hoop_tcp_nodelay(int fd) {
    int one = 1;
    return (int)HOOP_RESULT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
}

/* ---- addresses --------------------------------------------------------------------------------------- */

typedef union {
    sa_family_t family; /* AF_UNSPEC if there is no address */
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
} hoop_address;

static inline int hoop_address_family(const hoop_address *a) { return a->family; }
static inline int hoop_name(int fd, int of_peer, hoop_address *out) {
    socklen_t n = sizeof *out;
    struct sockaddr *address = (struct sockaddr *)out;
    int r = (int)HOOP_RESULT(of_peer ? getpeername(fd, address, &n) : getsockname(fd, address, &n));
    if (r < 0 || n > sizeof *out) out->family = AF_UNSPEC;
    return r;
}
/* The peer's address as accept4 returned it. It is known even if the peer is gone already. */
typedef struct {
    struct sockaddr_storage address;
    socklen_t bytes;
} hoop_peer;

static inline int hoop_accept(int fd, hoop_peer *peer) {
    peer->bytes = sizeof peer->address;
    peer->address.ss_family = AF_UNSPEC;
    return (int)HOOP_RESULT(
        accept4(fd, (struct sockaddr *)&peer->address, &peer->bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
/* Copy an IPv4 or IPv6 address. For other families the result is AF_UNSPEC. */
static inline void hoop_peer_address(const hoop_peer *peer, hoop_address *out) {
    sa_family_t family = peer->address.ss_family;
    out->family = AF_UNSPEC;
    if ((family == AF_INET || family == AF_INET6) && peer->bytes <= sizeof *out)
        memcpy(out, &peer->address, peer->bytes);
}
/* Return the name of a Unix socket in the socket module's form; None for other families. */
static inline PyObject *hoop_peer_name(const hoop_peer *peer) {
    const struct sockaddr_un *a = (const struct sockaddr_un *)&peer->address;
    size_t start = offsetof(struct sockaddr_un, sun_path);
    if (a->sun_family != AF_UNIX || peer->bytes > sizeof *a) Py_RETURN_NONE;
    if (peer->bytes <= start) return PyUnicode_FromString("");
    if (a->sun_path[0] == 0) return PyBytes_FromStringAndSize(a->sun_path, (Py_ssize_t)(peer->bytes - start));
    return PyUnicode_DecodeFSDefaultAndSize(a->sun_path, (Py_ssize_t)strnlen(a->sun_path, peer->bytes - start));
}
static inline PyObject *hoop_address_tuple(const hoop_address *a) {
    char text[INET6_ADDRSTRLEN];
    if (a->family == AF_INET) {
        inet_ntop(AF_INET, &a->ipv4.sin_addr, text, sizeof text);
        return Py_BuildValue("(si)", text, ntohs(a->ipv4.sin_port));
    }
    if (a->family == AF_INET6) {
        inet_ntop(AF_INET6, &a->ipv6.sin6_addr, text, sizeof text);
        return Py_BuildValue("(siII)", text, ntohs(a->ipv6.sin6_port), ntohl(a->ipv6.sin6_flowinfo),
                             a->ipv6.sin6_scope_id);
    }
    Py_RETURN_NONE;
}

#endif
