"""What is not as its class promises, and what only C code can do.

Of subclasses of bytes only their bytes count, as for asyncio, whatever bytes() makes of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import socket
import sys

import pytest
from peers import Recorder, until
from tls_peers import tls_pair

import hoop


class Odd(bytes):
    """bytes() of it is no plain bytes, and its length is a lie."""

    def __bytes__(self):
        return self

    def __len__(self):
        return 1000


ODD = Odd(b"odd bytes")


async def received_by(loop, send) -> bytes:
    """What arrives of what `send(transport)` sends."""
    ours, theirs = Recorder(), Recorder()
    a, b = socket.socketpair()
    transport, _ = await loop.create_connection(lambda: ours, sock=a)
    await loop.create_connection(lambda: theirs, sock=b)
    send(transport)
    transport.close()
    await until(lambda: theirs.is_lost)
    return bytes(theirs.received)


@pytest.mark.parametrize(
    "send",
    [
        lambda transport: transport.write(ODD),
        lambda transport: transport.writelines([ODD]),
        lambda transport: transport.writelines(iter((b"", ODD))),
    ],
    ids=["write", "writelines", "an iterator"],
)
def test_a_connection_sends_the_bytes_of_a_subclass(run, new_loop, send):
    async def main():
        return await received_by(asyncio.get_running_loop(), send)

    assert run(main()) == b"odd bytes"


def test_a_tls_connection_sends_the_bytes_of_a_subclass(run):
    async def main():
        ours, theirs = Recorder(), Recorder()
        transport, _ = await tls_pair(asyncio.get_running_loop(), ours, theirs)
        transport.write(ODD)
        transport.writelines([ODD])
        transport.close()
        await until(lambda: theirs.is_lost)
        return bytes(theirs.received)

    assert run(main()) == b"odd bytes" * 2


def test_a_datagram_has_the_bytes_of_a_subclass(run):
    async def main():
        loop = asyncio.get_running_loop()
        received = loop.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.set_result(data)

        there, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
        here, _ = await loop.create_datagram_endpoint(
            Protocol, remote_addr=there.get_extra_info("sockname")
        )
        here.sendto(ODD)
        try:
            return await received
        finally:
            here.close()
            there.close()

    assert run(main()) == b"odd bytes"


def test_a_native_reader_is_fed_the_bytes_of_a_subclass(run):
    async def main():
        reader = hoop.StreamReader()
        reader.feed_data(ODD)
        reader._buffer = ODD
        reader.feed_eof()
        return await reader.read()

    assert run(main()) == b"odd bytes"


def test_a_child_gets_the_bytes_of_a_subclass(run):
    async def main():
        child = await asyncio.create_subprocess_exec(
            "/bin/echo", Odd(b"odd argument"), stdout=asyncio.subprocess.PIPE
        )
        return (await child.communicate())[0]

    assert run(main()) == b"odd argument\n"


def test_a_path_has_the_bytes_of_a_subclass(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        await hoop.write_bytes(Odd(os.fsencode(path)), ODD)
        async with hoop.open(Odd(os.fsencode(path)), "rb") as file:
            assert await file.read() == b"odd bytes"
        return await hoop.read_bytes(Odd(os.fsencode(path)))

    assert run(main()) == b"odd bytes"


# ---- contexts --------------------------------------------------------------------------------------


def enter(context) -> None:
    """Make a context the thread's and leave it at that, as only C code can."""
    ctypes.pythonapi.PyContext_Enter(ctypes.py_object(context))


def leave(context) -> None:
    ctypes.pythonapi.PyContext_Exit(ctypes.py_object(context))


@pytest.mark.parametrize("kind", ["callback", "task", "eager task"])
def test_who_leaves_another_context_entered_is_reported_and_the_loop_goes_on(loop, kind, logged):
    """From Python 3.12 on the handler is run in the callback's context, which cannot be entered again.

    Then, as on asyncio, it is the log that says what happened.
    """
    mine, other = contextvars.copy_context(), contextvars.Context()
    reported, ran = [], []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def coro():
        enter(other)
        await asyncio.sleep(0)

    def begin():
        if kind == "callback":
            loop.call_soon(enter, other, context=mine)
        elif kind == "task":
            loop.create_task(coro(), context=mine)
        else:
            task = hoop.Task(coro(), loop=loop, context=mine, eager_start=True)
            reported.append(task.exception())

    loop.call_soon(begin)
    for _ in range(4):
        loop.call_soon(ran.append, None)
        loop.call_soon(loop.stop)
        loop.run_forever()
    try:
        assert "cannot exit context" in (str(reported[0]) if reported else logged.text)
        assert reported or (kind == "callback" and sys.version_info >= (3, 12))
        assert len(ran) == 4
    finally:
        if kind == "task":  # its second step could not enter a context that the thread was in
            assert str(reported[1]).startswith("cannot enter context")
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False
        leave(other)
        leave(mine)


# ---- exceptions ------------------------------------------------------------------------------------


def test_an_exception_class_that_settles_the_future_settles_it_once(loop):
    future = loop.create_future()
    told = []
    future.add_done_callback(told.append)

    class Settles(Exception):
        def __init__(self):
            future.set_result("by the class")

    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(Settles)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert future.result() == "by the class"
    assert told == [future]


@pytest.mark.parametrize("value", [object(), 5, "x" * 100, b"", None], ids=type)
def test_no_coroutine_is_made_of_what_is_no_object_of_ours(value):
    """Of a function that may be called by its class Python does not look at what it gets for its self."""
    for cls, names in {
        hoop.StreamReader: ("read", "readexactly", "readline", "readuntil"),
        hoop.StreamWriter: ("drain", "wait_closed"),
        hoop.Lock: ("acquire", "__aenter__"),
        hoop.Semaphore: ("acquire",),
        hoop.Event: ("wait",),
        hoop.Condition: ("acquire", "wait", "__aenter__"),
        hoop.Queue: ("get", "join"),
    }.items():
        for name in names:
            arguments = (1,) if name == "readexactly" else ()
            with pytest.raises(TypeError):
                getattr(cls, name)(value, *arguments)
