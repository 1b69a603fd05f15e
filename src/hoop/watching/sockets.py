"""The loop's methods for the user's own sockets: sock_recv, sock_sendall, sock_connect and the others.

Each returns a coroutine in C (see scheduling/coroutine.py). It tries the system call. If the call would
block, it waits for the socket (see watching/readiness.py) and tries again. It tries only when its task
runs, so a cancelled task has received nothing.

On an ordinary socket, bytes are received and sent without a call of Python. For other socket classes, and
for calls with addresses, the coroutine calls the socket's own methods. For objects that are no
socket.socket it works as asyncio does, with add_reader and add_writer.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import socket
from asyncio import base_events

import cython
from cython.cimports.cpython.buffer import (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cython.cimports.cpython.long import PyLong_AsLongAndOverflow
from cython.cimports.hoop._c.linux import (
    EPOLLIN,
    EPOLLOUT,
    hoop_is_readable,
    hoop_sockopt,
    hoop_try_recv,
    hoop_try_send,
)
from cython.cimports.hoop._c.python import PyCFunction, hoop_c_method
from cython.cimports.hoop.drivers.errors import raise_errno
from cython.cimports.hoop.scheduling.base import SCRATCH_BYTES, LoopBase
from cython.cimports.hoop.scheduling.coroutine import (
    OVER,
    Method,
    NativeCoroutine,
    mark_coroutine_function,
    new_coroutine,
    new_coroutine_of_two,
)
from cython.cimports.hoop.watching.readiness import SocketSlot, SocketTable
from cython.cimports.libc.stdint import uint32_t

Socket = cython.declare(object, socket.socket)
SO_ACCEPTCONN = cython.declare(cython.int, socket.SO_ACCEPTCONN)
SO_ERROR = cython.declare(object, socket.SO_ERROR)
SOL_SOCKET = cython.declare(object, socket.SOL_SOCKET)
# Address families whose addresses may contain host names.
NAMED = cython.declare(
    tuple, (socket.AF_INET, socket.AF_INET6) if base_events._HAS_IPv6 else (socket.AF_INET,)
)
AF_UNIX = cython.declare(object, socket.AF_UNIX)
EAGAIN = cython.declare(cython.int, errno.EAGAIN)
RETRY_MS_MAX = cython.declare(cython.Py_ssize_t, 64)

_fileno = cython.declare(PyCFunction, hoop_c_method(_socket.socket.fileno))
_check_ssl_socket = cython.declare(object, base_events._check_ssl_socket)
_stock = cython.declare(object, asyncio.SelectorEventLoop)


# ---- the methods of the loop -------------------------------------------------------------------------


@cython.cclass
class SocketLoop(LoopBase):
    """The part of a loop that uses the user's own sockets."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_driver(self) -> cython.int:
        if self.driver is None:
            raise RuntimeError("EventLoop.__init__() was not called")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open_socket_table(self) -> cython.int:
        self.check_driver()
        table: SocketTable = SocketTable()
        self.driver.submit(table)
        self.socket_table = table
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close_socket_table(self) -> cython.int:
        """Close the socket table. The driver must be closed already."""
        if self.socket_table is not None:
            self.socket_table.close()
            self.socket_table = None
        return 0

    @cython.binding(True)
    def sock_recv(self, sock, n):
        """Receive at most n bytes. See asyncio.loop.sock_recv."""
        if is_socket(sock):
            return new_coroutine_of_two(RECEIVE, self, sock, n)
        return _stock.sock_recv(self, sock, n)

    @cython.binding(True)
    def sock_recv_into(self, sock, buf):
        """Receive into a buffer. Returns the number of bytes. See asyncio.loop.sock_recv_into."""
        if is_socket(sock):
            return new_coroutine_of_two(RECEIVE_INTO, self, sock, buf)
        return _stock.sock_recv_into(self, sock, buf)

    @cython.binding(True)
    def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram. Returns it and the address of its sender. See asyncio.loop.sock_recvfrom."""
        if is_socket(sock):
            return new_coroutine_of_two(RECEIVE_FROM, self, sock, bufsize)
        return _stock.sock_recvfrom(self, sock, bufsize)

    @cython.binding(True)
    def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into a buffer. Returns its size and the address of its sender.

        See asyncio.loop.sock_recvfrom_into.
        """
        if is_socket(sock):
            return new_coroutine_of_two(RECEIVE_FROM_INTO, self, sock, (buf, nbytes))
        return _stock.sock_recvfrom_into(self, sock, buf, nbytes)

    @cython.binding(True)
    def sock_sendall(self, sock, data):
        """Send all of the data. See asyncio.loop.sock_sendall."""
        if is_socket(sock):
            return new_coroutine_of_two(SEND_ALL, self, sock, data)
        return _stock.sock_sendall(self, sock, data)

    @cython.binding(True)
    def sock_sendto(self, sock, data, address):
        """Send a datagram. Returns how many bytes were sent. See asyncio.loop.sock_sendto."""
        if is_socket(sock):
            return new_coroutine_of_two(SEND_TO, self, sock, (data, address))
        return _stock.sock_sendto(self, sock, data, address)

    @cython.binding(True)
    def sock_connect(self, sock, address):
        """Connect to an address. A host name in it is looked up. See asyncio.loop.sock_connect."""
        if is_socket(sock):
            return new_coroutine_of_two(CONNECT, self, sock, address)
        return _stock.sock_connect(self, sock, address)

    @cython.binding(True)
    def sock_accept(self, sock):
        """Accept a connection. Returns its socket, which is non-blocking, and the peer's address.

        See asyncio.loop.sock_accept.
        """
        if is_socket(sock):
            return new_coroutine(ACCEPT, self, sock)
        return _stock.sock_accept(self, sock)


# ---- shared by all methods ---------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(-1, check=False)
def is_socket(sock) -> cython.bint:
    """Whether an object is a true socket.socket, and not a mock of one."""
    return type(sock) is Socket or issubclass(type(sock), Socket)


@cython.cfunc
@cython.exceptval(-1, check=True)
def descriptor_of(sock) -> cython.int:
    return _fileno(sock, None) if type(sock) is Socket else sock.fileno()


@cython.cfunc
@cython.exceptval(-1, check=False)
def check(loop: SocketLoop, sock) -> cython.int:
    if type(sock) is not Socket:
        _check_ssl_socket(sock)
    if loop.debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    return 0


@cython.cfunc
def slot_of(c: NativeCoroutine, fd: cython.int) -> SocketSlot:
    """Return the slot of the coroutine's socket, or None."""
    table: SocketTable = cython.cast(SocketLoop, c.owner).socket_table
    return None if table is None else table.slot_of(fd, c.value)


@cython.cfunc
@cython.exceptval(-1, check=False)
def wait_again(c: NativeCoroutine, mask: uint32_t) -> cython.int:
    """End a step: wait for the socket, after the kernel has looked at its state once more."""
    fd: cython.int = descriptor_of(c.value)
    return wait_ready(c, fd, slot_of(c, fd), mask, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def wait_ready(
    c: NativeCoroutine, fd: cython.int, slot: SocketSlot, mask: uint32_t, again: cython.bint
) -> cython.int:
    """Wait for a socket. The caller knows its slot, and whether to look again: see SocketTable.wait."""
    loop: SocketLoop = cython.cast(SocketLoop, c.owner)
    if slot is None or fd in loop.transports:
        loop._ensure_fd_no_transport(fd)
    if loop.closed:
        loop.check_open()
    if loop.socket_table is None:
        loop.open_socket_table()
    return c.wait_for(loop.socket_table.wait(loop, c.value, fd, slot, mask, again))


@cython.cclass
class SocketMethod(Method):
    """A method that tries its call, and waits for the socket, until the call succeeds."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        raise NotImplementedError(self.name)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        check(cython.cast(SocketLoop, c.owner), c.value)
        return self.attempt(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        return self.attempt(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        c.value = c.extra = None  # drop the user's buffer
        raise error


# ---- receiving ---------------------------------------------------------------------------------------


@cython.final
@cython.cclass
class Receive(SocketMethod):
    """loop.sock_recv()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        size: cython.Py_ssize_t = size_of(c.extra)
        if type(c.value) is not Socket or not 0 < size <= SCRATCH_BYTES:
            try:
                c.value = c.value.recv(c.extra)
                return OVER
            except (BlockingIOError, InterruptedError):
                return wait_again(c, EPOLLIN)
        fd: cython.int = descriptor_of(c.value)
        slot: SocketSlot = slot_of(c, fd)
        buffer = cython.cast(SocketLoop, c.owner).scratch_buffer()
        result: cython.Py_ssize_t = receive_some(fd, slot, buffer, size)
        if result < 0:
            return wait_ready(c, fd, slot, EPOLLIN, False)
        c.value = PyBytes_FromStringAndSize(buffer, result)
        return OVER


@cython.cfunc
@cython.exceptval(-2, check=False)
def receive_some(
    fd: cython.int, slot: SocketSlot, buffer: cython.p_void, size: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Receive once. Returns the number of bytes, or -1 if the socket would block."""
    if slot is not None and slot.drained:
        return -1
    result: cython.Py_ssize_t = hoop_try_recv(fd, buffer, size)
    if result == -EAGAIN:
        return -1
    if result < 0:
        raise_errno(result)
    if slot is not None:
        # On TCP a short read means that the socket is empty until the next event.
        slot.drained = slot.ends_short and 0 < result < size
    return result


@cython.cfunc
@cython.exceptval(check=False)
def size_of(n) -> cython.Py_ssize_t:
    """Return n, or 0 if it is no ordinary number. Then the socket's method raises the right error."""
    overflow: cython.int = 0
    if type(n) is not int:
        return 0
    size: cython.Py_ssize_t = PyLong_AsLongAndOverflow(n, cython.address(overflow))
    return 0 if overflow else size


@cython.final
@cython.cclass
class ReceiveInto(SocketMethod):
    """loop.sock_recv_into()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        result: cython.Py_ssize_t
        view: Py_buffer
        if type(c.value) is not Socket or not borrow(c.extra, cython.address(view)):
            try:
                c.value = c.value.recv_into(c.extra)
                return OVER
            except (BlockingIOError, InterruptedError):
                return wait_again(c, EPOLLIN)
        try:
            fd: cython.int = descriptor_of(c.value)
            slot: SocketSlot = slot_of(c, fd)
            result = receive_some(fd, slot, view.buf, view.len)
        finally:
            PyBuffer_Release(cython.address(view))
        if result < 0:
            return wait_ready(c, fd, slot, EPOLLIN, False)
        c.value = result
        return OVER


@cython.cfunc
@cython.exceptval(-1, check=False)
def borrow(buffer, view: cython.pointer[Py_buffer]) -> cython.bint:
    """Borrow a buffer to receive into. False if it has no room: then the socket's method raises."""
    try:
        PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
    except (BufferError, TypeError):
        return False
    if view.len == 0:
        PyBuffer_Release(view)
        return False
    return True


@cython.cfunc
@cython.exceptval(-1, check=False)
def room_in(buffer) -> cython.Py_ssize_t:
    """Return how many bytes fit into a buffer."""
    view: Py_buffer
    if not borrow(buffer, cython.address(view)):
        return 0
    room: cython.Py_ssize_t = view.len
    PyBuffer_Release(cython.address(view))
    return room


@cython.cclass
class ByName(SocketMethod):
    """A method that receives by calling a method of the socket."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        if type(c.value) is Socket and self.may_wait(c.extra):
            fd: cython.int = descriptor_of(c.value)
            slot: SocketSlot = slot_of(c, fd)
            # Asking first is cheaper than catching a BlockingIOError. A listener has connections only, and
            # no other socket has any: there the socket's method says what is wrong.
            if ((slot is not None and slot.drained) or not hoop_is_readable(fd)) and hoop_sockopt(
                fd, SO_ACCEPTCONN
            ) == self.of_listener:
                return wait_ready(c, fd, slot, EPOLLIN, False)
        try:
            c.value = self.call(c.value, c.extra)
            return OVER
        except (BlockingIOError, InterruptedError):
            return wait_again(c, EPOLLIN)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def may_wait(self, arguments) -> cython.bint:
        """Whether the arguments are right, so that the socket's method would not refuse them."""
        return True

    def call(self, sock, arguments):
        raise NotImplementedError(self.name)


@cython.final
@cython.cclass
class ReceiveFrom(ByName):
    """loop.sock_recvfrom()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def may_wait(self, arguments) -> cython.bint:
        return size_of(arguments) > 0

    def call(self, sock, arguments):
        return sock.recvfrom(arguments)


@cython.final
@cython.cclass
class ReceiveFromInto(ByName):
    """loop.sock_recvfrom_into()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def may_wait(self, arguments) -> cython.bint:
        buffer, n = arguments
        size: cython.Py_ssize_t = size_of(n)
        room: cython.Py_ssize_t = room_in(buffer)
        return type(n) is int and room > 0 and 0 <= size <= room

    def call(self, sock, arguments):
        buffer, n = arguments
        return sock.recvfrom_into(buffer, n or len(buffer))


@cython.final
@cython.cclass
class Accept(ByName):
    """loop.sock_accept()."""

    def __cinit__(self):
        self.of_listener = True

    def call(self, sock, arguments):
        conn, address = sock.accept()
        conn.setblocking(False)
        return conn, address


# ---- sending -----------------------------------------------------------------------------------------


@cython.final
@cython.cclass
class Sending:
    """The data of a sock_sendall(), and how much of it was sent."""


@cython.final
@cython.cclass
class SendAll(SocketMethod):
    """loop.sock_sendall()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        result: cython.Py_ssize_t
        data = c.extra
        cython.cast(SocketLoop, c.owner).look_at = 0
        if type(data) is Sending:
            return self.go_on(c, cython.cast(Sending, data))
        if type(data) is bytes and type(c.value) is Socket:
            size: cython.Py_ssize_t = PyBytes_GET_SIZE(data)
            result = hoop_try_send(descriptor_of(c.value), PyBytes_AS_STRING(data), size)
            if result == size:
                c.value = None
                return OVER
            if result < 0 and result != -EAGAIN:
                raise_errno(result)
        else:
            result = send_some(c.value, data)
        sending: Sending = Sending.__new__(Sending)
        sending.view = memoryview(data).cast("B")
        sending.position = max(result, 0)
        c.extra = sending
        return self.wait_or_end(c, sending)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go_on(self, c: NativeCoroutine, sending: Sending) -> cython.int:
        result: cython.Py_ssize_t = send_some(c.value, sending.view[sending.position :])
        if result > 0:
            sending.position += result
        return self.wait_or_end(c, sending)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wait_or_end(self, c: NativeCoroutine, sending: Sending) -> cython.int:
        if sending.position < len(sending.view):
            return wait_again(c, EPOLLOUT)
        c.value = c.extra = None
        return OVER


@cython.cfunc
@cython.exceptval(-2, check=False)
def send_some(sock, data) -> cython.Py_ssize_t:
    """Send once. Returns the number of bytes, or -1 if the socket would block."""
    result: cython.Py_ssize_t
    view: Py_buffer
    if type(sock) is not Socket:
        try:
            return max(sock.send(data), -1)
        except (BlockingIOError, InterruptedError):
            return -1
    PyObject_GetBuffer(data, cython.address(view), PyBUF_SIMPLE)
    try:
        result = hoop_try_send(descriptor_of(sock), view.buf, view.len)
    finally:
        PyBuffer_Release(cython.address(view))
    if result == -EAGAIN:
        return -1
    if result < 0:
        raise_errno(result)
    return result


@cython.final
@cython.cclass
class SendTo(SocketMethod):
    """loop.sock_sendto()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        data, address = cython.cast(tuple, c.extra)
        cython.cast(SocketLoop, c.owner).look_at = 0
        try:
            c.value = c.value.sendto(data, address)
            return OVER
        except (BlockingIOError, InterruptedError):
            return wait_again(c, EPOLLOUT)


# ---- connecting --------------------------------------------------------------------------------------


@cython.final
@cython.cclass
class Connect(SocketMethod):
    """loop.sock_connect(): looks up a host name, by the coroutine's `inner`, and then connects.

    While the backlog of a Unix socket is full, `inner` is a pause and `count` its length in milliseconds.
    """

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def attempt(self, c: NativeCoroutine) -> cython.int:
        c.count = 0
        if c.value.family not in NAMED:
            return self.connect(c)
        return c.delegate(_resolve(c))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def connect(self, c: NativeCoroutine) -> cython.int:
        cython.cast(SocketLoop, c.owner).look_at = 0
        try:
            c.value.connect(c.extra)
            c.value = None
            return OVER
        except (BlockingIOError, InterruptedError) as exc:
            if exc.errno == EAGAIN and c.value.family == AF_UNIX:
                # The server's backlog is full. The kernel does not report when it has room, so try again
                # later.
                c.count = min(max(1, c.count * 2), RETRY_MS_MAX)
                return c.delegate(asyncio.sleep(c.count * 1e-3))
            return wait_again(c, EPOLLOUT)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        if c.inner is not None:
            c.inner = None
            return self.connect(c)
        slot: SocketSlot = slot_of(c, descriptor_of(c.value))
        try:
            # The connection may have been reset already. Then a later call on the socket reports that.
            if slot is None or slot.failed:
                error = c.value.getsockopt(SOL_SOCKET, SO_ERROR)
                if error:
                    raise OSError(error, f"Connect call failed {c.extra}")
        except (BlockingIOError, InterruptedError):
            return wait_again(c, EPOLLOUT)
        finally:
            self.end_waiting(c)
        c.value = None
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        if c.inner is None:
            self.end_waiting(c)
        c.value = None
        raise error

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_waiting(self, c: NativeCoroutine) -> cython.int:
        """Stop watching the socket.

        Does nothing if the loop is closed, or in a forked child, which shares the parent's table.
        """
        loop: SocketLoop = cython.cast(SocketLoop, c.owner)
        if loop.socket_table is None or loop.driver.inherited():
            return 0
        return loop.socket_table.end_waiting(c.value, EPOLLOUT)


async def _resolve(c: NativeCoroutine):
    """Replace the host name in the address by the address that it stands for."""
    sock = c.value
    loop = c.owner
    resolved = await loop._ensure_resolved(
        c.extra, family=sock.family, type=sock.type, proto=sock.proto, loop=loop
    )
    _, _, _, _, c.extra = resolved[0]


RECEIVE = cython.declare(Receive, Receive("sock_recv", SocketLoop))
RECEIVE_INTO = cython.declare(ReceiveInto, ReceiveInto("sock_recv_into", SocketLoop))
RECEIVE_FROM = cython.declare(ReceiveFrom, ReceiveFrom("sock_recvfrom", SocketLoop))
RECEIVE_FROM_INTO = cython.declare(
    ReceiveFromInto, ReceiveFromInto("sock_recvfrom_into", SocketLoop)
)
SEND_ALL = cython.declare(SendAll, SendAll("sock_sendall", SocketLoop))
SEND_TO = cython.declare(SendTo, SendTo("sock_sendto", SocketLoop))
CONNECT = cython.declare(Connect, Connect("sock_connect", SocketLoop))
ACCEPT = cython.declare(Accept, Accept("sock_accept", SocketLoop))


for _name, _function in vars(SocketLoop).items():
    if _name.startswith("sock_"):
        mark_coroutine_function(_function)
