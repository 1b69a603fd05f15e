"""Watches descriptors: your own for add_reader and add_writer, and those of a child process."""

from __future__ import annotations

import sys
from asyncio import format_helpers

import cython
from cython.cimports.hoop.drivers.op import READABLE, WRITABLE, Op
from cython.cimports.hoop.scheduling.handle import Handle, new_handle
from cython.cimports.hoop.watching.sockets import SocketLoop
from cython.cimports.libc.limits import INT_MAX

_extract_stack = cython.declare(object, format_helpers.extract_stack)


@cython.cfunc
def descriptor(fileobj) -> object:
    """Return the number of a descriptor, given as a number or as an object with fileno(), as selectors
    does.
    """
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


@cython.cclass
class WatchOp(Op):
    """Runs a handle each time the descriptor is ready."""

    def __cinit__(self):
        self.foreign = self.yields = True

    @property
    def _handle(self):
        return self.handle

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


@cython.cclass
class WatchLoop(SocketLoop):
    """The part of a loop that watches descriptors."""

    def __cinit__(self):
        self.watched = {}

    @cython.cfunc
    def watch(self, fileobj, interest: cython.int, callback, args: tuple, context) -> object:
        number = descriptor(fileobj)
        fd: cython.int = number
        watch: WatchOp = WatchOp.__new__(WatchOp)
        self.arm(watch, fd, interest, callback, args, context)
        if number is not fileobj:
            if self.driver.armed(fd, READABLE if interest == WRITABLE else WRITABLE) is None:
                self.watched[number] = fileobj
            else:
                self.watched.setdefault(number, fileobj)
        return watch.handle

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arm(
        self, watch: WatchOp, fd: cython.int, interest: cython.int, callback, args: tuple, context
    ) -> cython.int:
        """Watch a descriptor with a new op, in place of the one that watches it now."""
        self.check_open()
        self.check_driver()
        handle: Handle = new_handle(callback, args, context, self)
        if self.debug:
            handle.source_traceback = _extract_stack(sys._getframe(0))
        former: Op = self.driver.armed(fd, interest)
        if former is not None and not former.yields:
            raise RuntimeError(f"File descriptor {fd} is used by a transport")
        watch.fd = fd
        watch.interest = interest
        watch.handle = handle
        # If another op is armed for this number, the kernel knows whether the file is still the same.
        self.driver.submit(watch)
        self.look_at = 0  # it may be ready already, so ask the driver in the next turn
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unwatch(self, fileobj, interest: cython.int) -> cython.bint:
        if self.closed:
            return False
        self.check_driver()
        fd = self.watched_descriptor(fileobj)
        if fd > INT_MAX:
            return False
        op: Op = self.driver.armed(fd, interest)
        if op is None or not op.yields:
            return False
        self.driver.cancel(op)
        op.evicted()
        if self._watched(fd) == (None, None):
            self.watched.pop(fd, None)
        return True

    @cython.cfunc
    def watched_descriptor(self, fileobj) -> object:
        """Return the descriptor of an object. If it was closed while watched, return the one it had."""
        try:
            return descriptor(fileobj)
        except ValueError:
            for fd, known in self.watched.items():
                if known is fileobj:
                    return fd
            raise

    def _add_reader(self, fd, callback, *args, context=None):
        return self.watch(fd, READABLE, callback, args, context)

    def _remove_reader(self, fd):
        return self.unwatch(fd, READABLE)

    def _watch_kept(self, fd: cython.int, callback, *args):
        """Call callback(*args) each time that a descriptor is readable. Only hoop closes it, and calls
        _unwatch_kept() with what this returns before that. So on io_uring the ring itself may watch it.
        """
        self.check_open()
        self.check_driver()
        watch: WatchOp = WatchOp.__new__(WatchOp)
        watch.foreign = watch.yields = False
        watch.fd = fd
        watch.interest = READABLE
        watch.handle = new_handle(callback, args, None, self)
        self.driver.submit(watch)
        self.look_at = 0
        return watch

    def _unwatch_kept(self, watch: WatchOp):
        if not self.closed:
            self.check_driver()
            self.driver.cancel(watch)
        watch.handle.cancel()

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, WRITABLE, callback, args, context)

    def _remove_writer(self, fd):
        return self.unwatch(fd, WRITABLE)

    def _watched(self, fd):
        """Return the handles that wait for a descriptor to be readable and to be writable, or None."""
        self.check_driver()
        found = []
        for interest in (READABLE, WRITABLE):
            op = self.driver.armed(fd, interest)
            found.append(cython.cast(WatchOp, op).handle if isinstance(op, WatchOp) else op)
        return tuple(found)
