"""Watching a descriptor that the loop does not own: add_reader and add_writer."""

from __future__ import annotations

import cython
from cython.cimports.hoop._core.op import Op


@cython.final
@cython.cclass
class WatchOp(Op):
    """Runs a handle each time the descriptor is ready."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        return self.handle.run()

    def failure(self, exc):
        """The handle's own report."""
        return self.handle.failure(exc)
