"""Objects that break their class's promises, and things that only C code can do.

Of subclasses of bytes only their bytes count, as for asyncio, whatever bytes() makes of them.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import ctypes
import os
import socket
import sys

import pytest
from peers import Recorder, until
from tls_peers import client_context, server_context, tls_pair

import hoop


class Odd(bytes):
    """bytes() of it is no plain bytes, and its length is a lie."""

    def __bytes__(self):
        return self

    def __len__(self):
        return 1000


ODD = Odd(b"odd bytes")


async def received_by(loop, send) -> bytes:
    """The bytes that arrive of those that `send(transport)` sends."""
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
            second = logged.text if sys.version_info >= (3, 12) else str(reported[1])
            assert "cannot enter context" in second
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False
        leave(other)
        leave(mine)


LEFT_ENTERED = """
import asyncio, contextvars, ctypes, logging, os, socket, sys, hoop

logging.basicConfig(stream=sys.stdout)  # it is the log that is told from Python 3.12 on

class Protocol(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        ctypes.pythonapi.PyContext_Enter(ctypes.py_object(other))

def report(loop, context):
    print(str(context["exception"]).partition(":")[0], flush=True)

other = contextvars.Context()
loop = hoop.new_event_loop()
loop.set_exception_handler(report)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
loop.run_until_complete(loop.create_datagram_endpoint(Protocol, sock=ours))
os._exit(0)  # the thread stays in both contexts
"""


def test_a_datagram_protocol_that_leaves_another_context_entered_is_reported(python):
    assert "cannot exit context" in python(LEFT_ENTERED)


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


def test_the_arguments_of_an_await_s_end_are_nobody_else_s(loop):
    for value in range(4):
        future = loop.create_future()
        future.set_result(value)
        with pytest.raises(StopIteration) as caught:
            next(future.__await__())
        assert caught.value.args == (value,)
        caught.value.args = (object(), object())
        del caught


# ---- what locks, queues and readers are made of ------------------------------------------------------


def test_a_queue_of_another_kind_s_insides_still_is_a_queue():
    queue = hoop.LifoQueue()
    hoop.Queue._init(queue, 0)  # no list, which it appends to in C
    for item in (1, 2):
        queue.put_nowait(item)
    queue._queue = collections.deque([3])
    queue.put_nowait(4)
    assert [queue.get_nowait(), queue.get_nowait()] == [4, 3]


def test_waiters_that_put_others_in_their_place_are_not_looked_for_there(run):
    lock = hoop.Lock()

    class Waiters:
        def __len__(self):
            lock._waiters = []
            return 1

        def __getitem__(self, index):
            raise IndexError("nobody")

    async def main():
        lock._waiters = Waiters()
        with pytest.raises(IndexError, match="nobody"):
            await lock.acquire()
        lock._waiters = None
        await lock.acquire()
        lock._waiters = Waiters()
        with pytest.raises(IndexError, match="nobody"):
            lock.release()

    run(main())


def test_a_barrier_takes_no_state_that_is_none():
    barrier = hoop.Barrier(2)
    for state in (200, -1, "full"):
        with pytest.raises(ValueError, match="state of a barrier"):
            barrier.__setstate__({"fields": (hoop.Condition(), 2, 0, state)})
    assert "filling" in repr(barrier)


@pytest.mark.parametrize("watched", ["_limit", "_waiter", "_eof"])
def test_a_reader_s_attribute_may_run_code_when_another_is_looked_up(run, watched):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            attributes = vars(reader)
            buffers = []

            class Name:
                """Not a string, but at a string's place in the dictionary."""

                def __hash__(self):
                    return hash(watched)

                def __eq__(self, other):
                    if buffers is not None:
                        attributes["_buffer"] = bytearray(attributes["_buffer"])
                        buffers.append(None)
                    return False

            attributes.pop(watched)
            value = {"_limit": 2**16, "_waiter": None, "_eof": False}[watched]
            attributes[Name()] = None
            attributes[watched] = value
            for _ in range(4):
                theirs.send(b"x" * 100)
                for _ in range(4):
                    await asyncio.sleep(0)
            assert buffers
            writer.close()
            await writer.wait_closed()

    run(main())


# ---- transports that call back -----------------------------------------------------------------------


class Direct(asyncio.Transport):
    """Written data reaches the other's protocol at once. At some write the connection is lost instead."""

    _start_tls_compatible = True

    def __init__(self, lost_at):
        super().__init__()
        self.lost_at = lost_at
        self.writes = 0
        self.is_lost = False
        self.protocol = self.other = None

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def write(self, data):
        self.writes += 1
        if self.writes == self.lost_at:
            self.close()
        elif not self.is_lost:
            self.other.protocol.data_received(bytes(data))

    def close(self):
        for end in (self, self.other):
            if not end.is_lost:
                end.is_lost = True
                end.protocol.connection_lost(None)

    abort = close

    def is_closing(self):
        return self.is_lost

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_transport_may_tell_of_its_end_within_each_write_of_tls(run, side):
    async def main():
        loop = asyncio.get_running_loop()
        for lost_at in range(1, 12):
            ends = client, server = Direct(0), Direct(0)
            client.other, server.other = server, client
            ends[side == "server"].lost_at = lost_at
            recorders = Recorder(), Recorder()
            starting = [
                loop.start_tls(server, recorders[1], server_context(), server_side=True),
                loop.start_tls(client, recorders[0], client_context(), server_hostname="localhost"),
            ]
            upgraded = await asyncio.gather(*starting, return_exceptions=True)
            for transport in upgraded:
                if not isinstance(transport, Exception):
                    transport.write(b"x" * 100_000)
                    transport.writelines([b"x", b"x" * 20_000])
                    await asyncio.sleep(0)
                    transport.close()
            for _ in range(4):
                await asyncio.sleep(0)
            assert client.is_lost
            assert server.is_lost

    run(main())


def test_a_tls_connection_is_made_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(loop, client, server)
        with pytest.raises(RuntimeError, match="initialized already"):
            transport._ssl_protocol.__init__(loop, transport, client, *[None] * 6, 1.0, 1.0)
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)

    run(main())


@pytest.mark.parametrize("moment", ["room", "close"])
def test_a_socket_may_end_the_connection_when_it_is_asked_for_its_number(run, moment):
    asked = []

    class Socket(socket.socket):
        def fileno(self):
            if asked:
                asked.pop()()
            return super().fileno()

    async def main():
        ours, theirs = socket.socketpair()
        ours = Socket(fileno=ours.detach())
        with theirs:
            making = asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            transport, protocol = await making
            if moment == "room":
                transport.write(b"x" * 5_000_000)
                asked.append(transport.abort)
                while asked:
                    assert set(theirs.recv(100_000)) == {ord("x")}
                    await asyncio.sleep(0)
            else:  # a write that waits for a second one is sent by close()
                for _ in range(4):
                    transport.writelines([b"x", b"x"])
                    transport.write(b"x")
                    await asyncio.sleep(0)
                transport.write(b"x")
                asked.append(transport.abort)
                transport.close()
                asked.clear()
            await until(lambda: protocol.is_lost)
            while received := theirs.recv(1_000_000):
                assert set(received) == {ord("x")}

    run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_protocol_may_give_way_to_another_when_it_is_asked_for_its_buffer(run, tls, size):
    async def main():
        loop = asyncio.get_running_loop()
        then = Recorder()

        class GivesWay(asyncio.BufferedProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def get_buffer(self, sizehint):
                self.transport.set_protocol(then)
                return bytearray(1000)

            def buffer_updated(self, nbytes):
                raise AssertionError("it has given way")

        sender = Recorder()
        if tls:
            _, transport = await tls_pair(loop, GivesWay(), sender)
        else:
            ours, theirs = socket.socketpair()
            await loop.create_connection(GivesWay, sock=ours)
            transport, _ = await loop.create_connection(lambda: sender, sock=theirs)
        transport.write(b"x" * size)
        transport.close()
        await until(lambda: then.is_lost and sender.is_lost)
        assert bytes(then.received) == b"x" * size

    run(main())


# ---- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_transport_that_gets_no_memory_closes_its_socket(python, driver, kind):
    """One allocation after the other fails, until the transport can be made."""
    pytest.importorskip("_testcapi")
    code = f"""
        import _testcapi, asyncio, os, socket, hoop

        async def main():
            loop = asyncio.get_running_loop()
            kind = {kind!r}
            make = getattr(loop, "_make_socket_transport" if kind == "stream" else "_make_datagram_transport")
            type = socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM
            protocol = asyncio.Protocol() if kind == "stream" else asyncio.DatagramProtocol()
            for spared in range(100):
                sock = socket.socket(socket.AF_INET, type)
                sock.setblocking(False)
                transport = None
                _testcapi.set_nomemory(spared, spared + 1)
                try:
                    transport = make(sock, protocol)
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                if transport is not None:
                    break
                sock.close()
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
            print(spared > 3, sock.fileno())

        before = len(os.listdir("/proc/self/fd"))
        hoop.run(main(), loop_factory=lambda: hoop.new_event_loop(driver={driver!r}))
        print(len(os.listdir("/proc/self/fd")) - before)
        """
    assert python(code, "-W", "ignore") == "True -1\n0\n"
