"""The common part of both transports of a pipe: the descriptor, its end, and how the loop watches it.

    PipeEnd      the base of ReadPipe (pipes/reader.py) and WritePipe (pipes/writer.py)
    PipeOp       watches a transport's descriptor for one interest, from one arming to the next disarming

They behave as asyncio's transports of the running Python, whose names they show, down to the context of each
callback. So they call the protocol in the context in which the watch began. An exception that data_received()
raises goes to the loop's exception handler, and the transport goes on.

The descriptor belongs to the file object that your code gave to the loop. Your code may close that object,
and another file may get the number. Therefore the ops are foreign, and each call asks the object first.
"""

from __future__ import annotations

import _io
import _socket
import errno
import io
import os
import socket
import stat
import warnings

import cython
from cython.cimports.hoop._c.python import (
    PyCFunction,
    PyContext_Enter,
    Ref,
    exit_context,
    hoop_c_method,
    ref,
)
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.watching.watch import WatchLoop, WatchOp

from hoop.pipes.terminal import TerminalFlags

EBADF = cython.declare(cython.int, errno.EBADF)
_fstat = cython.declare(object, os.fstat)
_set_blocking = cython.declare(object, os.set_blocking)
_isatty = cython.declare(object, os.isatty)
FileIO = cython.declare(object, _io.FileIO)
_fileno = cython.declare(PyCFunction, hoop_c_method(_io.FileIO.fileno))
# The classes whose fileno() tells whether the object is closed. For others there is nothing to ask.
TELLING = cython.declare(
    frozenset,
    frozenset(
        (
            *(io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair),
            *(io.TextIOWrapper, socket.socket, _socket.socket),
        )
    ),
)


@cython.final
@cython.cclass
class PipeOp(WatchOp):
    """Watches a pipe for its transport. The handle that it has in common with add_reader() is for reports."""

    @property
    def _transport(self):
        return self.end

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def release(self) -> cython.int:
        self.end = None
        if not self.handle.is_cancelled:
            self.handle.cancel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def evicted(self) -> cython.int:
        return self.release()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self) -> cython.int:
        """Call the transport in the context of the watch, as the handle would do by name."""
        end: PipeEnd = self.end
        if end is None:
            return 0
        if not self.is_direct or end.loop.debug:
            return WatchOp.on_ready(self)
        handle = self.handle
        context: Ref = ref(handle.context)
        if PyContext_Enter(context) < 0:
            return -1
        try:
            try:
                end.on_ready(self.interest)
            finally:
                exit_context(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            handle.loop.call_exception_handler(handle.failure(exc))
        return 0


@cython.cclass
class PipeEnd(Attributed):
    """A transport of one end of a pipe, of a socket or of a character device."""

    def __cinit__(self):
        self.fd = -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self, loop: WatchLoop, pipe, protocol, extra, refusal: str) -> cython.int:
        """Take over an open file that the loop was given. ValueError with `refusal` if it is no pipe."""
        if _isatty(pipe.fileno()):
            self.terminal = TerminalFlags(pipe.fileno())
        self.extra = {} if extra is None else extra
        self.extra["pipe"] = pipe
        self.loop = loop
        self.pipe = pipe
        self.fd = pipe.fileno()
        self.protocol = protocol
        self.born = self.active = loop.stamp
        mode = _fstat(self.fd).st_mode
        self.is_fifo = stat.S_ISFIFO(mode)
        self.is_socket = stat.S_ISSOCK(mode)
        self.is_device = stat.S_ISCHR(mode)
        if not (self.is_fifo or self.is_socket or self.is_device):
            self.pipe = self.protocol = None
            self.fd = -1
            raise ValueError(refusal)
        _set_blocking(self.fd, False)
        return 0

    def __del__(self):
        self._give_back()
        if self.pipe is not None:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self.pipe.close()

    # ---- watching ----

    @cython.cfunc
    def watch(self, interest: cython.int, callback) -> PipeOp:
        if self.was_closed():
            raise os_error(-EBADF)
        op: PipeOp = PipeOp.__new__(PipeOp)
        op.end = self
        op.is_direct = self.attributes is cython.NULL
        self.loop.arm(op, self.fd, interest, callback, (), None)
        return op

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unwatch(self, op: PipeOp) -> cython.int:
        """Stop watching. Leaves another op alone that your code has put in the place of this one."""
        if op is None:
            return 0
        if not self.loop.closed:
            self.loop.driver.cancel(op)
        return op.release()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_ready(self, interest: cython.int) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop(self) -> cython.int:
        raise NotImplementedError(type(self).__name__)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def was_closed(self) -> cython.bint:
        """Whether your code has closed the file object. The number may be another file's by now."""
        kind = type(self.pipe)
        if kind is not FileIO and kind not in TELLING:
            return False
        try:
            fd: cython.int = _fileno(self.pipe, None) if kind is FileIO else self.pipe.fileno()
        except ValueError:
            return self.is_closed_file()
        return fd != self.fd

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_closed_file(self) -> cython.bint:
        try:
            return self.pipe.closed
        except ValueError:
            return False  # detach() was called, and the file is open

    # ---- the end ----

    def is_closing(self):
        """Whether the transport is closing, or closed."""
        return self.closing

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_over(self) -> cython.bint:
        """Whether the pipe is closed. If the loop is closed, just close the pipe: no protocol can be told."""
        if self.pipe is None:
            return True
        if not self.loop.closed:
            return False
        self.closing = True
        self._give_back()
        pipe = self.pipe
        self.pipe = None
        pipe.close()
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_with(self, exc) -> cython.int:
        if self.is_over():
            return 0
        self.closing = True
        self.stop()
        call_soon(self.loop, self._call_connection_lost, (exc,))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lose(self, exc) -> cython.int:
        """Tell the protocol that the connection is lost, and close the pipe."""
        if self.pipe is None:
            return 0  # the protocol knows: it called abort() in connection_lost()
        self.closing = True  # or else pause_reading() would look for the loop that is gone
        self._give_back()
        try:
            self.protocol.connection_lost(exc)
        finally:
            pipe = self.pipe
            if pipe is not None:
                self.stop()
                self.pipe = None
                pipe.close()
            self.protocol = self.loop = None
        return 0

    def _call_connection_lost(self, exc):
        self.lose(exc)

    def _close(self, exc=None):
        self.close_with(exc)

    def _give_back(self):
        if self.terminal is not None:
            self.terminal.give_back()

    # ---- asking ----

    def get_extra_info(self, name, default=None):
        """Return a fact about the transport: "pipe" is the file object."""
        return self.extra.get(name, default)

    def get_protocol(self):
        """Return the protocol; None once the connection is lost."""
        return self.protocol

    @cython.cfunc
    def state(self, interest: cython.int) -> str:
        """The beginning of the repr."""
        info = [type(self).__name__]
        if self.pipe is None:
            info.append("closed")
        elif self.closing:
            info.append("closing")
        info.append(f"fd={self.fd if self.fd >= 0 else None}")
        if self.pipe is None:
            info.append("closed")
        elif self.loop.closed:
            info.append("open")
        elif self.loop.driver.armed(self.fd, interest) is None:
            info.append("idle")
        else:
            info.append("polling")
        return " ".join(info)

    def _statistics(self):
        """Return what is known of the transport, for tools that observe it. Runs no code of yours."""
        return {
            "fd": self.fd,
            "born": self.born,
            "active": self.active,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "buffered": 0,
            "reading_paused": False,
            "writing_paused": False,
            "closing": self.closing,
            "protocol": self.protocol,
        }

    @property
    def _loop(self):
        return self.loop

    @property
    def _pipe(self):
        return self.pipe

    @_pipe.setter
    def _pipe(self, pipe):
        self.pipe = pipe

    @property
    def _fileno(self):
        return None if self.fd < 0 else self.fd

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _closing(self):
        return self.closing

    @property
    def _extra(self):
        return self.extra


@cython.cfunc
@cython.exceptval(-1, check=False)
def call_soon(loop, callback, args: tuple) -> cython.int:
    """Call it in the next turn, by the loop's own method, which your code may have replaced."""
    loop.call_soon(callback, *args)
    return 0
