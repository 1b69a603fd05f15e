"""Notices: callbacks of futures that are written in C. TaskGroup, gather() and others get them.

A future puts its notices onto the ready ring when it is done, as it does with tasks that wait for it. So they
run in the turn in which asyncio's callbacks would. To Python they look like callbacks, in Future._callbacks.
"""

from __future__ import annotations

from asyncio.format_helpers import _format_callback_source as _format_callback

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

_format_callback_source = cython.declare(object, _format_callback)


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
        source = _format_callback_source(self.watcher.callback(), (self.future,))
        return {"message": f"Exception in callback {source}", "exception": exc}

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
