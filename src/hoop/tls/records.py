"""The record layer of a TLS connection. It does no input or output: bytes are passed in and returned.

Python's own OpenSSL does the cryptography, in an SSLObject that the user's SSLContext made on two memory
BIOs. For handshake and shutdown this module calls methods of the SSLObject. For each record it calls only C
functions, on memory that all connections of a loop share. If the context made another kind of object, that
is called by its methods, as asyncio does.

OpenSSL may call the user's code: a callback of the context can close this connection, or use another one of
the loop. So after each call everything is checked again, and `busy` forbids nested calls.

This module splits the incoming bytes into records, by the lengths in their headers. So the BIO holds one
record at a time and stays small. It also calls OpenSSL only when a record is complete, because the
exception for an incomplete one would cost as much as a record.
"""

from __future__ import annotations

import _ssl
import ssl

import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBuffer_FillInfo
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.hoop._c.python import (
    Py_DECREF,
    PyErr_Clear,
    PyErr_ExceptionMatches,
    PyLong_AsSsize_t,
    PyObject_GetAttr,
    Ref,
    call_one_quiet,
    call_quiet,
    ref,
    take,
)
from cython.cimports.libc.string import memcpy

UNKNOWN = cython.declare(cython.uchar, 255)  # the value of `header` if the bytes are no TLS records

# The exceptions by which OpenSSL asks for more data. Without a socket the second means nothing else.
_MORE = cython.declare(tuple, (ssl.SSLWantReadError, ssl.SSLSyscallError))
_pending = cython.declare(str, "pending")


@cython.cfunc
@cython.exceptval(check=False)
def needs_more() -> cython.bint:
    """Whether the raised exception only asks for more data. If so, it is cleared."""
    if PyErr_ExceptionMatches(ref(_MORE)):
        PyErr_Clear()
        return True
    return False


@cython.cfunc
@cython.exceptval(-1, check=True)
def as_count(n, most: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return how many of `most` bytes write() took. It may be the user's, so check the number."""
    taken: cython.Py_ssize_t = n
    if not 0 <= taken <= most:
        raise ssl.SSLError(f"write() took {taken} of {most} bytes")
    return taken


def _is_known(sslobj):
    """Whether read() and write() are those of Python's own SSLObject, with the C object behind it."""
    return (
        isinstance(sslobj, ssl.SSLObject)
        and all(
            getattr(getattr(sslobj, name), "__func__", None) is vars(ssl.SSLObject)[name]
            for name in ("read", "write")
        )
        and type(getattr(sslobj, "_sslobj", None)) is _ssl._SSLSocket
    )


@cython.final
@cython.cclass
class Window:
    """A stretch of memory, as a buffer that OpenSSL's Python objects accept."""

    def __getbuffer__(self, view: cython.pointer[Py_buffer], flags: cython.int):
        PyBuffer_FillInfo(view, self, self.start, self.size, False, flags)


@cython.final
@cython.cclass
class Workspace:
    """Memory that the TLS connections of a loop share. Each uses it only during a call."""

    def __cinit__(self):
        self.plain = cython.cast(cython.p_char, PyMem_Malloc(PLAIN_BYTES + RECORD_BYTES))
        if self.plain is cython.NULL:
            raise MemoryError
        self.gathered = self.plain + PLAIN_BYTES
        self.window = Window.__new__(Window)
        self.into_window = (0, self.window)

    def __dealloc__(self):
        PyMem_Free(self.plain)


@cython.final
@cython.cclass
class Records:
    """The SSLObject of one connection, and a queue of data to encrypt."""

    def __init__(self, sslobj, incoming, outgoing, workspace: Workspace):
        self.sslobj = sslobj
        self.incoming = incoming
        self.outgoing = outgoing
        self.feed_bio = incoming.write
        self.take_bio = outgoing.read
        self.is_known = _is_known(sslobj)
        self.decrypt = sslobj._sslobj.read if self.is_known else sslobj.read
        self.encrypt = sslobj._sslobj.write if self.is_known else sslobj.write
        self.workspace = workspace
        self.chunks = []

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        """Drop everything but the SSLObject. Call nothing else afterwards."""
        self.incoming = self.outgoing = None
        self.feed_bio = self.take_bio = self.decrypt = self.encrypt = None
        self.chunks = []
        self.first = self.offset = self.queued = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def handshake(self) -> cython.bint:
        """Continue the handshake. Returns whether it is complete. Raises SSLError."""
        self.workspace.busy = True
        try:
            self.sslobj.do_handshake()
        except _MORE:
            return False
        finally:
            self.workspace.busy = False
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def shutdown(self) -> cython.bint:
        """Send close_notify, and look for the peer's. Returns whether that arrived. Raises SSLError."""
        self.workspace.busy = True
        try:
            self.sslobj.unwrap()
        except _MORE:
            return False
        finally:
            self.workspace.busy = False
        return True

    # ---- receiving ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def feed_record(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Give OpenSSL the bytes up to the end of a record, or all if none ends. Returns how many."""
        window: Window = self.workspace.window
        n = self.next_record(data, n)
        window.start = data
        window.size = n
        result: Ref = call_one_quiet(ref(self.feed_bio), ref(window))
        if result is cython.NULL:
            return -1
        Py_DECREF(result)
        return n

    @cython.cfunc
    @cython.exceptval(check=False)
    def next_record(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Return how many of the bytes belong to the present record; `whole` tells whether they end it."""
        i: cython.Py_ssize_t = 0
        byte: cython.uchar
        while self.header < HEADER_BYTES:
            if i == n:
                self.whole = False
                return n
            byte = cython.cast(cython.uchar, data[i])
            if (self.header == 0 and not 20 <= byte <= 24) or (self.header == 1 and byte != 3):
                self.header = UNKNOWN
                break
            if self.header == 3:
                self.missing = byte << 8
            elif self.header == 4:
                self.missing |= byte
            self.header += 1
            i += 1
        if self.header == UNKNOWN or self.missing > SEALED_BYTES:
            self.header = UNKNOWN
            self.whole = True  # let OpenSSL raise the error
            return n
        self.whole = n - i >= self.missing
        if not self.whole:
            self.missing -= n - i
            return n
        self.header = 0
        return i + self.missing

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unread(self) -> cython.Py_ssize_t:
        """Return how many bytes OpenSSL was given but has not read yet."""
        if self.incoming is None:
            return 0
        held = PyObject_GetAttr(self.incoming, _pending)
        return PyLong_AsSsize_t(ref(held))

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def decrypt_record(self, into: cython.p_void, room: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Decrypt one record, or the part of it that fits. Returns the number of bytes.

        0 means the peer's close_notify, -1 that no record is complete. Raises SSLError.
        """
        n: cython.Py_ssize_t
        workspace: Workspace = self.workspace
        decrypt = self.decrypt
        if decrypt is None:
            return -1
        if not self.is_known:
            return self.decrypt_by_name(cython.cast(cython.p_char, into), room)
        workspace.window.start = cython.cast(cython.p_char, into)
        workspace.window.size = room
        workspace.busy = True
        result: Ref = call_quiet(ref(decrypt), ref(workspace.into_window), cython.NULL)
        workspace.busy = False
        if result is cython.NULL:
            return -1 if needs_more() else -2
        n = PyLong_AsSsize_t(result)
        Py_DECREF(result)
        return n

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def decrypt_by_name(self, into: cython.p_char, room: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Decrypt through the methods of an SSL object that is not Python's own."""
        self.workspace.busy = True
        try:
            data: bytes = bytes(self.decrypt(room))
        except _MORE:
            return -1
        finally:
            self.workspace.busy = False
        if PyBytes_GET_SIZE(data) > room:
            raise ssl.SSLError(f"read() gave {len(data)} bytes for {room}")
        memcpy(into, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return PyBytes_GET_SIZE(data)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def skip(self) -> cython.int:
        """Decrypt and drop all data that was received, because the shutdown fails if some is left."""
        if self.decrypt is not None and (self.unread() or self.sslobj.pending()):
            try:
                while self.decrypt_record(self.workspace.plain, RECORD_BYTES) > 0:
                    pass
            except ssl.SSLError:
                pass  # the shutdown will raise the same error
        return 0

    # ---- sending ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, chunk: bytes) -> cython.int:
        """Queue a chunk, which must not be empty."""
        self.chunks.append(chunk)
        self.queued += PyBytes_GET_SIZE(chunk)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def encrypt_record(self) -> cython.Py_ssize_t:
        """Encrypt as much of the queue as fits into a record. Returns how many bytes.

        0 means that OpenSSL needs data from the peer first. Raises SSLError.
        """
        chunk: bytes = cython.cast(bytes, self.chunks[self.first])
        start: cython.p_char = PyBytes_AS_STRING(chunk) + self.offset
        n: cython.Py_ssize_t = PyBytes_GET_SIZE(chunk) - self.offset
        workspace: Workspace = self.workspace
        encrypt = self.encrypt
        if n > RECORD_BYTES:
            n = RECORD_BYTES
        elif n < RECORD_BYTES and n < self.queued:
            n = self.gather()
            start = workspace.gathered
        given = workspace.window if self.is_known else PyBytes_FromStringAndSize(start, n)
        workspace.window.start = start
        workspace.window.size = n
        workspace.busy = True
        result: Ref = call_one_quiet(ref(encrypt), ref(given))
        workspace.busy = False
        if result is cython.NULL:
            return 0 if needs_more() else -1
        taken: cython.Py_ssize_t = as_count(take(result), n)
        if self.encrypt is None:  # a callback of the context has closed the connection
            return 0
        self.consume(taken)
        return taken

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def gather(self) -> cython.Py_ssize_t:
        """Copy small chunks together, as many as fit into a record. Returns the number of bytes."""
        chunk: bytes
        n: cython.Py_ssize_t
        i: cython.Py_ssize_t
        total: cython.Py_ssize_t = 0
        offset: cython.Py_ssize_t = self.offset
        for i in range(self.first, len(self.chunks)):
            chunk = cython.cast(bytes, self.chunks[i])
            n = min(PyBytes_GET_SIZE(chunk) - offset, RECORD_BYTES - total)
            memcpy(self.workspace.gathered + total, PyBytes_AS_STRING(chunk) + offset, n)
            total += n
            offset = 0
            if total == RECORD_BYTES:
                break
        return total

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def consume(self, n: cython.Py_ssize_t) -> cython.int:
        """Drop the first n bytes of the queue."""
        left: cython.Py_ssize_t
        self.queued -= n
        while n:
            left = PyBytes_GET_SIZE(cython.cast(bytes, self.chunks[self.first])) - self.offset
            if n < left:
                self.offset += n
                return 0
            n -= left
            self.chunks[self.first] = None
            self.first += 1
            self.offset = 0
        if 2 * self.first >= len(self.chunks):  # so that each chunk is moved at most once
            del self.chunks[: self.first]
            self.first = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def has_output(self) -> cython.bint:
        """Whether OpenSSL has data to send that was not taken."""
        if self.outgoing is None:
            return False
        held = PyObject_GetAttr(self.outgoing, _pending)
        return PyLong_AsSsize_t(ref(held)) != 0

    @cython.cfunc
    def take(self) -> bytes:
        """Take the data that OpenSSL wants to send: records, or its part of a handshake. May be empty."""
        return b"" if self.take_bio is None else self.take_bio()
