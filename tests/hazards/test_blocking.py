"""blockbuster, which makes blocking calls in coroutines fail, finds nothing to say about the loop."""

import pytest

pytest.importorskip("blockbuster", reason="needs the package blockbuster")

PROGRAM = """
import asyncio, os, signal, socket, sys, tempfile, time
from blockbuster import BlockBuster, BlockingError
import hoop


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def exchange(reader, writer):
    writer.write(b"x" * 300_000)
    writer.write_eof()
    assert len(await reader.read()) == 300_000
    writer.close()
    await writer.wait_closed()


async def use_everything():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, hoop.EventLoop)
    server = await asyncio.start_server(echo, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    await exchange(*await asyncio.open_connection("localhost", port))
    await exchange(*await asyncio.open_connection("127.0.0.1", port))
    server.close()

    path = os.path.join(folder, "socket")
    server = await asyncio.start_unix_server(echo, path)
    await exchange(*await asyncio.open_unix_connection(path))
    server.close()

    ours, theirs = socket.socketpair()
    ours.setblocking(False), theirs.setblocking(False)
    await loop.sock_sendall(ours, b"hello")
    assert await loop.sock_recv(theirs, 100) == b"hello"
    ours.close(), theirs.close()

    received = loop.create_future()
    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.set_result(data)
    receiver, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"ping")
    assert await received == b"ping"
    sender.close(), receiver.close()

    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen.wait()
    loop.remove_signal_handler(signal.SIGUSR1)

    assert await asyncio.to_thread(lambda: 42) == 42
    await asyncio.sleep(0.001)
    try:
        time.sleep(0)
    except BlockingError:
        print("blockbuster is awake")


with tempfile.TemporaryDirectory() as folder:
    guard = BlockBuster()
    guard.activate()
    hoop.run(use_everything())
    guard.deactivate()
print("done")
"""


def test_blockbuster_finds_no_blocking_call(python):
    assert python(PROGRAM).split("\n")[:2] == ["blockbuster is awake", "done"]
