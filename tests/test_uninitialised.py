"""Objects that were made by `__new__()` alone: whatever is done with one raises, and nothing crashes."""

from __future__ import annotations

import asyncio
import copy
import socket

import pytest

import hoop
from hoop.disk import buffer, call
from hoop.disk import source as file
from hoop.net import datagram, listener, stream
from hoop.tls import layer as tls_layer
from hoop.tls import transport as tls

# Every class of the core in a process of its own, so that a crash has a name.
SWEEP = """
import asyncio, contextlib, importlib, os, pkgutil, signal, sys, warnings
import hoop

warnings.simplefilter("ignore")
names = [m.name for m in pkgutil.walk_packages(hoop.__path__, "hoop.") if "demo" not in m.name]
modules = [m for m in map(importlib.import_module, names) if m.__file__.endswith(".so")]
found = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
classes = [c for c in found if c.__module__.split(".")[0] == "hoop"]
assert {hoop.Task, hoop.Queue} <= set(classes)
classes.append(hoop.EventLoop)
empty = asyncio.Future.__new__(asyncio.Future)
ARGUMENTS = [(), (None,), (1,), (b"x",), (None, None), (1, 1), (b"x", None), (None,) * 3, (len,), (empty,)]
LEFT_OUT = ("__class__", "__subclasshook__", "__init_subclass__", "mro")


def attempt(function, *args):
    try:
        return function(*args)
    except BaseException:
        return None


def probe(kind):
    for name in dir(kind):
        if name in LEFT_OUT:
            continue
        thing = attempt(kind.__new__, kind)
        if thing is None:
            return
        method = attempt(getattr, thing, name)
        for args in ARGUMENTS if callable(method) else ():
            result = attempt(method, *args)
            if hasattr(result, "send"):
                attempt(lambda: result.send(None))
                attempt(lambda: result.throw(ValueError()))
                attempt(lambda: result.close())
        attempt(setattr, thing, name, None)
        attempt(delattr, thing, name)
        for function in (repr, hash, iter, next, len, bool, dir, list, lambda o: o < o):
            attempt(function, thing)


for kind in classes:
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        probe(kind)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status:
        print(kind.__module__, kind.__qualname__, status)
print(len(classes) > 90)
"""


def test_nothing_that_is_done_with_one_crashes(python):
    assert python(SWEEP, "-W", "ignore") == "True\n"


SOCKETS = """
import socket, hoop, hoop.loop.turn

# On nothing that came, and with no room to send.
a, b = socket.socketpair()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listening = socket.create_server(("127.0.0.1", 0))
for sock in (a, b, datagrams, listening):
    sock.setblocking(False)
waits = [
    ("sock_recv", a, 1),
    ("sock_recv_into", a, bytearray(1)),
    ("sock_recvfrom", datagrams, 1),
    ("sock_recvfrom_into", datagrams, bytearray(1)),
    ("sock_sendall", a, b"x" * 10_000_000),
    ("sock_accept", listening),
    ("sock_connect", a, "/nowhere"),
]
for name, *args in waits:
    for kind in (hoop.EventLoop, hoop.loop.turn.Loop):
        loop = kind.__new__(kind)
        try:
            getattr(loop, name)(*args).send(None)
        except (AttributeError, RuntimeError, OSError) as exc:
            print(type(exc).__name__)
"""


def test_a_loop_without_a_driver_waits_for_no_socket(python):
    told = python(SOCKETS, "-W", "ignore").split()
    assert len(told) == 14
    assert set(told) <= {"AttributeError", "RuntimeError", "FileNotFoundError"}


FILLED_IN_BY_C = [
    buffer.Buffer,
    call.OpenCall,
    call.ReadCall,
    call.StatusCall,
    call.SystemCall,
    datagram.DatagramTransport,
    file.DrainCall,
    file.FileBuffer,
    file.FillCall,
    file.OwnedCall,
    listener.AcceptOp,
    stream.StreamTransport,
    tls.SSLTransport,
    tls_layer.TlsLayer,
]


@pytest.mark.parametrize("kind", FILLED_IN_BY_C, ids=lambda kind: kind.__name__)
def test_what_only_the_core_can_fill_in_is_made_by_nobody_else(kind):
    with pytest.raises(TypeError, match="cannot create"):
        kind.__new__(kind)
    with pytest.raises(TypeError):
        kind()


def test_a_transport_is_not_copied(loop):
    ours, theirs = socket.socketpair()
    with theirs:
        making = loop.create_connection(asyncio.Protocol, sock=ours)
        transport, _ = loop.run_until_complete(making)
        with pytest.raises(TypeError):
            copy.copy(transport)
        transport.abort()
        loop.run_until_complete(hoop.sleep(0))
