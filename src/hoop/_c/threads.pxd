# Methods that block a thread, and locks for threads that take turns: see threads.h.
from hoop._c.python cimport Ref

cdef extern from "threads.h":
    ctypedef object (*hoop_blocking_way)(int, object, tuple, Ref)
    void hoop_block_by(hoop_blocking_way way) noexcept
    void hoop_give_turn(unsigned long ident) noexcept   # 0 if no world runs
    int hoop_block_at(int place, object method) except -1
    void hoop_unblock_at(int place) noexcept
    object hoop_really(int place, object self, tuple args, Ref kwargs)
    ctypedef void *PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock() noexcept
    void PyThread_free_lock(PyThread_type_lock lock) noexcept
    void PyThread_release_lock(PyThread_type_lock lock) noexcept
    bint hoop_wait_for(PyThread_type_lock lock, long long microseconds) noexcept
