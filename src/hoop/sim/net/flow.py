# cython: nonecheck=True
"""The events of a world's network, by time, and the descriptors at which programs send something.

    WatchedWire     a wire whose world's end the flow watches. End derives from it
    Flow            the messages and other events of a world. Network derives from it

The module is compiled, because it runs for each message.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    epoll_event,
    hoop_close,
    hoop_epoll_create,
    hoop_epoll_ctl,
    hoop_epoll_wait,
    hoop_is_readable,
)
from cython.cimports.hoop._c.swap import hoop_inode
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.sim.driver import SimDriver
from cython.cimports.hoop.sim.net.delays import Agenda
from cython.cimports.hoop.sim.net.transports import Wire
from cython.cimports.libc.stdint import uint32_t, uint64_t

INPUT = cython.declare(uint32_t, EPOLLIN | EPOLLRDHUP)
KEPT = cython.declare(uint32_t, 1 << 31)  # the program has sent, and the kernel does not know
ENDS = cython.declare(uint32_t, EPOLLRDHUP | EPOLLHUP | EPOLLERR)  # the program sends nothing more


def inode(fd: int) -> int:
    """The number of the file behind a descriptor; 0 if it is closed."""
    return hoop_inode(fd)


def is_readable(fd: int) -> bool:
    """Whether a call that receives or accepts would not wait."""
    return hoop_is_readable(fd) != 0


@cython.cclass
class WatchedWire(Wire):
    """A wire whose world's end the flow watches."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arrive(self, data: bytes) -> cython.int:
        """A message has arrived: the program may receive it."""
        raise NotImplementedError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take_from(self, ends: cython.bint, of_kernel: cython.bint) -> cython.int:
        """Take what was kept and, unless it is all, what the kernel has."""
        raise NotImplementedError

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def push(self) -> cython.int:
        """Give the program what has arrived, as far as its socket takes it."""
        raise NotImplementedError


@cython.cclass
class Flow:
    """The messages and other events of a world, and the descriptors of its ends."""

    def __cinit__(self, *args, **kwargs):
        self.epfd = -1
        self.buffer = cython.cast(cython.p_char, PyMem_Malloc(TAKE_BYTES))
        self.found = cython.cast(
            cython.pointer[epoll_event], PyMem_Malloc(FOUND_MAX * cython.sizeof(epoll_event))
        )
        if self.buffer is cython.NULL or self.found is cython.NULL:
            raise MemoryError

    def __init__(self, driver: SimDriver):
        self.driver = driver
        self.events = Agenda()
        self.kept = []
        self.ends = {}
        self.outlets = {}

    def __dealloc__(self):
        self.stop()
        PyMem_Free(self.buffer)
        PyMem_Free(self.found)

    @cython.cfunc
    @cython.exceptval(check=False)
    def stop(self) -> cython.int:
        """Look at no descriptor any more."""
        if self.epfd >= 0:
            hoop_close(self.epfd)
            self.epfd = -1
        return 0

    def clear(self) -> None:
        """Forget what is under way, and all ends."""
        self.events.clear()
        self.kept.clear()
        self.ends.clear()
        self.stop()

    @property
    def now(self) -> int:
        """The nanoseconds since the world began."""
        return self.driver.clock.ns

    def stir(self) -> None:
        """The kernel may have something new for a program."""
        self.driver.clock.stirred = True

    def number(self) -> int:
        """The next number: of an event, or of an end."""
        return self.next_number()

    @cython.cfunc
    @cython.exceptval(check=False)
    def next_number(self) -> cython.ulong:
        self.serial += 1
        return self.serial

    def at(self, due: cython.longlong, call, *args) -> None:
        """Have something done at a time."""
        self.events.put(due, self.next_number(), call, args)

    def turn(self, now: cython.longlong, look: cython.bint) -> int:
        """Move bytes, and do what is due. Returns when there is more to do, or -1.

        Without `look` no program has run since the last turn, so none has sent anything.
        """
        slot: cython.Py_ssize_t
        events: Agenda = self.events
        while True:
            if look:
                self.news = False
                self.look()
            while events.count and events.heap[0].due <= now:
                slot = events.take_first()
                call = events.calls[slot]
                args = events.arguments[slot]
                events.calls[slot] = events.arguments[slot] = None
                if type(args) is bytes:
                    cython.cast(WatchedWire, call).arrive(args)
                else:
                    self.driver.clock.stirred = True
                    call(*args)
            if not self.news:
                break
            look = True
        return events.heap[0].due if events.count else -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def look(self) -> cython.int:
        """Take what the program has sent, and give it what waits for room."""
        seen: uint32_t
        end: WatchedWire
        for _, one, events in self.found_ends():
            seen = events
            if not isinstance(one, WatchedWire):
                if seen & ~cython.cast(uint32_t, EPOLLOUT) and not one.ended:
                    one.take((seen & ENDS) != 0)
                if seen & ~INPUT and one.inbound:
                    one.push()
                continue
            end = one
            if seen & ~cython.cast(uint32_t, EPOLLOUT) and not end.ended:
                end.take_from((seen & ENDS) != 0, seen != KEPT)
            if seen & ~(INPUT | KEPT) and end.inbound:
                end.push()
        return 0

    @cython.cfunc
    def found_ends(self) -> list:
        """The ends and outlets at which there is something, each with its number and with events."""
        i: cython.int
        end: WatchedWire
        ready: list = []
        n: cython.int = 0
        if self.epfd >= 0:
            n = hoop_epoll_wait(self.epfd, self.found, FOUND_MAX, 0)
        for i in range(n):
            one = self.ends.get(self.found[i].data) or self.outlets[self.found[i].data]
            ready.append((one.serial, one, self.found[i].events))
            self.driver.clock.stirred = True
        if self.kept:
            heard: set = {one for _, one, _ in ready} if ready else None
            for one in self.kept:
                end = one
                if end.kept is None or (heard is not None and end in heard):
                    continue
                if end.watched & INPUT:
                    ready.append((end.serial, end, KEPT))
                else:
                    end.spill_kept()
            self.kept.clear()
        if len(ready) > 1:
            ready.sort()
        return ready

    def watch(self, end, wanted: uint32_t) -> None:
        """Hear of events at an end or an outlet, or of none."""
        fd: cython.int = end.fd
        if not isinstance(end, WatchedWire):
            self.outlets[fd] = end
        if self.epfd < 0:
            self.epfd = hoop_epoll_create()
        action: cython.int = EPOLL_CTL_DEL if not wanted else EPOLL_CTL_ADD
        if wanted and end.watched:
            action = EPOLL_CTL_MOD
        result: cython.int = hoop_epoll_ctl(
            self.epfd, action, fd, wanted, cython.cast(uint64_t, fd)
        )
        if result < 0:
            raise_errno(result, "epoll_ctl")
        end.watched = wanted
        self.news = True

    def unwatch(self, outlet) -> None:
        """Hear of an outlet no more."""
        fd: cython.int = outlet.fd
        if self.outlets.pop(fd, None) is not None:
            hoop_epoll_ctl(self.epfd, EPOLL_CTL_DEL, fd, 0, 0)
