"""The descriptors that the process of a host holds, and that the kernel takes back when it ends.

A crash runs no code of the program, so its tasks keep their sockets and files until the run has ended. The
descriptors are closed at once. The objects learn that they are closed, because the next who opens something
gets the same numbers.
"""

from __future__ import annotations

import os
import weakref

import cython
from cython.cimports.hoop._c.linux import hoop_close
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.sim.driver import SimDriver

from hoop.sim.calls import real

PRUNE_AT = cython.declare(cython.Py_ssize_t, 64)


@cython.final
@cython.cclass
class Holdings:
    """The descriptors of one process. A host has another one after each start."""

    def __cinit__(self):
        self.sockets = weakref.WeakSet()
        self.files = weakref.WeakSet()
        self.buffers = []
        self.prune_at = PRUNE_AT
        self.opened = {}
        self.given_back = set()
        self.stopped = []

    def add_socket(self, sock) -> None:
        """The program has made a socket."""
        self.sockets.add(sock)

    def add_file(self, file) -> None:
        """The program has opened a file by open(). Here it is the file without a buffer."""
        self.files.add(file)
        if file.closefd:
            self.opened.pop(file.fileno(), None)

    def add_buffer(self, buffer) -> None:
        """The program has opened a file by hoop.open(), perhaps with a descriptor of its own."""
        if buffer.owns:
            self.opened.pop(buffer.fileno(), None)
        if len(self.buffers) >= self.prune_at:
            self.buffers = [one for one in self.buffers if not one.closed]
            self.prune_at = PRUNE_AT + 2 * len(self.buffers)
        self.buffers.append(buffer)

    def add_descriptor(self, fd: cython.int) -> None:
        """The program has got a descriptor from os.open()."""
        self.opened[fd] = identity(fd)

    def close_descriptor(self, fd: cython.int) -> None:
        """The program closes a descriptor. One that was given back is closed already."""
        if fd in self.given_back:
            return
        self.opened.pop(fd, None)
        real(os.close, fd)

    def give_back(self, loop) -> None:
        """The process has ended. Bytes that were to be written to sockets and files are lost."""
        self.give_back_loop(loop)
        loop._file_pool.give_back()
        fd: cython.int
        for sock in list(self.sockets):
            fd = sock.detach()
            if fd >= 0:
                hoop_close(fd)
        self.give_back_files()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back_loop(self, loop: Loop) -> cython.int:
        """Stop all transports and calls of a loop, and close what its driver has."""
        driver: SimDriver = cython.cast(SimDriver, loop.driver)
        for transport in loop._open_transports():
            transport.abort()
            if transport._sock is not None:
                self.sockets.add(transport._sock)
        if driver.completions is not None:
            driver.completions.close()
            driver.completions = None
        if driver.inner is not None:
            self.stopped.extend(driver.inner.take_armed())
            driver.inner.close()
            driver.inner = None
        loop.close_socket_table()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def give_back_files(self) -> cython.int:
        """Close all files, without writing."""
        for file in list(self.files):
            try:
                file.close()
            except OSError:  # its descriptor was closed behind its back
                pass
        for buffer in self.buffers:
            buffer.release()
            call = buffer.closing()
            if call is not None:
                call.forgo()
        self.buffers.clear()
        for fd, file in self.opened.items():
            if identity(fd) == file:
                self.given_back.add(fd)
                hoop_close(fd)
        self.opened.clear()
        return 0


@cython.cfunc
def identity(fd: cython.int) -> tuple:
    """The file that a descriptor leads to; None if it is closed."""
    try:
        status = real(os.fstat, fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
