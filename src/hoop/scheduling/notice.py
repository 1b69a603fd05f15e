"""Notices: callbacks of futures that are written in C. TaskGroup, gather() and others get them.

A future puts its notices onto the ready ring when it is done, as it does with tasks that wait for it. So they
run in the turn in which asyncio's callbacks would. To Python they look like callbacks, in Future._callbacks.
"""

from __future__ import annotations

from types import FunctionType as _FunctionType

import cython
from cython.cimports.hoop._c.python import (
    Ref,
    destructor,
    hoop_check_spared,
    hoop_forbid_new,
    hoop_may_spare,
    hoop_revive,
    hoop_spare,
    hoop_spares,
    hoop_swap_dealloc,
    take,
)
from cython.cimports.hoop.drivers.ready import Runnable
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.handle import Handle

FunctionType = cython.declare(type, _FunctionType)


@cython.cclass
class Watcher(Attributed):
    """Base of the objects that get notices."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def notified(self, notice: Notice) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    def callback(self) -> object:
        raise NotImplementedError(type(self).__name__)


@cython.final
@cython.cclass
class Notice(Runnable):
    """Tells a watcher that a future is done."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run(self) -> cython.int:
        return self.watcher.notified(self)

    @cython.cfunc
    def calls(self) -> object:
        return self.watcher.callback()

    def failure(self, exc):
        """Return the context for the loop's exception handler when the watcher raised `exc`."""
        future = cython.cast(object, self.future)
        handle = Handle(self.watcher.callback(), (future,), future.get_loop(), self.context)
        return handle.failure(exc)

    # The names by which Future._callbacks shows a callback.

    @property
    def _wakeup(self):
        return self.watcher.callback()

    @property
    def _context(self):
        return self.context


@cython.cfunc
def new_notice(future: Runnable, watcher: Watcher, context) -> Notice:
    """Make a notice that no future has yet."""
    spare: Ref = hoop_revive(cython.address(spare_notices))
    notice: Notice = Notice.__new__(Notice) if spare is cython.NULL else take(spare)
    notice.future = future
    notice.watcher = watcher
    notice.context = context
    return notice


# ---- the list of a future's callbacks: tuples, tasks and notices, and None where one was taken out ----


@cython.cfunc
def uses_of(fn, entries: list) -> list:
    """The entries that call a function. May run code of yours, which compares."""
    gone: list = []
    is_function: cython.bint = type(fn) is FunctionType
    for entry in entries:
        if type(entry) is tuple:
            other = cython.cast(tuple, entry)[0]
            # Two functions are equal only if they are the same. All else is asked.
            if other is fn or (not (is_function and type(other) is FunctionType) and other == fn):
                gone.append(entry)
        elif type(entry) is Notice and not is_function:
            if cython.cast(Notice, entry).watcher.callback() == fn:
                gone.append(entry)
    return gone


@cython.cfunc
@cython.exceptval(-1, check=False)
def note_place(entries: list) -> cython.int:
    """The last entry is a notice: if it is far behind, let its watcher know where it is."""
    n: cython.Py_ssize_t = len(entries)
    if n > NEAR:
        notice: Notice = entries[n - 1]
        if notice.watcher.far is None:
            notice.watcher.far = {}
        notice.watcher.far[id(notice.future)] = n - 1
    return 0


@cython.cfunc
@cython.exceptval(-2, check=False)
def place_of(entries: list, watcher: Watcher, key) -> cython.Py_ssize_t:
    """Return where a watcher's notice is, or -1 if it has none there."""
    i: cython.Py_ssize_t
    if watcher.far is not None:
        place = watcher.far.pop(key, None)
        if place is not None:
            i = place
            if i < len(entries) and is_for(entries[i], watcher):
                return i
    for i in range(len(entries)):
        if is_for(entries[i], watcher):
            return i
    return -1


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_for(entry, watcher: Watcher | None) -> cython.bint:
    return type(entry) is Notice and cython.cast(Notice, entry).watcher is watcher


@cython.cfunc
@cython.exceptval(-1, check=False)
def leave_gaps(entries: list, gone: list) -> cython.Py_ssize_t:
    """Take out entries, given in their order. Return how many are gone: some may have been before."""
    i: cython.Py_ssize_t
    next_gone: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t = 0
    while next_gone < len(gone):
        for i in range(len(entries)):
            if next_gone < len(gone) and entries[i] is gone[next_gone]:
                entries[i] = None
                next_gone += 1
                count += 1
        next_gone += 1  # this one is not there any more
    return count


@cython.cfunc
def without_gaps(entries: list, key) -> list:
    """Return the entries that are left, and tell the watchers where their notices are now."""
    kept: list = [entry for entry in entries if entry is not None]
    i: cython.Py_ssize_t
    for i in range(len(kept)):
        if type(kept[i]) is Notice:
            watcher: Watcher = cython.cast(Notice, kept[i]).watcher
            if watcher.far is not None and key in watcher.far:
                watcher.far[key] = i
    return kept


spare_notices = cython.declare(hoop_spares)
_notice_dealloc = cython.declare(destructor, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def notice_dealloc(o: Ref) -> cython.void:
    """tp_dealloc: keep the memory for the next notice. Code here must not count references to `o`."""
    if hoop_may_spare(cython.address(spare_notices), Notice, o):
        cython.cast(Notice, o).future = None
        cython.cast(Notice, o).watcher = None
        cython.cast(Notice, o).context = None
        if hoop_spare(cython.address(spare_notices), o):
            return
    _notice_dealloc(o)


hoop_forbid_new(Notice)
hoop_check_spared(Notice)
_notice_dealloc = hoop_swap_dealloc(Notice, cython.cast(destructor, notice_dealloc))
