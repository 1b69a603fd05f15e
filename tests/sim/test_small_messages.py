"""Small messages that stay out of the kernel: they come in order, and to no other socket."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios

import pytest

import hoop.sim

HOST, PORT = "10.0.0.1", 80
LARGE = 5000  # such a message always goes through the kernel


async def collecting(reader, writer, got):
    """Read all that comes, and let the connection end."""
    try:
        while data := await reader.read(4000):
            got.extend(data)
    except ConnectionResetError:  # what was sent last came to nobody
        pass
    writer.close()


def unsent(sock):
    """How many bytes the kernel holds for the other side."""
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]


@pytest.mark.parametrize("ending", ["write_eof", "close", "shutdown"])
def test_small_and_large_messages_stay_in_order(ending):
    kept = []

    async def main():
        got, sent = bytearray(), bytearray()
        server = await asyncio.start_server(
            lambda reader, writer: collecting(reader, writer, got), HOST, PORT
        )
        async with server:
            _, writer = await asyncio.open_connection(HOST, PORT)
            sock = writer.get_extra_info("socket")
            twin = os.dup(sock.fileno())
            await asyncio.sleep(10)
            for turn, sizes in enumerate(
                [(1,), (1, 2), (3, LARGE), (LARGE, 3, 4), (5, LARGE, 6), (7,)]
            ):
                for n, size in enumerate(sizes):
                    message = bytes([16 * turn + n]) * size
                    writer.write(message)
                    sent += message
                if sizes == (1,):
                    kept.append(unsent(sock) == 0)
                if turn % 2:  # the world does not see that call
                    sent += b"direct"[: os.write(twin, b"direct")]
                await asyncio.sleep(10)
            writer.write(b"last")
            sent += b"last"
            if ending == "shutdown":
                sock.shutdown(socket.SHUT_WR)
            else:
                getattr(writer, ending)()
            os.close(twin)
            await asyncio.sleep(100)
            writer.close()
            assert got == sent

    hoop.sim.explore(main, seeds=12, faults=hoop.sim.Faults(partial=0.0))
    assert all(kept)


def test_nothing_is_sent_after_the_program_has_shut_its_socket():
    async def main():
        got = bytearray()
        server = await asyncio.start_server(
            lambda reader, writer: collecting(reader, writer, got), HOST, PORT
        )
        async with server:
            _, writer = await asyncio.open_connection(HOST, PORT)
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
            writer.write(b"too late")
            await asyncio.sleep(100)
            assert writer.transport.is_closing()
            assert got == b""

    hoop.sim.explore(main, seeds=8)


def test_a_number_that_another_file_has_taken():
    """The transport of a pair gets the number of a connection to which the server goes on to send."""

    async def main():
        got, go = bytearray(), asyncio.Event()

        async def serve(reader, writer):
            taking = asyncio.create_task(collecting(reader, writer, got))
            await go.wait()
            writer.write(b"for the connection")
            await taking

        async with await asyncio.start_server(serve, HOST, PORT):
            loop = asyncio.get_running_loop()
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, (HOST, PORT))
            await loop.sock_sendall(sock, b"of the connection")
            await asyncio.sleep(10)
            go.set()
            fd, twin = sock.fileno(), os.dup(sock.fileno())  # the connection stays
            sock.close()
            one, other = socket.socketpair()
            if one.fileno() != fd:
                os.dup2(one.fileno(), fd)
                one.close()
                one = socket.socket(fileno=fd)
            one.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=one)
            await asyncio.sleep(100)
            with other:
                other.setblocking(False)
                writer.write(b"of the pair")
                assert other.recv(100) == b"of the pair"
                other.send(b"for the pair")
                assert await reader.read(100) == b"for the pair"
                writer.close()
                await writer.wait_closed()
            assert os.read(twin, 100) == b"for the connection"
            os.close(twin)
            await asyncio.sleep(100)
            assert got == b"of the connection"

    hoop.sim.explore(main, seeds=12)
