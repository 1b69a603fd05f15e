"""Loop.look: how soon a loop that is busy with callbacks sees what has come in."""

import asyncio
import os
import socket

import pytest
from peers import Recorder, connect, same_as_asyncio, turns

import hoop

TRIES = 5


async def turns_until(condition):
    """How many turns of sleep(0) it takes."""
    n = 0
    while not condition():
        await asyncio.sleep(0)
        n += 1
        assert n < 100_000
    return n


async def after_write(loop):
    """Two transports of one loop: the idiom of websockets' tests."""
    found = []
    a, b = socket.socketpair()
    one, other = Recorder(), Recorder()
    await connect(loop, a, one)
    await connect(loop, b, other)
    for _ in range(TRIES):
        one.transport.write(b"x")
        found.append(await turns_until(lambda: other.received))
        other.received.clear()
    one.transport.close()
    found.append(await turns_until(lambda: other.is_lost) <= 4)
    await turns_until(lambda: one.is_lost)
    return found


async def after_an_answer(loop):
    """There and back, while the loop is busy."""
    found = []
    a, b = socket.socketpair()
    one = Recorder()
    other = Recorder(data_received=lambda p, data: p.transport.write(data))
    await connect(loop, a, one)
    await connect(loop, b, other)
    for _ in range(TRIES):
        one.transport.write(b"x")
        found.append(await turns_until(lambda: one.received) <= 4)
        one.received.clear()
    one.transport.close()
    await turns_until(lambda: one.is_lost and other.is_lost)
    return found


async def after_write_eof(loop):
    found = []
    for _ in range(TRIES):
        a, b = socket.socketpair()
        one, other = Recorder(), Recorder(eof_received=lambda p: None)
        await connect(loop, a, one)
        await connect(loop, b, other)
        await turns(200)
        one.transport.write_eof()
        found.append(await turns_until(lambda: "eof_received" in other.events))  # noqa: B023
        await turns_until(lambda: one.is_lost and other.is_lost)  # noqa: B023
    return found


async def after_a_raw_send(loop):
    """Not hoop that sends: but something has just come in, or the loop has slept."""
    found, hits = [], []
    c, d = socket.socketpair()
    c.setblocking(False)
    d.setblocking(False)
    loop.add_reader(d, lambda: hits.append(d.recv(10)))
    await asyncio.sleep(0.001)
    for _ in range(TRIES):
        hits.clear()
        c.send(b"x")
        found.append(await turns_until(lambda: hits))
    loop.remove_reader(d)
    c.close()
    d.close()
    return found


async def after_add_reader(loop):
    """A descriptor that is ready already, in the middle of a long busy run."""
    found = []
    for _ in range(TRIES):
        c, d = socket.socketpair()
        c.send(b"x")
        await turns(200)
        hits = []
        loop.add_reader(d, hits.append, 1)
        found.append(await turns_until(lambda: hits))  # noqa: B023
        loop.remove_reader(d)
        c.close()
        d.close()
    return found


async def after_connect_read_pipe(loop):
    found = []
    for _ in range(TRIES):
        a, b = socket.socketpair()
        protocol = Recorder()
        a.send(b"xxx")
        await turns(200)
        transport, _ = await loop.connect_read_pipe(
            lambda: protocol,  # noqa: B023
            os.fdopen(b.detach(), "rb", 0),
        )
        found.append(await turns_until(lambda: protocol.received) <= 2)  # noqa: B023
        transport.close()
        a.close()
        await turns(3)
    return found


async def after_sock_sendall(loop):
    found = []
    c, d = socket.socketpair()
    c.setblocking(False)
    d.setblocking(False)
    hits = []
    loop.add_reader(d, lambda: hits.append(d.recv(10)))
    for _ in range(TRIES):
        hits.clear()
        await turns(200)
        await loop.sock_sendall(c, b"x")
        found.append(await turns_until(lambda: hits))
    loop.remove_reader(d)
    c.close()
    d.close()
    return found


async def after_sendto(loop):
    found, got = [], []

    class Told(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            got.append(data)

    transport, _ = await loop.create_datagram_endpoint(Told, local_addr=("127.0.0.1", 0))
    for _ in range(TRIES):
        got.clear()
        await turns(200)
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        found.append(await turns_until(lambda: got) <= 3)
    transport.close()
    await turns(3)
    return found


@pytest.mark.parametrize(
    "script",
    [
        after_write,
        after_an_answer,
        after_write_eof,
        after_a_raw_send,
        after_add_reader,
        after_connect_read_pipe,
        after_sock_sendall,
        after_sendto,
    ],
)
def test_a_busy_loop_sees_what_came_as_soon_as_asyncio(loop, script):
    same_as_asyncio(loop, script)


def test_in_a_long_busy_run_on_epoll_most_turns_do_not_look():
    """Each look is a system call. An event unknown to the loop waits for a while, but not for ever."""

    async def main():
        found, hits = [], []
        r, w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(r, lambda: hits.append(os.read(r, 10)))
        for _ in range(20):
            await turns(500)
            hits.clear()
            os.write(w, b"x")
            found.append(await turns_until(lambda: hits))
        loop.remove_reader(r)
        os.close(r)
        os.close(w)
        return found

    loop = hoop.new_event_loop("epoll")
    found = loop.run_until_complete(main())
    loop.close()
    assert max(found) <= 66
    assert max(found) > 8  # unless the clock moved on in each of them
