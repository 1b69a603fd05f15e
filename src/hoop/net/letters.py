"""The queue of a datagram transport: the datagrams that wait, addresses of peers, and flow control.

Queued data is immutable. One system call sends as many of the datagrams as the kernel takes.
"""

from __future__ import annotations

import sys

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Realloc
from cython.cimports.hoop._c.datagram import (
    HOOP_DATAGRAMS,
    hoop_letter,
    hoop_parse_address,
    hoop_port,
    hoop_same_address,
    hoop_tuple_port,
)
from cython.cimports.hoop._c.linux import (
    AF_UNSPEC,
    hoop_address,
    hoop_address_family,
    hoop_address_tuple,
)
from cython.cimports.hoop._c.python import (
    Py_XDECREF,
    PyContext_Enter,
    PyErr_Clear,
    PyList_GET_ITEM,
    Ref,
    exit_context,
    own,
    ref,
)
from cython.cimports.hoop.net.endpoint import Endpoint
from cython.cimports.hoop.net.outbox import water_marks, whole_mark
from cython.cimports.libc.string import memmove, memset

HIGH_WATER = cython.declare(cython.Py_ssize_t, 64 * 1024)
LOW_WATER = cython.declare(cython.Py_ssize_t, 16 * 1024)
# Python 3.13 counts a header for each datagram in the queue.
HEADER = cython.declare(cython.Py_ssize_t, 8 if sys.version_info >= (3, 13) else 0)


@cython.cclass
class Letters(Endpoint):
    """A descriptor, a queue of datagrams to send, and a protocol, which is paused when the queue is long."""

    def __cinit__(self):
        self.high_water = HIGH_WATER
        self.low_water = LOW_WATER
        self.outbox = []

    def __dealloc__(self):
        i: cython.int
        if self.peers is not cython.NULL:
            for i in range(PEERS):
                Py_XDECREF(self.peers[i].text)
        PyMem_Free(self.peers)
        PyMem_Free(self.addresses)

    # ---- addresses ----

    @cython.cfunc
    def sender(self, address: cython.pointer[hoop_address]) -> object:
        """Return an address as the socket module does. The same sender mostly gets the same tuple."""
        place: cython.pointer[Peer] = cython.address(self.peers[hoop_port(address) & (PEERS - 1)])
        if place.text is not cython.NULL and hoop_same_address(
            cython.address(place.address), address
        ):
            return cython.cast(object, place.text)
        text = hoop_address_tuple(address)
        if text is not None:
            Py_XDECREF(place.text)
            place.text = own(text)
            place.address = address[0]
        return text

    @cython.cfunc
    @cython.exceptval(check=False)
    def find_address(self, text, found: cython.pointer[hoop_address]) -> cython.bint:
        """Convert an address for the kernel. False, and AF_UNSPEC, if only the socket module can do it."""
        place: cython.pointer[Peer] = cython.address(
            self.peers[hoop_tuple_port(text) & (PEERS - 1)]
        )
        if place.text == ref(text):  # the very tuple that was received with a datagram
            found[0] = place.address
            return True
        if hoop_parse_address(self.family, text, found):
            return True
        memset(found, 0, cython.sizeof(hoop_address))
        return False

    # ---- the queue ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def queue(self, data: bytes, address) -> cython.int:
        count: cython.Py_ssize_t = self.make_room()
        if not self.has_peer:
            self.find_address(address, cython.address(self.addresses[count]))
        self.outbox.append(data)
        self.outbox.append(address)
        self.buffered += PyBytes_GET_SIZE(data) + HEADER
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make_room(self) -> cython.Py_ssize_t:
        """Make room for the address of one more datagram. Returns how many datagrams are queued."""
        count: cython.Py_ssize_t = len(self.outbox) // 2
        if count == self.room:
            room: cython.Py_ssize_t = self.room * 2 or 8
            grown = cython.cast(
                cython.pointer[hoop_address],
                PyMem_Realloc(self.addresses, room * cython.sizeof(hoop_address)),
            )
            if grown is cython.NULL:
                raise MemoryError
            self.addresses = grown
            self.room = room
        return count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put_back(self, data: bytes, address) -> cython.int:
        """Put a datagram back in front of the queue."""
        count: cython.Py_ssize_t = self.make_room()
        memmove(self.addresses + 1, self.addresses, count * cython.sizeof(hoop_address))
        self.find_address(address, self.addresses)
        self.outbox.insert(0, address)
        self.outbox.insert(0, data)
        self.buffered += PyBytes_GET_SIZE(data) + HEADER
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def gather(self, letters: cython.pointer[hoop_letter]) -> cython.int:
        """Fill in datagrams that can be sent together. Returns how many; 0 if only Python can send the
        first.
        """
        count: cython.Py_ssize_t = min(len(self.outbox) // 2, HOOP_DATAGRAMS)
        i: cython.Py_ssize_t
        data: Ref
        for i in range(count):
            if (
                not self.has_peer
                and hoop_address_family(cython.address(self.addresses[i])) == AF_UNSPEC
            ):
                return i
            data = PyList_GET_ITEM(self.outbox, 2 * i)
            letters[i].data = PyBytes_AS_STRING(cython.cast(object, data))
            letters[i].length = PyBytes_GET_SIZE(cython.cast(object, data))
            letters[i].to = cython.NULL if self.has_peer else cython.address(self.addresses[i])
        return count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget(self, n: cython.Py_ssize_t) -> cython.int:
        """Drop the first n datagrams of the queue, unless a finaliser has emptied it."""
        i: cython.Py_ssize_t
        left: cython.Py_ssize_t = len(self.outbox) // 2 - n
        if left < 0:
            return 0
        for i in range(n):
            self.buffered -= HEADER + PyBytes_GET_SIZE(
                cython.cast(object, PyList_GET_ITEM(self.outbox, 2 * i))
            )
        memmove(self.addresses, self.addresses + n, left * cython.sizeof(hoop_address))
        self.moved = True
        del self.outbox[: 2 * n]  # may run finalisers, so it comes last
        return 0

    # ---- flow control ----

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the sizes, in bytes, at which the protocol is told to pause and to resume writing."""
        low, high = water_marks(low, high)
        self.high_water = whole_mark(high)
        self.low_water = whole_mark(low)
        self.maybe_pause()

    def get_write_buffer_limits(self):
        """Return the (low, high) water marks in bytes."""
        return (self.low_water, self.high_water)

    def get_write_buffer_size(self):
        """Return how many bytes wait to be sent."""
        self.send_held()
        return self.buffered

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_pause(self) -> cython.int:
        if self.buffered > self.high_water and not self.writing_paused:
            self.writing_paused = True
            return self.tell("pause_writing", ())
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def maybe_resume(self) -> cython.int:
        if self.writing_paused and self.buffered <= self.low_water:
            self.writing_paused = False
            return self.tell("resume_writing", ())
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, method: str, args: tuple) -> cython.int:
        """Call a method of the protocol in the transport's context, unless the caller is in it already."""
        context: Ref = ref(self.context)
        entered: cython.bint = PyContext_Enter(context) == 0
        if not entered:
            PyErr_Clear()
        try:
            getattr(self.protocol, method)(*args)
        except BaseException as exc:
            self.report(exc, method)
        finally:
            if entered:
                exit_context(context)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def report(self, exc, method: str) -> cython.int:
        """Report an exception that the protocol raised."""
        raise NotImplementedError(type(self).__name__)
