"""The epoll driver. It watches descriptors with level-triggered epoll, and keeps ops in a table by
descriptor.

It is level-triggered because a transport reads once per turn, and must be told again if there is more.

Descriptors that hoop owns are taken out of epoll before they are closed. The descriptor of a foreign op may
be closed by its owner at any time. Then the kernel stops watching it by itself. The op stays in the table
until it is cancelled, or until another file with the same number is watched.

If a duplicate keeps the closed file open, the kernel goes on reporting it. The driver knows such events by
their old generation, and start_anew() ends them.

The table owns the armed ops, and each op owns the object that it serves. The io_uring driver has an epoll
driver nested in it for foreign ops, because a request would keep their files open. See epoll(7).
"""

from __future__ import annotations

import errno

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cython.cimports.hoop._c.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    epoll_event,
    hoop_close,
    hoop_epoll_create,
    hoop_epoll_ctl,
    hoop_epoll_spin,
    hoop_epoll_wait,
    hoop_eventfd,
    hoop_eventfd_write,
    hoop_replace,
)
from cython.cimports.hoop._c.observe import AWAKE, IN_KERNEL, WANTS_GIL, hoop_tell
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    PyErr_CheckSignals,
    Ref,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    own,
    ref,
    traverseproc,
    visitproc,
)
from cython.cimports.hoop.drivers.driver import SPARES_MAX, Driver
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.drivers.op import ARMED, CALL, READABLE, WRITABLE, Op
from cython.cimports.hoop.drivers.ready import ReadyRing
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memset

# No kernel allows more (fs.nr_open). A larger number is a mistake, and must not cost memory.
FD_MAX = cython.declare(cython.int, 1 << 24)
EBADF = cython.declare(cython.int, errno.EBADF)
EEXIST = cython.declare(cython.int, errno.EEXIST)
EINTR = cython.declare(cython.int, errno.EINTR)
ENOSYS = cython.declare(cython.int, errno.ENOSYS)
ENOENT = cython.declare(cython.int, errno.ENOENT)
EPERM = cython.declare(cython.int, errno.EPERM)


@cython.final
@cython.cclass
class EpollDriver(Driver):
    """A Driver over one epoll descriptor and one eventfd, which are made when they are first needed."""

    name = "epoll"

    def __cinit__(self):
        self.epfd = self.wake_fd = -1

    def __init__(self, nested=False):
        self.is_nested = nested
        if nested:
            self.open()

    def __dealloc__(self):
        self.close()
        PyMem_Free(self.slots)
        PyMem_Free(self.events)

    def fileno(self):
        """Return the epoll descriptor, or -1 while there is none."""
        return self.epfd

    @cython.cfunc
    @cython.exceptval(check=False)
    def lacking(self) -> cython.int:
        return 2 if self.epfd < 0 else 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open(self) -> cython.int:
        """Make the descriptors, because they are needed.

        A loop that only runs callbacks, and never sleeps, needs none. Test suites make thousands of those.
        """
        epfd: cython.int
        if self.is_closed:
            raise_errno(-EBADF)
        if self.events is cython.NULL:
            self.events = cython.cast(
                cython.pointer[epoll_event], PyMem_Malloc(BATCH * cython.sizeof(epoll_event))
            )
            if self.events is cython.NULL:
                raise MemoryError
        self.release(SPARES_MAX)
        epfd = hoop_epoll_create()
        if epfd < 0:
            raise_errno(epfd, "epoll_create1")
        if not self.is_nested:
            self.wake_fd = hoop_eventfd()
            if self.wake_fd < 0:
                hoop_close(epfd)
                raise_errno(self.wake_fd, "eventfd")
            # Edge-triggered and never read: each write is one event, and there is nothing to drain.
            hoop_epoll_ctl(epfd, EPOLL_CTL_ADD, self.wake_fd, EPOLLIN | EPOLLET, self.wake_fd)
        self.epfd = epfd
        return 0

    def statistics(self) -> dict:
        fd: cython.int
        armed: cython.int = 0
        for fd in range(self.n_slots):
            armed += self.slots[fd].reader is not cython.NULL
            armed += self.slots[fd].writer is not cython.NULL
        return {"armed": armed}

    def operations(self) -> list:
        fd: cython.int
        found: list = []
        for fd in range(self.n_slots):
            if self.slots[fd].reader is not cython.NULL:
                found.append(cython.cast(Op, self.slots[fd].reader))
            if self.slots[fd].writer is not cython.NULL:
                found.append(cython.cast(Op, self.slots[fd].writer))
        return found

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports(self, interest: cython.int) -> cython.bint:
        return interest <= WRITABLE

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        if op.interest == CALL:
            raise_errno(-ENOSYS, "epoll makes no calls")
        if op.fd < 0:
            raise ValueError(f"Invalid file descriptor: {op.fd}")
        if self.epfd < 0 and not self.inherited():
            self.open()
        if op.fd >= self.n_slots:
            self.grow_slots(op.fd)
        place: cython.pointer[Ref] = self.place(op)
        former: Ref = place[0]
        neighbour: Ref = cython.NULL
        if former == ref(op):
            return 0
        op.enter_armed()
        place[0] = own(op)
        result: cython.int = self.update(op.fd, former is not cython.NULL)
        if result == -ENOENT or result == -EBADF:  # the file of this number was closed
            neighbour = self.take_neighbour(op)
            if result == -ENOENT:
                result = self.update(op.fd, False)
        if result < 0:
            place[0] = cython.NULL
            op.enter_idle()
            Py_DECREF(ref(op))
        # From here on callbacks may run, so the table has to be right already.
        if former is not cython.NULL:
            evict(former)
        if neighbour is not cython.NULL:
            evict(neighbour)
        if result < 0:
            raise_errno(result)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def take_neighbour(self, op: Op | None) -> Ref:
        """Take the op for the other interest of the same descriptor out of the table, if it yields."""
        slot: cython.pointer[Slot] = cython.address(self.slots[op.fd])
        place: cython.pointer[Ref] = cython.address(slot.writer)
        if op.interest == WRITABLE:
            place = cython.address(slot.reader)
        p: Ref = place[0]
        if p is cython.NULL or not cython.cast(Op, p).yields:
            return cython.NULL
        place[0] = cython.NULL
        return p

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget(self, fd: cython.int) -> cython.int:
        """Drop the ops of a descriptor, because its number now belongs to a file that another driver
        watches.
        """
        if fd >= self.n_slots:
            return 0
        reader: Ref = self.slots[fd].reader
        writer: Ref = self.slots[fd].writer
        if reader is cython.NULL and writer is cython.NULL:
            return 0
        self.slots[fd].reader = self.slots[fd].writer = cython.NULL
        self.update(fd, False)
        if reader is not cython.NULL:
            evict(reader)
        if writer is not cython.NULL:
            evict(writer)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.int:
        if op.fd < 0 or op.fd >= self.n_slots:
            return 0
        place: cython.pointer[Ref] = self.place(op)
        if place[0] != ref(op):
            return 0
        op.enter_idle()
        place[0] = cython.NULL
        # The call fails if somebody else closed the descriptor. Then the kernel has stopped watching it.
        if self.update(op.fd, False) == -ENOENT and not op.yields:
            self.update(op.fd, False)
        Py_DECREF(ref(op))
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def place(self, op: Op | None) -> cython.pointer[Ref]:
        """Return the place in the table for an op of this descriptor and interest."""
        slot: cython.pointer[Slot] = cython.address(self.slots[op.fd])
        if op.interest == WRITABLE:
            return cython.address(slot.writer)
        return cython.address(slot.reader)

    @cython.cfunc
    @cython.exceptval(check=False)
    def update(self, fd: cython.int, anew: cython.bint) -> cython.int:
        """Register with the kernel what the slot waits for; with `anew` even if the mask is the same.

        Returns 0 or -errno. -ENOENT and -EBADF mean that the file that was watched under this number is
        closed.
        """
        slot: cython.pointer[Slot] = cython.address(self.slots[fd])
        mask: uint32_t = 0
        result: cython.int
        if slot.reader is not cython.NULL:
            mask |= EPOLLIN
        if slot.writer is not cython.NULL:
            mask |= EPOLLOUT
        if mask == slot.mask and not (anew and mask):
            return 0
        if self.inherited():  # the parent shares this epoll descriptor
            slot.mask = mask
            return -EPERM if mask else 0
        if mask == 0:
            result = hoop_epoll_ctl(self.epfd, EPOLL_CTL_DEL, fd, 0, 0)
        elif slot.mask == 0:
            slot.generation += 1
            result = hoop_epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, mask, name_of(slot, fd))
            if result == -EEXIST:
                result = hoop_epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, mask, name_of(slot, fd))
        else:
            result = hoop_epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, mask, name_of(slot, fd))
        if result >= 0 or mask == 0:
            slot.mask = mask
        elif result == -ENOENT or result == -EBADF:
            slot.mask = 0
        return result

    @cython.cfunc
    def armed(self, fd: cython.int, interest: cython.int) -> Op:
        if fd < 0 or fd >= self.n_slots:
            return None
        p: Ref = self.slots[fd].writer if interest == WRITABLE else self.slots[fd].reader
        return None if p is cython.NULL else cython.cast(Op, p)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def poll(self, ready: ReadyRing, timeout_ns: cython.longlong) -> cython.int:
        n: cython.int
        i: cython.int
        fd: cython.int
        seen: uint32_t
        slot: cython.pointer[Slot]
        ghosts: cython.bint = False
        epfd: cython.int = self.epfd
        spin_ns: cython.longlong = 0
        events = self.events
        if self.inherited():
            return self.nap(timeout_ns)
        if epfd < 0:
            if timeout_ns == 0:  # nobody wants anything of the kernel yet
                return 0
            self.open()
            epfd = self.epfd
            events = self.events
        if timeout_ns == 0:
            n = hoop_epoll_wait(epfd, events, BATCH, 0)
        else:
            if self.spin_ns:
                spin_ns = self.begin_wait(timeout_ns)
            if spin_ns:
                with cython.nogil:
                    hoop_tell(cython.address(ready.in_wait), IN_KERNEL)
                    n = hoop_epoll_spin(epfd, events, BATCH, spin_ns)
                    hoop_tell(cython.address(ready.in_wait), WANTS_GIL)
            else:
                self.waits += 1
                with cython.nogil:
                    hoop_tell(cython.address(ready.in_wait), IN_KERNEL)
                    n = hoop_epoll_wait(epfd, events, BATCH, timeout_ns)
                    hoop_tell(cython.address(ready.in_wait), WANTS_GIL)
            ready.in_wait = AWAKE
            if self.spin_ns:
                self.end_wait(n, spin_ns, timeout_ns)
        if n < 0:
            if n != -EINTR:
                raise_errno(n, "epoll_wait")
            PyErr_CheckSignals()
            return 0
        for i in range(n):
            fd = cython.cast(cython.int, cython.cast(uint32_t, events[i].data))
            seen = events[i].events
            if fd == self.wake_fd or fd >= self.n_slots:
                continue
            slot = cython.address(self.slots[fd])
            if slot.mask == 0 or slot.generation != cython.cast(uint32_t, events[i].data >> 32):
                ghosts = True
                continue
            # Report errors and hang-ups to both ops. Their system call will return the error.
            if slot.reader is not cython.NULL and seen & (EPOLLIN | EPOLLERR | EPOLLHUP):
                push_ready(ready, cython.cast(Op, slot.reader))
                slot = cython.address(
                    self.slots[fd]
                )  # complete() may run finalisers, which may grow the table
            if slot.writer is not cython.NULL and seen & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                push_ready(ready, cython.cast(Op, slot.writer))
        return self.start_anew() if ghosts else 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def start_anew(self) -> cython.int:
        """Replace the epoll descriptor by a new one, without the registrations that nobody can remove.

        The kernel reports a closed file for ever if a duplicate keeps it open. The number of the report
        belongs to another file by now, or to none.
        """
        fd: cython.int
        slot: cython.pointer[Slot]
        fresh: cython.int = hoop_epoll_create()
        if fresh < 0:
            return 0  # try again at the next report
        if self.wake_fd >= 0:
            hoop_epoll_ctl(fresh, EPOLL_CTL_ADD, self.wake_fd, EPOLLIN | EPOLLET, self.wake_fd)
        for fd in range(self.n_slots):
            slot = cython.address(self.slots[fd])
            if slot.mask == 0:
                continue
            # Copy the registration only if the number still belongs to the same file.
            if (
                hoop_epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, slot.mask, name_of(slot, fd)) < 0
                or hoop_epoll_ctl(fresh, EPOLL_CTL_ADD, fd, slot.mask, name_of(slot, fd)) < 0
            ):
                slot.mask = 0
        hoop_replace(self.epfd, fresh)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake(self) -> cython.int:
        if self.wake_fd >= 0 and not self.inherited():
            self.wakes += 1
            hoop_eventfd_write(self.wake_fd)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow_slots(self, fd: cython.int) -> cython.int:
        n: cython.longlong = self.n_slots or 64
        if fd >= FD_MAX:
            raise_errno(-EBADF)
        while n <= fd:
            n *= 2
        slots = cython.cast(
            cython.pointer[Slot], PyMem_Realloc(self.slots, n * cython.sizeof(Slot))
        )
        if slots is cython.NULL:
            raise MemoryError
        memset(slots + self.n_slots, 0, (n - self.n_slots) * cython.sizeof(Slot))
        self.slots = slots
        self.n_slots = n
        return 0

    @cython.cfunc
    def take_armed(self) -> list:
        found: list = self.operations()
        for op in found:
            self.cancel(op)
        return found

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_all(self) -> cython.int:
        """Drop every op without telling the kernel."""
        i: cython.int
        p: Ref
        for i in range(self.n_slots):
            self.slots[i].mask = 0
            p = self.slots[i].reader
            self.slots[i].reader = cython.NULL
            if p is not cython.NULL:
                cython.cast(Op, p).enter_idle()
                Py_DECREF(p)
            p = self.slots[i].writer
            self.slots[i].writer = cython.NULL
            if p is not cython.NULL:
                cython.cast(Op, p).enter_idle()
                Py_DECREF(p)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        if self.epfd >= 0:
            hoop_close(self.epfd)
            self.epfd = -1
        if self.wake_fd >= 0:
            hoop_close(self.wake_fd)
            self.wake_fd = -1
        self.is_closed = True
        self.release(SPARES_MAX)
        self.drop_all()
        return 0


@cython.final
@cython.no_gc_clear  # the other driver's last call, when it is freed, may come after the garbage collector's
@cython.cclass
class NestedOp(Op):
    """Lets another driver watch the descriptor of an EpollDriver. When that is readable, its events are
    taken.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def complete(self, result: cython.int, data: cython.p_char) -> cython.bint:
        if result >= 0 and self.phase == ARMED and self.ready is not cython.NULL:
            self.epoll.poll(cython.cast(ReadyRing, self.ready), 0)
        return False


@cython.cfunc
def new_nested() -> NestedOp:
    """Make an EpollDriver that another driver can watch, and return the op for that."""
    op: NestedOp = NestedOp.__new__(NestedOp)
    op.epoll = EpollDriver(True)
    op.fd = op.epoll.epfd
    op.interest = READABLE
    op.at_once = True
    return op


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def name_of(slot: cython.pointer[Slot], fd: cython.int) -> uint64_t:
    """Return the `data` of a registration: its generation and the descriptor."""
    return cython.cast(uint64_t, slot.generation) << 32 | cython.cast(uint32_t, fd)


@cython.cfunc
@cython.exceptval(-1, check=False)
def evict(p: Ref) -> cython.int:
    """Drop an op that was taken out of the table, and tell it so."""
    op: Op = cython.cast(Op, p)
    op.enter_idle()
    Py_DECREF(p)
    return op.evicted()


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def push_ready(ready: ReadyRing | None, op: Op | None) -> cython.int:
    if op.phase == ARMED:  # otherwise it is on the ready ring already
        if op.at_once and not op.complete(0, cython.NULL):
            return 0
        op.enter_ready()
        ready.push(op)
    return 0


_epoll_traverse = cython.declare(traverseproc, cython.NULL)
_epoll_clear = cython.declare(inquiry, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def epoll_traverse(d: EpollDriver | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    i: cython.int
    error: cython.int
    for i in range(d.n_slots):
        error = hoop_visit(d.slots[i].reader, visit, arg)
        if error:
            return error
        error = hoop_visit(d.slots[i].writer, visit, arg)
        if error:
            return error
    return _epoll_traverse(ref(d), visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def epoll_clear(d: EpollDriver | None) -> cython.int:
    d.close()
    return _epoll_clear(ref(d))


_epoll_traverse = hoop_swap_traverse(EpollDriver, cython.cast(traverseproc, epoll_traverse))
_epoll_clear = hoop_swap_clear(EpollDriver, cython.cast(inquiry, epoll_clear))
