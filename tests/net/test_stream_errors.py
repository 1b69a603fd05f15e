"""StreamTransport, exceptions in every callback of the protocol: reported and ended as by asyncio."""

import asyncio
import socket

import pytest
from peers import BufferedRecorder, Recorder, pair, reports, same_as_asyncio, turns, until


class Odd(BaseException):
    """Neither an Exception nor an order to leave."""


ERRORS = [ValueError, OSError, ConnectionResetError, asyncio.CancelledError, Odd]
CALLBACKS = [
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


def raising(error):
    raised = []

    def hook(protocol, *_):
        if not raised:
            raised.append(error)
            raise error("on purpose")
        return getattr(protocol, "buffer", None)

    return hook


def protocol_with(callback, hook):
    """A protocol that runs the hook once, at that callback."""
    buffered = callback in ("get_buffer", "buffer_updated")
    return (BufferedRecorder if buffered else Recorder)(**{callback: hook})


async def exercise(loop, transport, peer):
    """Make every callback happen."""
    peer.sendall(b"x")
    await turns(20)
    transport.write(b"x" * 3_000_000)
    try:
        await drain_until_empty(transport, peer)
    except ConnectionError:
        pass  # the connection ended before everything was sent
    await turns(20)
    peer.close()


async def drain_until_empty(transport, peer):
    while True:
        try:
            if not peer.recv(100_000):
                return
        except BlockingIOError:
            if not transport.get_write_buffer_size():
                return
            await turns(1)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_exception_in_a_callback(loop, callback, error):
    async def script(loop):
        found = reports(loop)
        protocol = protocol_with(callback, raising(error))
        transport, peer = await pair(loop, protocol)
        await exercise(loop, transport, peer)
        await until(lambda: protocol.is_lost)
        await turns(5)
        told = []
        for message, kind, words, keys in found:
            if message.startswith("Exception in callback"):
                message, keys = "Exception in callback", None
            told.append((message, kind, words, keys))
        return told, type(protocol.lost_with), protocol.events

    same_as_asyncio(loop, script)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_order_to_leave_passes_and_nothing_is_lost(loop, callback, error):
    """The loop runs again afterwards, and the connection goes on, or not, as on asyncio."""
    stock = asyncio.SelectorEventLoop()
    stock.set_exception_handler(lambda *_: None)
    try:
        expected = interrupted(stock, callback, error)
    finally:
        stock.close()
    found = interrupted(loop, callback, error)
    assert found[0] == [callback, "raised"]
    assert found == expected


def interrupted(loop, callback, error):
    """Take turns by hand, with one callback that raises the error when other work is queued."""
    told, queued = [], []

    def hook(*args):
        if not told:
            told.append(callback)
            for n in range(3):
                loop.call_soon(queued.append, n)
            raise error("on purpose")
        return args[0].buffer if callback == "get_buffer" else None

    def attempt(function, *args):
        try:
            function(*args)
        except error:
            told.append("raised")

    def turn_until(condition):
        for _ in range(2000):
            if condition():
                return
            loop.call_soon(loop.stop)
            attempt(loop.run_forever)
        told.append("this never came: " + condition.__name__)

    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    protocol = protocol_with(callback, hook)
    transport = loop._make_socket_transport(ours, protocol)

    def made():
        return protocol.transport

    def read():
        return protocol.received.endswith(b"y")

    turn_until(made)
    for byte in (b"x", b"y"):
        peer.sendall(byte)
        for _ in range(20):
            loop.call_soon(loop.stop)
            attempt(loop.run_forever)
    turn_until(read)
    attempt(transport.write, b"x" * 3_000_000)

    def all_read():
        try:
            peer.recv(100_000)
        except BlockingIOError:
            return not transport.get_write_buffer_size()
        return False

    turn_until(all_read)
    peer.close()
    turn_until(transport.is_closing)
    for _ in range(3):
        loop.call_soon(loop.stop)
        attempt(loop.run_forever)
    transport.abort()
    for _ in range(3):
        loop.call_soon(loop.stop)
        attempt(loop.run_forever)
    return told, queued, type(protocol.lost_with), protocol.events, bytes(protocol.received)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("callback", ["get_buffer", "buffer_updated", "data_received"])
def test_orders_to_leave_between_what_was_received_lose_nothing_of_it(loop, callback, size):
    """Events that the driver has handed over wait for the next turns, and need no other event to come."""
    calls = []

    def leave(protocol, *_):
        calls.append(callback)
        if len(calls) % 3 == 1:
            raise SystemExit("on purpose")
        return protocol.buffer if callback == "get_buffer" else None

    def run(condition):
        for _ in range(2000):
            if condition():
                return
            loop.call_soon(loop.stop)
            try:
                loop.run_forever()
            except SystemExit:
                pass

    if callback == "data_received":
        protocol = Recorder(data_received=leave)
    else:
        protocol = BufferedRecorder(size, **{callback: leave})
    _, peer = loop.run_until_complete(pair(loop, protocol))
    sent = b""
    for round in range(3):
        for piece in range(5):
            data = bytes(range(round * 50 + piece * 10, round * 50 + piece * 10 + 10))
            peer.sendall(data)
            sent += data
        expected = len(sent)
        run(lambda expected=expected: len(protocol.received) >= expected)
        assert bytes(protocol.received) == sent
    peer.sendall(b"the last")
    peer.close()
    run(lambda: protocol.is_lost)
    assert bytes(protocol.received) == sent + b"the last"
    assert protocol.lost_with is None
    assert len(calls) > 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_order_to_leave_while_flushing_keeps_the_other_connections_writes(loop, error):
    """The sends of a turn are done one after the other: the ones behind are not forgotten."""

    def leave(*_):
        raise error("on purpose")

    async def connections():
        first = await pair(loop, Recorder(pause_writing=leave))
        others = [await pair(loop, Recorder()) for _ in range(5)]
        return first, others

    (first, first_peer), others = loop.run_until_complete(connections())

    async def write():
        for transport, _ in others[:2]:
            transport.write(b"before")
        first.set_write_buffer_limits(high=1 << 20)
        first.write(b"x" * 1_000_000)
        for transport, _ in others[2:]:
            transport.write(b"behind")
        first.set_write_buffer_limits(high=1000)

    with pytest.raises(error):
        loop.run_until_complete(write())

    async def read():
        found = []
        for transport, peer in others:
            found.append(await loop.sock_recv(peer, 100))
            transport.close()
            peer.close()
        first.abort()
        await turns(5)
        first_peer.close()
        return found

    assert loop.run_until_complete(read()) == [b"before"] * 2 + [b"behind"] * 3


def test_the_socket_for_which_no_protocol_can_be_made_is_treated_as_by_asyncio(loop):
    """It stays open; since Python 3.14.8 it is closed."""

    async def script(loop):
        found = []
        for connect in (loop.create_connection, loop.connect_accepted_socket):
            a, b = socket.socketpair()
            with a, b:
                with pytest.raises(ZeroDivisionError):
                    await connect(lambda: 1 / 0, sock=a)
                found.append(a.fileno() == -1)
        return found

    same_as_asyncio(loop, script)
