"""Feeds asyncio's own StreamReader in C, as its feed_data() would do it in Python.

It does so only while no program can tell the difference. The protocol and its reader must be exactly of
asyncio's classes. The classes must have asyncio's own methods, and the objects no additional attributes.
Otherwise it declines the bytes, and the transport calls data_received().
"""

from __future__ import annotations

import weakref
from asyncio import streams

import cython
from cython.cimports.cpython.bytearray import (
    PyByteArray_AS_STRING,
    PyByteArray_GET_SIZE,
    PyByteArray_Resize,
)
from cython.cimports.hoop._c.python import (
    Py_False,
    Py_None,
    PyDict_GetItemWithError,
    PyDict_SetItem,
    PyNumber_AsSsize_t,
    Ref,
    hoop_is_dead,
    hoop_type_version,
    ref,
)
from cython.cimports.hoop.net.endpoint import DECLINED, TAKEN, Layer
from cython.cimports.hoop.scheduling.future import PENDING, Future
from cython.cimports.libc.string import memcpy

Protocol = cython.declare(type, streams.StreamReaderProtocol)
Reader = cython.declare(type, streams.StreamReader)
WeakReference = cython.declare(type, weakref.ref)

# The methods whose work is done here. If a program replaces one, the feeder stops.
_originals = cython.declare(
    list,
    [
        (cls, name, vars(cls)[name])
        for cls, name in (
            (Protocol, "data_received"),
            (Protocol, "_stream_reader"),
            (Reader, "feed_data"),
            (Reader, "_wakeup_waiter"),
        )
        if name in vars(cls)
    ],
)


def _is_asyncio_s_own(member):
    """Whether asyncio defined a member. A program may have replaced it before hoop was imported."""
    function = member.fget if isinstance(member, property) else member
    return getattr(function, "__globals__", None) is vars(streams)


_as_shipped = cython.declare(
    cython.bint,
    {"data_received", "feed_data", "_wakeup_waiter"} <= {name for _, name, _ in _originals}
    and all(_is_asyncio_s_own(member) for _, _, member in _originals),
)
# The version tags that both classes had when they were last checked.
_protocol_version = cython.declare(cython.uint, 0)
_reader_version = cython.declare(cython.uint, 0)

BUFFER = cython.declare(str, "_buffer")
EOF = cython.declare(str, "_eof")
ERROR = cython.declare(str, "_exception")
LIMIT = cython.declare(str, "_limit")
READER_REF = cython.declare(str, "_stream_reader_wr")
WAITER = cython.declare(str, "_waiter")
MISSING = cython.declare(object, object())


@cython.cfunc
@cython.exceptval(-1, check=False)
def _are_originals() -> cython.bint:
    """Whether both classes still have asyncio's methods. If a class has changed, so has its version tag."""
    global _protocol_version, _reader_version
    protocol_version: cython.uint = hoop_type_version(Protocol)
    reader_version: cython.uint = hoop_type_version(Reader)
    if (
        protocol_version == _protocol_version
        and reader_version == _reader_version
        and protocol_version
        and reader_version
    ):
        return True
    for cls, name, original in _originals:
        if vars(cls).get(name) is not original:
            return False
    _protocol_version = protocol_version
    _reader_version = reader_version
    return True


@cython.cfunc
@cython.inline
def item(attributes: Ref, name) -> object:
    """Return an attribute, or a marker object if it is missing."""
    value: Ref = PyDict_GetItemWithError(attributes, ref(name))
    return MISSING if value is cython.NULL else cython.cast(object, value)


@cython.final
@cython.cclass
class Feeder(Layer):
    """Takes the bytes of a connection whose protocol is asyncio's StreamReaderProtocol."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def look(self) -> cython.bint:
        """Check the protocol and its reader for the first time. Returns whether both are asyncio's."""
        protocol_attributes = vars(self.protocol)
        if type(protocol_attributes) is not dict:
            return False
        self.protocol_attributes = protocol_attributes
        self.reader_ref = self.protocol_attributes.get(READER_REF)
        is_weak: cython.bint = type(self.reader_ref) is WeakReference
        reader = self.reader_ref() if is_weak else None
        if type(reader) is not Reader:
            return False
        attributes = vars(reader)
        if type(attributes) is not dict:
            return False
        for own in (attributes, self.protocol_attributes):
            for _, name, _ in _originals:
                if name in own:
                    return False
        self.reader_attributes = attributes
        self.count = len(attributes)
        self.protocol_count = len(self.protocol_attributes)
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        return self.feed(data, n, False)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_early_bytes(self, data: cython.p_char, n: cython.Py_ssize_t) -> cython.int:
        return DECLINED if self.reader_attributes is None else self.feed(data, n, True)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def feed(self, data: cython.p_char, n: cython.Py_ssize_t, early: cython.bint) -> cython.int:
        """Feed the reader. If called early, feed it only as much as it takes without pausing."""
        if not _are_originals():
            return DECLINED
        if self.reader_attributes is None and (self.hopeless or not self.look()):
            self.hopeless = True
            return DECLINED
        attributes: Ref = ref(self.reader_attributes)
        # A key that is no plain string could run code during a look-up.
        buffer = item(attributes, BUFFER)
        limit = item(attributes, LIMIT)
        waiter = item(attributes, WAITER)
        if (
            len(self.reader_attributes) != self.count
            or len(self.protocol_attributes) != self.protocol_count
            or PyDict_GetItemWithError(ref(self.protocol_attributes), ref(READER_REF))
            != ref(self.reader_ref)
            or hoop_is_dead(self.reader_ref)
            or PyDict_GetItemWithError(attributes, ref(EOF)) != Py_False
        ):
            return DECLINED
        if type(buffer) is not bytearray or type(limit) is not int:
            return DECLINED
        if waiter is not None and type(waiter) is not Future:
            return DECLINED
        size: cython.Py_ssize_t = PyByteArray_GET_SIZE(buffer)
        if limit is not self.limit_object:
            self.limit_object = limit
            self.limit = PyNumber_AsSsize_t(self.limit_object, cython.NULL)
        if early and (size + n) // 2 >= self.limit:
            return DECLINED
        try:
            PyByteArray_Resize(buffer, size + n)
        except BufferError:  # somebody holds a view of the reader's buffer
            return DECLINED
        memcpy(PyByteArray_AS_STRING(buffer) + size, data, n)
        if waiter is not None:
            PyDict_SetItem(attributes, ref(WAITER), Py_None)
            if cython.cast(Future, waiter).state == PENDING:
                cython.cast(Future, waiter).finish(None)
        if (size + n) // 2 >= self.limit:
            self.pause()
        return TAKEN

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def pause(self) -> cython.int:
        """Pause the transport if the reader holds more than twice its limit."""
        transport = self.reader_attributes["_transport"]
        if (
            transport is not None
            and not self.reader_attributes["_paused"]
            and len(self.reader_attributes[BUFFER]) > 2 * self.limit_object
        ):
            try:
                transport.pause_reading()
            except NotImplementedError:
                self.reader_attributes["_transport"] = None
            else:
                self.reader_attributes["_paused"] = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def on_lost(self) -> cython.int:
        """Let the reader return the bytes it has before it raises the connection's error."""
        if self.reader_attributes is None or not self.reader_attributes.get(BUFFER):
            return 0
        reader = self.reader_ref()
        if type(reader) is Reader and self.reader_attributes.get(ERROR) is not None:
            reader.__class__ = FailedReader
        return 0


class FailedReader(streams.StreamReader):
    """asyncio's reader after the connection failed: a read raises the error if too few bytes are left."""

    __slots__ = ()

    @property
    def _exception(self):
        return None if self.__dict__[BUFFER] else self.__dict__[ERROR]

    @_exception.setter
    def _exception(self, error):
        self.__dict__[ERROR] = error

    async def _wait_for_data(self, func_name):
        """Called by a read that needs more bytes: raise the error."""
        raise self.__dict__[ERROR]


@cython.cfunc
def feeder_of(protocol) -> Feeder:
    """Return a Feeder for a protocol of asyncio's; None if the protocol has to be called."""
    if type(protocol) is not Protocol or not _as_shipped or not _are_originals():
        return None
    feeder: Feeder = Feeder.__new__(Feeder)
    feeder.protocol = protocol
    return feeder
