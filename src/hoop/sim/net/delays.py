"""How long the messages of a world take, in what pieces they arrive, and what is under way.

    Delays      the delays and the pieces. Weather draws the numbers
    Agenda      the messages and other events of a world, by time

This runs for each message, and is compiled.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Realloc
from cython.cimports.hoop.sim.driver import Choices

NANOSECONDS = cython.declare(cython.double, 1e9)  # in a second


@cython.final
@cython.cclass
class Agenda:
    """Calls to be made and messages to arrive at their ends, each at a time."""

    def __cinit__(self):
        self.calls = []
        self.arguments = []

    def __dealloc__(self):
        PyMem_Free(self.heap)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow(self) -> cython.int:
        i: cython.Py_ssize_t
        room: cython.Py_ssize_t = 2 * self.room or 64
        heap = cython.cast(
            cython.pointer[Entry], PyMem_Realloc(self.heap, room * cython.sizeof(Entry))
        )
        if heap is cython.NULL:
            raise MemoryError
        self.heap = heap
        for i in range(self.room, room):
            heap[i].slot = i
        self.calls += [None] * (room - self.room)
        self.arguments += [None] * (room - self.room)
        self.room = room
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(
        self, due: cython.longlong, number: cython.ulong, call: object, argument: object
    ) -> cython.int:
        """Note a call with its argument, or an end with its message, for a time."""
        i: cython.Py_ssize_t
        parent: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        if self.count == self.room:
            self.grow()
        i = self.count
        slot = self.heap[i].slot
        self.count += 1
        while i:
            parent = (i - 1) >> 1
            if is_before(cython.address(self.heap[parent]), due, number):
                break
            self.heap[i] = self.heap[parent]
            i = parent
        self.heap[i].due = due
        self.heap[i].number = number
        self.heap[i].slot = slot
        self.calls[slot] = call
        self.arguments[slot] = argument
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def take_first(self) -> cython.Py_ssize_t:
        """Take the first entry away. Its call stays in the slot that is returned, until the next put()."""
        i: cython.Py_ssize_t = 0
        child: cython.Py_ssize_t = 1
        slot: cython.Py_ssize_t = self.heap[0].slot
        last: Entry
        self.count -= 1
        last = self.heap[self.count]
        while child < self.count:
            if child + 1 < self.count and is_before(
                cython.address(self.heap[child + 1]), self.heap[child].due, self.heap[child].number
            ):
                child += 1
            if is_before(cython.address(last), self.heap[child].due, self.heap[child].number):
                break
            self.heap[i] = self.heap[child]
            i = child
            child = 2 * i + 1
        self.heap[i] = last
        self.heap[self.count].slot = slot
        return slot

    def clear(self) -> None:
        """Forget all."""
        self.count = self.room = 0
        self.calls.clear()
        self.arguments.clear()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_before(
    entry: cython.pointer[Entry], due: cython.longlong, number: cython.ulong
) -> cython.bint:
    return entry.due < due or (entry.due == due and entry.number < number)


@cython.cclass
class Delays:
    """The delays of messages, and the sizes of their pieces."""

    def latency(self, choices: Choices, spike: cython.bint) -> int:
        """How many nanoseconds a message takes."""
        return self.time_of_way(choices, spike)

    def transfer(self, n: cython.Py_ssize_t) -> int:
        """How many nanoseconds a link needs for so many bytes."""
        return self.time_on_link(n)

    # These are found without a look for methods of a subclass.

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def time_of_way(self, choices: Choices, spike: cython.bint) -> cython.longlong:
        seconds: cython.double = self.low + (self.high - self.low) * choices.fraction()
        return 1 + cython.cast(
            cython.longlong, seconds * (self.spike if spike else 1.0) * NANOSECONDS
        )

    @cython.cfunc
    @cython.exceptval(check=False)
    def time_on_link(self, n: cython.Py_ssize_t) -> cython.longlong:
        if not self.bandwidth:
            return 0
        return cython.cast(cython.longlong, n * NANOSECONDS / self.bandwidth)

    @cython.cfunc
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
