"""How long the messages of a world take, and in what pieces they arrive.

This runs for each message, and is compiled. Weather draws the numbers.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop.sim.driver import Choices

NANOSECONDS = cython.declare(cython.double, 1e9)  # in a second


@cython.cclass
class Delays:
    """The delays of messages, and the sizes of their pieces."""

    @cython.ccall
    @cython.exceptval(-1, check=True)
    def latency(self, choices: Choices, spike: cython.bint) -> cython.longlong:
        """How many nanoseconds a message takes."""
        seconds: cython.double = self.low + (self.high - self.low) * choices.fraction()
        return 1 + cython.cast(
            cython.longlong, seconds * (self.spike if spike else 1.0) * NANOSECONDS
        )

    @cython.ccall
    @cython.exceptval(-1, check=True)
    def transfer(self, n: cython.Py_ssize_t) -> cython.longlong:
        """How many nanoseconds a link needs for so many bytes."""
        if not self.bandwidth:
            return 0
        return cython.cast(cython.longlong, n * NANOSECONDS / self.bandwidth)

    @cython.ccall
    def cut(self, data: bytes, choices: Choices) -> list:
        """The pieces in which a message arrives."""
        size: cython.Py_ssize_t
        at: cython.Py_ssize_t = 0
        if len(data) < 2 or not (self.pieces > 0 and choices.rarely(self.pieces)):
            return [data]
        found: list = []
        while at < len(data) and len(found) < PIECES_MAX - 1:
            size = 1 + choices.below(self.piece)
            found.append(data[at : at + size])
            at += size
        if at < len(data):
            found.append(data[at:])
        return found
