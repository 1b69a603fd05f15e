"""StreamTransport, flow control: when the protocol is told to pause and to resume writing."""

import socket

import pytest
from peers import Recorder, connect, drain, fill, outcome, pair, same_as_asyncio, turns, until


async def small_pair(loop, protocol):
    """A pair whose kernel buffers are small and of a known size."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    theirs.setblocking(False)
    return await connect(loop, ours, protocol), theirs


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"high": 0},
        {"high": 10},
        {"low": 10},
        {"high": 10, "low": 10},
        {"high": 10, "low": 11},
        {"high": -1},
        {"low": -1},
        {"high": 1 << 40, "low": 5},
        {"high": 1e6},
        {"low": 8000.0},
        {"high": float("inf")},
    ],
)
def test_limits_are_set_and_refused_as_by_asyncio(loop, limits):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            before = transport.get_write_buffer_limits()
            raised = outcome(transport.set_write_buffer_limits, **limits)
            after = transport.get_write_buffer_limits()
            transport.close()
            await until(lambda: protocol.is_lost)
            return before, raised, after

    assert same_as_asyncio(loop, script)[0] == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    "limits",
    [
        (None, None),
        (0, 0),
        (1, 1),
        (50_000, 0),
        (50_000, 50_000),
        (200_000, 1),
        (59_999.5, 0.5),
        (60_000.5, 0.5),
    ],
)
def test_pause_and_resume_come_in_the_order_of_asyncio(loop, limits):
    async def script(loop):
        sizes_fit = []
        high, low = limits
        protocol = Recorder(
            pause_writing=lambda p: sizes_fit.append(
                p.transport.get_write_buffer_size() > marks[1]
            ),
            resume_writing=lambda p: sizes_fit.append(
                p.transport.get_write_buffer_size() <= marks[0]
            ),
        )
        transport, peer = await small_pair(loop, protocol)
        transport.set_write_buffer_limits(high, low)
        marks = transport.get_write_buffer_limits()
        received = 0
        with peer:
            for _ in range(3):
                for _ in range(40):
                    transport.write(b"x" * 10_000)
                while received % 400_000 or transport.get_write_buffer_size():
                    received += len(await loop.sock_recv(peer, 1000))
            transport.close()
            await until(lambda: protocol.is_lost)
        return protocol.events, sizes_fit, received

    events, sizes_fit, _ = same_as_asyncio(loop, script)
    assert events.count("pause_writing") == events.count("resume_writing") == 3
    assert all(sizes_fit)


@pytest.mark.parametrize("high", [float("inf"), 1 << 100])
def test_a_high_mark_beyond_all_sizes_never_pauses(loop, high):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await small_pair(loop, protocol)
        transport.set_write_buffer_limits(high=high, low=0)
        with peer:
            for _ in range(10):
                transport.write(b"x" * 100_000)
            transport.abort()
            await until(lambda: protocol.is_lost)
        return protocol.events

    assert "pause_writing" not in same_as_asyncio(loop, script)


def test_with_a_high_mark_of_zero_pause_comes_with_the_first_write_that_does_not_fit(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await small_pair(loop, protocol)
        transport.set_write_buffer_limits(high=0)
        with peer:
            paused_at = 0
            while "pause_writing" not in protocol.events:
                transport.write(b"x" * 1000)
                paused_at += 1
            backlog = transport.get_write_buffer_size()
            transport.abort()
            await until(lambda: protocol.is_lost)
        return paused_at, backlog, protocol.events

    same_as_asyncio(loop, script)


def test_a_write_that_the_kernel_takes_does_not_pause_however_low_the_mark(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.set_write_buffer_limits(high=0)
            for _ in range(10):
                transport.write(b"x")
                await turns(1)
            transport.close()
            await until(lambda: protocol.is_lost)
        return protocol.events

    assert same_as_asyncio(loop, script) == ["connection_made", "connection_lost"]


def test_lowering_the_mark_below_the_backlog_pauses_at_once(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await small_pair(loop, protocol)
        with peer:
            transport.set_write_buffer_limits(high=1 << 30)
            transport.write(b"x" * 200_000)
            before = list(protocol.events)
            transport.set_write_buffer_limits(high=1000)
            after = list(protocol.events)
            transport.abort()
            await until(lambda: protocol.is_lost)
        return before, after, protocol.events

    before, after, _ = same_as_asyncio(loop, script)
    assert after == [*before, "pause_writing"]


def test_lowering_the_mark_below_what_the_kernel_would_take_does_not_pause(loop):
    async def script(loop):
        protocol = Recorder()
        transport, peer = await pair(loop, protocol)
        with peer:
            transport.write(b"small")
            transport.set_write_buffer_limits(high=0)
            await turns(3)
            transport.close()
            await until(lambda: protocol.is_lost)
        return protocol.events

    assert same_as_asyncio(loop, script) == ["connection_made", "connection_lost"]


def test_writes_while_paused_are_kept_and_sent(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await small_pair(loop, protocol)
        with peer:
            written = fill(transport)
            assert protocol.events[-1] == "pause_writing"
            transport.write(b"more")
            transport.writelines([b"and", b"more"])
            assert protocol.events.count("pause_writing") == 1
            transport.close()
            found = await drain(loop, peer)
            assert found == b"x" * written + b"moreandmore"
            await until(lambda: protocol.is_lost)

    loop.run_until_complete(main())


def test_write_from_inside_pause_writing_and_resume_writing(loop):
    async def script(loop):
        protocol = Recorder(
            pause_writing=lambda p: p.transport.write(b"P"),
            resume_writing=lambda p: p.transport.write(b"R") or p.transport.close(),
        )
        transport, peer = await small_pair(loop, protocol)
        with peer:
            transport.set_write_buffer_limits(high=100_000, low=0)
            transport.write(b"x" * 300_000)
            found = await drain(loop, peer)
            await until(lambda: protocol.is_lost)
        return found.replace(b"x", b""), protocol.events, protocol.lost_with

    assert same_as_asyncio(loop, script)[0] == b"PR"


def test_a_protocol_that_refills_from_resume_writing_is_paused_again(loop):
    async def script(loop):
        left = [5]

        def refill(protocol):
            if left[0]:
                left[0] -= 1
                protocol.transport.write(b"x" * 300_000)
            else:
                protocol.transport.close()

        protocol = Recorder(resume_writing=refill)
        transport, peer = await small_pair(loop, protocol)
        with peer:
            transport.write(b"x" * 300_000)
            found = await drain(loop, peer)
            await until(lambda: protocol.is_lost)
        return len(found), protocol.events

    same_as_asyncio(loop, script)


def test_get_write_buffer_size_counts_what_was_not_sent(loop):
    async def main():
        protocol = Recorder()
        transport, peer = await small_pair(loop, protocol)
        with peer:
            assert transport.get_write_buffer_size() == 0
            written = fill(transport)
            kept = transport.get_write_buffer_size()
            received = 0
            while received < written - kept:
                received += len(peer.recv(written - kept - received))
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            await until(lambda: not transport.get_write_buffer_size() or received_more(peer))
            transport.abort()
            await until(lambda: protocol.is_lost)
            assert transport.get_write_buffer_size() == 0

    def received_more(peer):
        try:
            peer.recv(65536)
        except BlockingIOError:
            return False

    loop.run_until_complete(main())


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("inside", ["pause_writing", "resume_writing"])
def test_a_transport_ended_inside_a_flow_control_callback(loop, end, inside):
    async def script(loop):
        protocol = Recorder(**{inside: lambda p: getattr(p.transport, end)()})
        transport, peer = await small_pair(loop, protocol)
        with peer:
            transport.write(b"x" * 300_000)
            transport.write(b"y")
            found = await drain(loop, peer)
            await until(lambda: protocol.is_lost)
        whole = len(found) if end != "abort" else None
        return whole, protocol.events, protocol.lost_with

    same_as_asyncio(loop, script)
