"""The idiom of websockets' own tests: what one side writes the other has two turns of the loop later."""

import asyncio
import socket

import pytest


@pytest.fixture
def websockets():
    return pytest.importorskip("websockets")


async def connected(websockets):
    """Two sides of a WebSocket connection in one loop, and the frames that each has received."""
    from websockets.asyncio.connection import Connection
    from websockets.protocol import CLIENT, SERVER, Protocol

    class RecordingProtocol(Protocol):
        """Writes down the frames that come in."""

        def __init__(self, side):
            super().__init__(side)
            self.frames = []

        def recv_frame(self, frame):
            self.frames.append((frame.opcode.name, bytes(frame.data)))
            super().recv_frame(frame)

    sides = []
    for sock, side in zip(socket.socketpair(), (CLIENT, SERVER), strict=True):
        protocol = RecordingProtocol(side)
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda protocol=protocol: Connection(protocol, close_timeout=5), sock=sock
        )
        sides.append((connection, protocol.frames))
    return sides


async def two_turns():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize("busy", [False, True], ids=["", "busy"])
def test_a_frame_is_there_two_turns_after_it_was_sent(run, websockets, busy):
    async def main():
        (here, mine), (there, theirs) = await connected(websockets)
        spinning = asyncio.create_task(spin()) if busy else None
        for n in range(50):
            await here.send(f"text {n}")
            await two_turns()
            assert theirs.pop() == ("TEXT", b"text %d" % n)
            assert await there.recv() == f"text {n}"
        await there.pong(b"unasked")
        await two_turns()
        assert mine.pop() == ("PONG", b"unasked")
        if spinning is not None:
            spinning.cancel()
        await asyncio.gather(here.close(), there.close())

    run(main())


async def spin():
    while True:
        await asyncio.sleep(0)


def test_a_ping_is_answered_in_four_turns(run, websockets):
    async def main():
        (here, _), (there, _) = await connected(websockets)
        for _ in range(20):
            pong = await here.ping()
            await two_turns()
            await two_turns()
            assert pong.done()
        await asyncio.gather(here.close(), there.close())

    run(main())


def test_a_broadcast_reaches_everybody_in_two_turns(run, websockets):
    async def main():
        from websockets.asyncio.connection import broadcast

        pairs = [await connected(websockets) for _ in range(5)]
        for n in range(10):  # nobody reads them: from the 16th on a connection is paused
            broadcast([here for (here, _), _ in pairs], b"%d" % n)
            await two_turns()
            assert [theirs.pop() for _, (_, theirs) in pairs] == [("BINARY", b"%d" % n)] * 5
        for (here, _), (there, _) in pairs:
            await asyncio.gather(here.close(), there.close())

    run(main())
