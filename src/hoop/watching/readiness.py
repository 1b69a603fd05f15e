"""Waits until the user's own sockets are ready, for loop.sock_recv() and its like, on either driver.

A SocketTable has an epoll descriptor, and is the op by which the driver watches that descriptor. When a
task first waits for a socket, the table registers the socket there, edge-triggered. It stays registered, so
that waiting again needs no system call. Polls of io_uring would cost as much. They would also keep a socket
open that its owner has closed, so that the peer would not see the end.

Edge-triggered epoll reports only changes. So before a task waits, it must have seen that nothing is there
(EAGAIN), or ask the kernel to look again (`again`). An event wakes all tasks that wait, and each tries its
call. So a cancelled task loses no event and no byte.

A registration ends

    when the socket is closed: the kernel does that. The table knows the socket by a weak reference, so it
        registers another socket of the same number anew. If a duplicate keeps the old registration alive,
        its events are known by their old generation;
    with `sock_connect`, because mostly a transport gets the descriptor next;
    when several events in a row found no task waiting.

add_reader() and transports watch a descriptor in the driver. That is independent of the table.
"""

from __future__ import annotations

import errno
import socket

import cython
from cython.cimports.cpython.weakref import PyWeakref_NewRef
from cython.cimports.hoop._c.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    hoop_close,
    hoop_epoll_create,
    hoop_epoll_ctl,
    hoop_epoll_wait,
    hoop_is_plain_tcp,
    hoop_sockopt,
)
from cython.cimports.hoop._c.python import PyList_GET_ITEM
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import ARMED, READABLE, Op
from cython.cimports.hoop.scheduling.base import LoopBase
from cython.cimports.hoop.scheduling.future import PENDING, Future, new_future
from cython.cimports.libc.stdint import uint32_t, uint64_t

# A registration ends after this many events for which no task waited.
UNATTENDED_MAX = cython.declare(cython.int, 4)
# After such an event a socket may have an end, an error or urgent data behind its bytes. From then on a
# short read does not prove that the socket is empty, and the reader tries once more.
ODD = cython.declare(uint32_t, EPOLLERR | EPOLLHUP | EPOLLRDHUP | EPOLLPRI)
READING = cython.declare(uint32_t, EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP | EPOLLPRI)
TO_READ = cython.declare(uint32_t, EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET)
WRITING = cython.declare(uint32_t, EPOLLOUT | EPOLLERR | EPOLLHUP)

# No kernel allows more (fs.nr_open). A larger number is a mistake, and must not cost memory.
FD_MAX = cython.declare(cython.int, 1 << 24)
EBADF = cython.declare(cython.int, errno.EBADF)
EEXIST = cython.declare(cython.int, errno.EEXIST)
EINTR = cython.declare(cython.int, errno.EINTR)
ENOENT = cython.declare(cython.int, errno.ENOENT)
SO_RCVLOWAT = cython.declare(cython.int, socket.SO_RCVLOWAT)


@cython.final
@cython.cclass
class SocketSlot:
    """A descriptor, the socket it belongs to, and the futures that wait for it."""


@cython.final
@cython.cclass
class SocketTable(Op):
    """The sockets of one loop for which tasks wait or have waited."""

    def __cinit__(self):
        self.interest = READABLE
        self.at_once = True
        self.slots = []
        self.fd = hoop_epoll_create()
        if self.fd < 0:
            raise_errno(self.fd, "epoll_create1")

    def __dealloc__(self):
        self.close()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        """Close the epoll descriptor. The driver must be closed already."""
        if self.fd >= 0:
            hoop_close(self.fd)
            self.fd = -1
        return 0

    # ---- waiting ----

    @cython.cfunc
    def slot_of(self, fd: cython.int, sock) -> SocketSlot:
        """Return the slot in which this very socket is registered, or None."""
        if fd < 0 or fd >= len(self.slots):
            return None
        slot = cython.cast(object, PyList_GET_ITEM(self.slots, fd))
        if slot is None or cython.cast(SocketSlot, slot).mask == 0:
            return None
        if cython.cast(SocketSlot, slot).owner is not PyWeakref_NewRef(sock, None):
            return None
        return cython.cast(SocketSlot, slot)

    @cython.cfunc
    def wait(
        self,
        loop: LoopBase,
        sock,
        fd: cython.int,
        slot: SocketSlot,
        mask: uint32_t,
        again: cython.bint,
    ) -> Future:
        """Return a future that is done when the socket may be readable (EPOLLIN) or writable (EPOLLOUT).

        `slot` is the result of slot_of(). With `again` the kernel looks once more. Without it the caller
        must have seen EAGAIN since the last event.
        """
        if slot is None:
            if fd < 0:
                raise ValueError(f"Invalid file descriptor: {fd}")
            if fd >= FD_MAX:
                raise_errno(-EBADF)
            while len(self.slots) <= fd:
                self.slots.append(None)
            slot = self.slots[fd]
            if slot is None:
                slot = self.slots[fd] = SocketSlot.__new__(SocketSlot)
            self.take_over(slot, fd, PyWeakref_NewRef(sock, None))
            again = True
        if again or slot.mask & mask == 0:
            self.register(slot, fd, slot.mask | mask)
            loop.look_at = 0
        slot.unattended = 0
        future: Future = new_future(loop)
        if mask == EPOLLIN:
            slot.drained = not slot.holds_back
            if slot.reader is None or slot.reader.state != PENDING:
                slot.reader = future
                return future
        elif slot.writer is None or slot.writer.state != PENDING:
            slot.writer = future
            return future
        slot.more = [entry for entry in slot.more or () if not entry[0].done()]
        slot.more.append((future, mask))
        return future

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_over(self, slot: SocketSlot, fd: cython.int, owner) -> cython.int:
        """Give a slot to a socket, whose number another socket had when it was registered.

        If that one was closed, the tasks that wait for it are woken and will see an error. If it is open,
        both have the same number and share the registration.
        """
        if slot.owner is not None and slot.owner is not owner:
            former = slot.owner()
            if former is None or former.fileno() != fd:
                slot.mask = 0
                wake_all(slot, EPOLLIN | EPOLLOUT)
        slot.owner = owner
        slot.holds_back = hoop_sockopt(fd, SO_RCVLOWAT) > 1
        slot.ends_short = not slot.holds_back and hoop_is_plain_tcp(fd)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def register(self, slot: SocketSlot, fd: cython.int, mask: uint32_t) -> cython.int:
        """Register a descriptor, so that epoll reports its present state and all later changes."""
        data: uint64_t = name_anew(slot, fd)
        wanted: uint32_t = mask | EPOLLET
        result: cython.int
        if mask & EPOLLIN:
            wanted |= EPOLLRDHUP | EPOLLPRI
        if slot.mask:
            result = hoop_epoll_ctl(self.fd, EPOLL_CTL_MOD, fd, wanted, data)
            if result == -ENOENT:
                result = hoop_epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, wanted, data)
        else:
            result = hoop_epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, wanted, data)
            if result == -EEXIST:
                result = hoop_epoll_ctl(self.fd, EPOLL_CTL_MOD, fd, wanted, data)
        if result < 0:
            slot.mask = 0
            raise_errno(result)
        slot.mask = mask
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hear_of_reading(self, slot: SocketSlot, fd: cython.int) -> cython.int:
        """Stop watching for room to send.

        If the socket was closed and a duplicate keeps its registration, epoll does not know the number.
        Then the tasks that wait are woken, and will see an error.
        """
        if hoop_epoll_ctl(self.fd, EPOLL_CTL_MOD, fd, TO_READ, name_anew(slot, fd)) < 0:
            slot.mask = 0
            wake_all(slot, EPOLLIN | EPOLLOUT)
            return 0
        slot.mask = EPOLLIN
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_waiting(self, sock, mask: uint32_t) -> cython.int:
        """Drop a registration for no more than `mask`, if the socket is open and no task waits for it."""
        fd: cython.int = sock.fileno()
        slot: SocketSlot = self.slot_of(fd, sock)
        if slot is None or slot.mask != mask:
            return 0
        return 0 if is_waited_for(slot) else self.deregister(slot, fd)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def deregister(self, slot: SocketSlot, fd: cython.int) -> cython.int:
        slot.mask = 0
        slot.generation += 1
        # The call fails if the socket was closed. Its number may be another's by now.
        hoop_epoll_ctl(self.fd, EPOLL_CTL_DEL, fd, 0, 0)
        return 0

    # ---- events ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        """Take the events at once, and wake the tasks in the same turn."""
        if result >= 0 and self.phase == ARMED:
            self.take_events()
        return False

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_events(self) -> cython.int:
        i: cython.int
        fd: uint32_t
        n: cython.int = SOCKET_BATCH
        slot: SocketSlot
        events = cython.address(self.events[0])
        while n == SOCKET_BATCH:
            n = hoop_epoll_wait(self.fd, events, SOCKET_BATCH, 0)
            if n < 0 and n != -EINTR:
                raise_errno(n, "epoll_wait")
            for i in range(n):
                fd = cython.cast(uint32_t, events[i].data)
                slot = cython.cast(SocketSlot, PyList_GET_ITEM(self.slots, fd))
                if slot.generation == cython.cast(uint32_t, events[i].data >> 32):
                    self.tell(slot, fd, events[i].events)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tell(self, slot: SocketSlot, fd: cython.int, seen: uint32_t) -> cython.int:
        """Wake the tasks that wait for what has happened to a socket."""
        attended: cython.bint = False
        slot.failed = seen & (EPOLLERR | EPOLLHUP) != 0
        if seen & ODD:
            slot.ends_short = False
        if seen & READING:
            slot.drained = False
            attended = wake_all(slot, EPOLLIN)
        if seen & WRITING:
            if wake_all(slot, EPOLLOUT):
                attended = True
            elif slot.mask == EPOLLIN | EPOLLOUT:
                # A task that wants to write will wait again. Otherwise each byte that the peer takes would
                # be an event.
                self.hear_of_reading(slot, fd)
        if not attended:
            slot.unattended += 1
            if slot.unattended >= UNATTENDED_MAX and not is_waited_for(slot):
                self.deregister(slot, fd)
        return 0


@cython.cfunc
@cython.exceptval(check=False)
def name_anew(slot: SocketSlot | None, fd: cython.int) -> uint64_t:
    """Return new `data` for a registration, so that events of an earlier one are not taken for its own."""
    slot.generation += 1
    return cython.cast(uint64_t, slot.generation) << 32 | cython.cast(uint32_t, fd)


@cython.cfunc
@cython.exceptval(-1, check=False)
def is_waited_for(slot: SocketSlot) -> cython.bint:
    for future in (slot.reader, slot.writer, *[entry[0] for entry in slot.more or ()]):
        if future is not None and not future.done():
            return True
    return False


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake_all(slot: SocketSlot, mask: uint32_t) -> cython.bint:
    """Wake all that wait for one of these events. Returns whether there were any."""
    woken: cython.bint = False
    future: Future
    if mask & EPOLLIN and slot.reader is not None:
        future = slot.reader
        slot.reader = None
        woken = wake_one(future)
    if mask & EPOLLOUT and slot.writer is not None:
        future = slot.writer
        slot.writer = None
        woken |= wake_one(future)
    if slot.more is not None:
        waiting = slot.more
        slot.more = None
        left = []
        for entry in waiting:
            future = entry[0]
            if mask & cython.cast(uint32_t, entry[1]):
                woken |= wake_one(future)
            elif future.state == PENDING:
                left.append(entry)
        slot.more = left or None
    return woken


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake_one(future: Future) -> cython.bint:
    """Wake one task. Returns whether it still waited."""
    if future.state != PENDING:
        return False
    future.finish(None)
    return True
