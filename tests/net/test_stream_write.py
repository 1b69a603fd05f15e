"""StreamTransport, sending: order, one send for a turn, slow peers, buffers, what may not be written."""

import array
import hashlib
import random
import socket
import sys

import pytest
from peers import (
    Recorder,
    connect,
    drain,
    fill,
    on_asyncio,
    outcome,
    pair,
    receive,
    same_as_asyncio,
    tcp_pair,
    turns,
    until,
)


def packets(loop, write):
    """The data of each send: a SOCK_SEQPACKET peer sees one packet for each."""

    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        ours.setblocking(False)
        with theirs:
            protocol = Recorder()
            transport = loop._make_socket_transport(ours, protocol)
            await until(lambda: protocol.transport)
            await write(transport)
            transport.close()
            await until(lambda: protocol.is_lost)
            found = []
            while packet := theirs.recv(100_000):
                found.append(packet)
            return found

    return loop.run_until_complete(main())


def test_lines_leave_in_one_send(loop):
    async def write(transport):
        transport.writelines([b"a", b"", bytearray(b"b"), memoryview(b"c")])
        transport.write(memoryview(b"d"))

    assert packets(loop, write) == [b"abc", b"d"]


def test_many_lines_leave_in_few_sends(loop):
    chunks = [b"%d," % n for n in range(1000)]

    async def write(transport):
        transport.writelines(chunks)
        await until(lambda: not transport.get_write_buffer_size())

    found = packets(loop, write)
    assert b"".join(found) == b"".join(chunks)
    assert len(found) <= 1000 // 60 + 1


def test_empty_writes_send_nothing(loop):
    async def write(transport):
        transport.write(b"")
        transport.write(bytearray())
        transport.write(memoryview(b""))
        transport.writelines([])
        transport.writelines([b"", b""])
        assert transport.get_write_buffer_size() == 0
        await turns(2)
        transport.write(b"x")
        transport.write(b"")

    assert packets(loop, write) == [b"x"]


def test_a_write_made_while_closing_the_turn_is_not_lost(loop):
    async def main():
        protocol = Recorder(data_received=lambda p, data: p.transport.write(data))
        transport, peer = await pair(loop, protocol)
        with peer:
            for n in range(200):
                peer.send(b"%d." % n)
                assert await receive(loop, peer, len(b"%d." % n)) == b"%d." % n
            transport.close()
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


@pytest.mark.parametrize("tcp", [False, True])
def test_many_megabytes_to_a_slow_peer_arrive_whole_and_in_order(loop, tcp):
    rng = random.Random(1)
    chunks = [rng.randbytes(rng.choice([1, 7, 500, 4096, 70_000, 300_000])) for _ in range(250)]
    expected = hashlib.sha256(b"".join(chunks)).hexdigest()

    async def main():
        protocol = Recorder()
        if tcp:
            ours, peer = tcp_pair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            transport = await connect(loop, ours, protocol)
        else:
            transport, peer = await pair(loop, protocol)
        reading = loop.create_task(drain(loop, peer, 20_000))
        backlog = 0
        for n in range(0, len(chunks), 5):
            if n % 2:
                transport.writelines(chunks[n : n + 5])
            else:
                for chunk in chunks[n : n + 5]:
                    transport.write(chunk)
            backlog = max(backlog, transport.get_write_buffer_size())
            if n % 3:
                await turns(1)
        assert backlog > 0
        transport.close()
        assert hashlib.sha256(await reading).hexdigest() == expected
        await until(lambda: protocol.is_lost)
        assert protocol.lost_with is None
        peer.close()

    loop.run_until_complete(main())


WORDS = array.array("H", range(60_000))
KINDS = {
    "bytes": bytes(WORDS),
    "bytearray": bytearray(WORDS),
    "memoryview": memoryview(bytes(WORDS)),
    "memoryview of words": memoryview(WORDS),
    "memoryview of rows": memoryview(bytes(WORDS)).cast("B", (600, 200)),
    "memoryview of every other byte": memoryview(bytes(WORDS))[::2],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_every_kind_of_buffer_is_sent_whole_behind_a_backlog(loop, kind, method):
    data = KINDS[kind]
    expected = bytes(data)

    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            filled = fill(transport)
            if method == "write":
                transport.write(data)
            else:
                transport.writelines([data, data])
            transport.close()
            found = await drain(loop, peer)
            assert found[filled:] == expected * (1 if method == "write" else 2)
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


@pytest.mark.parametrize("backlog", [False, True])
@pytest.mark.parametrize("view", [bytearray, lambda b: b, memoryview])
def test_a_mutable_buffer_belongs_to_the_caller_again_after_write(loop, backlog, view):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            filled = fill(transport) if backlog else 0
            data = bytearray(b"original" * 1000)
            buffer = view(data)
            transport.write(buffer)
            transport.writelines([buffer])
            buffer[:8] = b"changed!"
            del buffer
            data[:] = b"gone"  # raises BufferError if anybody holds a view
            transport.close()
            assert (await drain(loop, peer))[filled:] == b"original" * 2000
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


@pytest.mark.parametrize("bad", ["text", None, 1, [b"x"], array.array("B", b"x")])
def test_write_refuses_what_is_no_bytes(loop, bad):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            found = outcome(transport.write, bad)
            transport.close()
            await until(lambda: protocol.is_lost)
            return found, await drain(loop, peer)

    assert same_as_asyncio(loop, script)[0][0] == "TypeError"


def test_write_takes_its_argument_by_name(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            raised = outcome(transport.write, data=b"a")
            raised = raised or outcome(transport.writelines, list_of_data=[b"b"])
            transport.close()
            await until(lambda: protocol.is_lost)
            return raised, await drain(loop, peer)

    assert same_as_asyncio(loop, script) == (None, b"ab")


def test_writelines_with_a_bad_element_sends_nothing(loop):
    """asyncio keeps the good elements from Python 3.15 on, sends nothing any more, and never closes."""

    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            raised = outcome(transport.writelines, [b"good", "bad"])[0]
            held = transport.get_write_buffer_size()
            transport.write(b"more")
            transport.close()
            await until(lambda: protocol.is_lost)
            return raised, held, await drain(loop, peer)

    ended = ("TypeError", 0, b"more")
    assert loop.run_until_complete(script(loop)) == ended
    if sys.version_info < (3, 15):
        assert on_asyncio(script) == ended


def test_writelines_takes_any_iterable_and_any_buffer(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.writelines(part for part in (b"a", bytearray(b"b")))
            transport.writelines((memoryview(b"c"), array.array("B", b"d")))
            transport.close()
            await until(lambda: protocol.is_lost)
            return await drain(loop, peer)

    assert same_as_asyncio(loop, script) == b"abcd"


def test_what_may_not_be_written_after_write_eof(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.write(b"x")
            transport.write_eof()
            transport.write_eof()
            found = [outcome(transport.write, data) for data in (b"y", b"", "text")]
            found.append(outcome(transport.writelines, [b"y"]))
            found.append(outcome(transport.writelines, []))
            received = await drain(loop, peer)
            transport.close()
            await until(lambda: protocol.is_lost)
            found += [outcome(transport.write, b"z"), outcome(transport.write_eof)]
            # Python 3.11 joins the lines and says write() of writelines() too.
            return repr(found).replace("writelines", "write"), received, protocol.events

    found, received, _ = same_as_asyncio(loop, script)
    assert received == b"x"
    assert found.startswith("[('RuntimeError', 'Cannot call write() after write_eof()'), ")


@pytest.mark.parametrize("end", ["close", "abort"])
def test_writes_to_a_closed_transport_are_dropped_and_at_last_logged(loop, end, logged):
    async def script(loop):
        logged.records.clear()
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            getattr(transport, end)()
            for _ in range(5):
                transport.write(b"dropped")
            await until(lambda: protocol.is_lost)
            for _ in range(5):
                transport.write(b"dropped")
            transport.write(b"")
            received = await drain(loop, peer)
            return received, logged.messages

    received, logged = same_as_asyncio(loop, script)
    assert received == b""
    assert set(logged) == {"socket.send() raised exception."}


def test_what_is_written_after_close_behind_a_backlog(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            fill(transport)
            transport.close()
            transport.write(b"tail")
            received = await drain(loop, peer)
            await until(lambda: protocol.is_lost)
            return received.endswith(b"tail"), protocol.lost_with

    same_as_asyncio(loop, script)


def test_writelines_after_close_raises_nothing(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.close()
            transport.writelines([b"dropped"])
            await until(lambda: protocol.is_lost)
            transport.writelines([b"dropped"])
            assert await drain(loop, peer) == b""

    loop.run_until_complete(main())
