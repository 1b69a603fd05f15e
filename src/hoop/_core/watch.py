"""Watching a descriptor that the loop does not own: add_reader and add_writer."""

from __future__ import annotations

import cython
from cython.cimports.hoop._core.handle import Handle
from cython.cimports.hoop._core.op import Op


@cython.cfunc
def descriptor(fileobj) -> object:
    """The number of a descriptor, given itself or as an object with fileno(); as selectors has it."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


@cython.final
@cython.cclass
class WatchOp(Op):
    """Runs a handle each time the descriptor is ready."""

    def __cinit__(self):
        self.foreign = self.yields = True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def evicted(self) -> cython.int:
        self.handle.cancel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        handle: Handle = self.handle
        try:
            handle.run()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            handle.loop.call_exception_handler(handle.failure(exc))
        return 0
