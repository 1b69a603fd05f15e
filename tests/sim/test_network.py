"""Connections of a simulation: real sockets, whose bytes a seed delays, cuts, holds back and loses."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import hoop
import hoop.sim

PROGRAM = Path(__file__).parent / "traced_network.py"


async def end(writer, server):
    """Close a connection and its server, and let the other side see it."""
    writer.close()
    server.close()
    await asyncio.sleep(100)


async def echo(reader, writer):
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


# ---- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [asyncio, hoop], ids=["asyncio", "hoop"])
def test_a_server_and_clients_that_know_nothing_of_it(streams):
    async def main():
        peers = []

        async def serve(reader, writer):
            peers.append(writer.get_extra_info("peername"))
            await echo(reader, writer)

        async def ask(text):
            reader, writer = await streams.open_connection("10.0.0.1", 80)
            assert writer.get_extra_info("peername") == ("10.0.0.1", 80)
            name = writer.get_extra_info("sockname")
            writer.write(text)
            assert await reader.readexactly(len(text)) == text
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return name

        server = await streams.start_server(serve, "10.0.0.1", 80)
        async with server:
            assert server.sockets[0].getsockname() == ("10.0.0.1", 80)
            names = await asyncio.gather(*(ask(bytes([65 + i]) * 300) for i in range(4)))
        assert sorted(peers) == sorted(names)
        assert len(set(names)) == 4
        assert hoop.sim.now() > 0

    hoop.sim.explore(main, seeds=8, order="mix")


def test_sockets_look_like_those_that_the_program_asked_for():
    async def main():
        seen = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            seen.set_result(writer.get_extra_info("socket"))
            await echo(reader, writer)

        server = await asyncio.start_server(serve, port=0, family=socket.AF_INET)
        host, port = server.sockets[0].getsockname()
        assert (host, port > 1024) == ("0.0.0.0", True)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for sock in (await seen, writer.get_extra_info("socket")):
            assert sock.family == socket.AF_INET
            assert sock.type == socket.SOCK_STREAM
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert sock.getpeername()[0] == sock.getsockname()[0] == "127.0.0.1"
        await end(writer, server)

    hoop.sim.run(main)


@pytest.mark.parametrize("streams", [asyncio, hoop], ids=["asyncio", "hoop"])
def test_the_addresses_of_a_connection_are_known_after_its_end(streams):
    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.set_result([writer.get_extra_info(name) for name in ("peername", "sockname")])

        async with await streams.start_server(serve, "10.0.0.1", 80):
            _, writer = await streams.open_connection("10.0.0.1", 80)
            name = writer.get_extra_info("sockname")
            writer.close()
            await writer.wait_closed()
            assert writer.get_extra_info("peername") == ("10.0.0.1", 80)
            assert writer.get_extra_info("sockname") == name
            assert await ended == [name, ("10.0.0.1", 80)]

    hoop.sim.explore(main, seeds=4)


def test_a_server_of_all_addresses_of_ipv6_takes_ipv4_as_well():
    async def main():
        loop = asyncio.get_running_loop()
        seen = loop.create_future()

        async def serve(reader, writer):
            seen.set_result([writer.get_extra_info(name) for name in ("sockname", "peername")])
            assert writer.get_extra_info("socket").family == socket.AF_INET6
            writer.close()

        sock = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
        with pytest.raises(OSError, match="in use"), socket.socket() as another:
            another.bind(("0.0.0.0", 8080))
        async with await asyncio.start_server(serve, sock=sock):
            _, writer = await asyncio.open_connection("127.0.0.1", 8080)
            port = writer.get_extra_info("sockname")[1]
            assert await seen == [
                ("::ffff:127.0.0.1", 8080, 0, 0),
                ("::ffff:127.0.0.1", port, 0, 0),
            ]
            assert writer.get_extra_info("peername") == ("127.0.0.1", 8080)
            writer.close()
            await writer.wait_closed()
        async with await asyncio.start_server(serve, "::", 81):  # asyncio's servers take one family
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", 81)

    hoop.sim.run(main)


def test_options_are_those_of_the_kernel():
    async def main():
        sock = socket.create_server(("10.0.0.1", 80))
        with sock, socket.socket() as real:
            for each in (sock, real):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000)
                assert each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 20000
                with pytest.raises(OSError, match="not available"):
                    each.setsockopt(socket.IPPROTO_TCP, 9999, 1)

    hoop.sim.run(main)


def test_a_closed_socket_is_a_bad_descriptor():
    async def main():
        sock = socket.socket()
        sock.close()
        calls = [
            lambda: sock.connect(("10.0.0.1", 80)),
            lambda: sock.bind(("10.0.0.1", 80)),
            sock.accept,
            sock.listen,
            sock.getpeername,
        ]
        for call in calls:
            with pytest.raises(OSError, match="Bad file descriptor"):
                call()
        assert sock.connect_ex(("10.0.0.1", 80)) == errno.EBADF

    hoop.sim.run(main)


def test_each_seed_gives_the_same_trace_in_another_process():
    command = [sys.executable, str(PROGRAM)]
    first, second = (
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in "12"
    )
    assert first == second
    assert len(set(first.splitlines())) == 8  # each seed gives another trace


# ---- sock_* ----------------------------------------------------------------------------------------


def listening(address=("10.0.0.1", 80)):
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind(address)
    sock.listen()
    return sock


def test_sockets_of_the_program_s_own():
    async def main():
        loop = asyncio.get_running_loop()
        data = os.urandom(300_000)
        with listening() as server, socket.socket() as client:
            client.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(server))
            await loop.sock_connect(client, ("10.0.0.1", 80))
            accepted, address = await accepting
            assert address == client.getsockname() == accepted.getpeername()
            with accepted:
                sending = asyncio.create_task(loop.sock_sendall(accepted, data))
                got = bytearray()
                while len(got) < len(data):
                    got += await loop.sock_recv(client, 65536)
                await sending
                assert got == data
            assert await loop.sock_recv(client, 1) == b""

    hoop.sim.explore(main, seeds=6)


def test_a_connection_that_was_reset_is_accepted_under_its_own_name():
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
            for sock in (listening, first, second):
                sock.setblocking(False)
            listening.bind(("10.0.0.1", 80))
            listening.listen()
            await loop.sock_connect(first, ("10.0.0.1", 80))
            names = [first.getsockname()]
            first.send(b"a message resets it")
            await asyncio.sleep(10)
            await loop.sock_connect(second, ("10.0.0.1", 80))
            names.append(second.getsockname())
            found = []
            for _ in names:
                accepted, address = await loop.sock_accept(listening)
                found.append(address)
                with accepted:
                    if address == names[1]:
                        assert accepted.getpeername() == names[1]
                    else:  # as on Linux
                        with pytest.raises(OSError, match="not connected"):
                            accepted.getpeername()
            assert found == names

    hoop.sim.run(main, faults=hoop.sim.Faults(reset=1.0))


def test_an_address_is_taken_once():
    async def main():
        with listening(), socket.socket() as other:
            with pytest.raises(OSError, match="in use"):
                other.bind(("0.0.0.0", 80))
            other.bind(("10.0.0.2", 80))
        with listening() as again:
            assert again.getsockname() == ("10.0.0.1", 80)

    hoop.sim.run(main)


# ---- what goes wrong -------------------------------------------------------------------------------


async def connect(port=80):
    reader, writer = await asyncio.open_connection("10.0.0.1", port)
    return reader, writer


def test_nobody_listens():
    async def main():
        with pytest.raises(ConnectionRefusedError):
            await connect()
        assert 0 < hoop.sim.now() < 5

    hoop.sim.explore(main, seeds=5)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (hoop.sim.Faults(refuse=1.0), ConnectionRefusedError),
        (hoop.sim.Faults(timeout=1.0), TimeoutError),
    ],
)
def test_connections_that_fail(faults, error):
    async def main():
        server = await asyncio.start_server(echo, "10.0.0.1", 80)
        with pytest.raises(error) as caught:
            await connect()
        assert caught.value.errno in (errno.ECONNREFUSED, errno.ETIMEDOUT)
        server.close()
        return hoop.sim.now()

    took = hoop.sim.run(main, faults=faults)
    assert took == pytest.approx(127, abs=1) if error is TimeoutError else took < 5


def test_a_full_backlog_lets_clients_wait():
    async def main():
        loop = asyncio.get_running_loop()
        with listening() as server:
            server.listen(1)
            socks = [socket.socket() for _ in range(5)]
            for sock in socks:
                sock.setblocking(False)
            connecting = [
                asyncio.create_task(loop.sock_connect(s, ("10.0.0.1", 80))) for s in socks
            ]
            await asyncio.sleep(10)
            assert sum(task.done() for task in connecting) == 2
            accepted = [await loop.sock_accept(server) for _ in range(5)]
            await asyncio.gather(*connecting)
            for sock in (*socks, *(sock for sock, _ in accepted)):
                sock.close()

    hoop.sim.run(main, seed=3)


def test_a_reset_reaches_both_sides():
    async def main():
        errors = []

        async def serve(reader, writer):
            try:
                while True:
                    writer.write(await reader.readexactly(5))
            except ConnectionError as exc:
                errors.append(exc)
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        reader, writer = await connect()
        try:
            while True:
                writer.write(b"hello")
                await reader.readexactly(5)
        except ConnectionError as exc:
            errors.append(exc)
        writer.close()
        await asyncio.sleep(100)
        assert [type(error) for error in errors] == [ConnectionResetError] * 2
        server.close()

    hoop.sim.explore(main, seeds=10, faults=hoop.sim.Faults(reset=0.2))


@pytest.mark.parametrize("calls", ["send send recv", "recv send recv", "send recv", "error send"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_reset_is_told_once_and_then_a_send_finds_nobody(tmp_path, family, calls):
    """TCP tells who sends or who receives. A Unix socket tells only who receives."""

    def call(sock, name):
        if name == "error":
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            return sock.send(b"x") if name == "send" else sock.recv(1)
        except OSError as exc:
            return type(exc)

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(family) as listening, socket.socket(family) as client:
            client.setblocking(False)
            listening.setblocking(False)
            listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "it"))
            listening.listen()
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await loop.sock_connect(client, listening.getsockname())
            server, _ = await accepting
            await loop.sock_sendall(client, b"never received")
            while not select.select([server], [], [], 0)[0]:
                await asyncio.sleep(0.01)
            server.close()  # which resets the connection
            while not select.select([client], [], [], 0)[0]:
                await asyncio.sleep(0.01)
            return [call(client, name) for name in calls.split()]

    expected = asyncio.run(main())
    (tmp_path / "it").unlink(missing_ok=True)
    assert hoop.sim.run(main) == expected


@pytest.mark.parametrize("order", ["fifo", "single"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_transport_is_told_of_a_reset_also_if_it_sends_first(order, side):
    async def drain(writer):
        writer.write(b"x" * 2_000_000)
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        writer.transport.abort()

    async def main():
        writers = asyncio.Queue()
        server = await asyncio.start_server(lambda _, w: writers.put_nowait(w), "127.0.0.1", 0)
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        accepted = await writers.get()
        ours, theirs = (client, accepted) if side == "client" else (accepted, client)
        theirs.transport.pause_reading()
        draining = asyncio.create_task(drain(ours))
        await asyncio.sleep(0.1)
        theirs.transport.abort()  # with something unread
        await draining
        server.close()
        await asyncio.sleep(0)

    for seed in range(10):
        hoop.sim.run(main, seed=seed, order=order, step_us=(1, 500))


def test_closing_with_something_unread_resets():
    async def main():
        async def serve(reader, writer):
            writer.transport.pause_reading()
            await asyncio.sleep(50)
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        reader, writer = await connect()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await end(writer, server)

    hoop.sim.explore(main, seeds=4)


async def write_on(writer):
    for _ in range(100):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(10)


def test_sending_to_one_that_has_closed():
    async def main():
        async def serve(reader, writer):
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        reader, writer = await connect()
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            await write_on(writer)
        await end(writer, server)

    hoop.sim.explore(main, seeds=4)


def test_one_direction_ends_before_the_other():
    async def main():
        async def serve(reader, writer):
            everything = await reader.read()
            writer.write(everything[::-1])
            writer.close()

        server = await hoop.start_server(serve, "10.0.0.1", 80)
        reader, writer = await hoop.open_connection("10.0.0.1", 80)
        writer.write(b"abc")
        await asyncio.sleep(1)
        writer.write(b"def")
        writer.write_eof()
        assert await reader.read() == b"fedcba"
        await end(writer, server)

    hoop.sim.explore(main, seeds=5)


def test_a_reader_that_stands_still_holds_the_writer_back():
    async def main():
        go_on = asyncio.Event()
        sizes = []

        async def serve(reader, writer):
            await go_on.wait()
            while data := await reader.read(65536):
                sizes.append(len(data))
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        reader, writer = await connect()
        writer.write(bytes(1_000_000))
        await asyncio.sleep(600)
        assert 50_000 < writer.transport.get_write_buffer_size() < 1_000_000
        go_on.set()
        writer.write_eof()
        assert await reader.read() == b""
        assert sum(sizes) == 1_000_000
        await end(writer, server)

    hoop.sim.explore(main, seeds=2)


def test_messages_come_in_pieces():
    async def main():
        got = []

        async def serve(reader, writer):
            while data := await reader.read(1000):
                got.append(len(data))
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        _, writer = await connect()
        writer.write(bytes(1000))
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(60)
        server.close()
        assert sum(got) == 1000
        return len(got)

    faults = hoop.sim.Faults(pieces=1.0)
    assert max(hoop.sim.run(main, seed=seed, faults=faults) for seed in range(4)) > 3
    assert hoop.sim.run(main, faults=hoop.sim.Faults(pieces=0.0)) == 1


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_chances_are_from_0_to_1(wrong):
    with pytest.raises(TypeError, match="cancel_main must be True or False"):
        hoop.sim.Faults(cancel_main=3)
    with pytest.raises(TypeError, match="loss must be a number"):
        hoop.sim.Faults(loss="x")
    with pytest.raises(ValueError, match="reset must be from 0 to 1"):
        hoop.sim.Faults(reset=wrong)


def test_half_of_the_seeds_receive_and_send_in_the_driver():
    drivers = set()

    async def main():
        async def serve(reader, writer):
            size = 0
            while data := await reader.read(65536):
                size += len(data)
                await asyncio.sleep(0)
            writer.write(b"%d" % size)
            writer.close()

        server = await hoop.start_server(serve, "10.0.0.1", 80)
        reader, writer = await hoop.open_connection("10.0.0.1", 80)
        drivers.add(asyncio.get_running_loop().parameters["driver"])
        for size in (1, 100, 400_000, 5):
            writer.write(bytes(size))
            await writer.drain()
        writer.write_eof()
        assert await reader.read() == b"400106"
        await end(writer, server)

    hoop.sim.explore(main, seeds=12)
    assert drivers == {"readiness", "completion"}


def test_transports_have_hashes_of_the_seed():
    kept = []  # so that no address comes again

    async def main():
        server = await asyncio.start_server(echo, "10.0.0.1", 80)
        writers = [(await asyncio.open_connection("10.0.0.1", 80))[1] for _ in range(3)]
        transports = [writer.transport for writer in writers]
        kept.extend(transports)
        for writer in writers:
            writer.close()
        await end(writers[0], server)
        return [hash(transport) for transport in transports]

    first = hoop.sim.run(main, seed=1)
    assert len(set(first)) == 3
    assert hoop.sim.run(main, seed=1) == first
    assert hoop.sim.run(main, seed=2) != first


def test_a_transport_that_reads_again_goes_on_sending():
    drivers = set()

    class Pausing(asyncio.Protocol):
        def connection_made(self, transport):
            for _ in range(200):  # more than the buffer takes, in several chunks
                transport.write(bytes(2000))
            transport.pause_reading()
            asyncio.get_running_loop().call_later(1, transport.resume_reading)

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        async def serve(reader, writer):
            await asyncio.sleep(10)
            done.set_result(len(await reader.readexactly(400_000)))
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        transport, _ = await loop.create_connection(Pausing, "10.0.0.1", 80)
        drivers.add(loop.parameters["driver"])
        assert await done == 400_000
        await end(transport, server)

    hoop.sim.explore(main, seeds=8)
    assert drivers == {"readiness", "completion"}


@pytest.mark.parametrize("hosts", [False, True])
def test_a_stream_that_takes_bytes_without_a_turn_gets_the_rest(hosts):
    """A reader of hoop's wants all of it, so no task wakes when its wire is emptied, and then takes more."""
    data = bytes(100_000)

    async def serve():
        async def send(reader, writer):
            writer.write(await reader.readexactly(len(data)))
            await writer.drain()
            writer.close()

        return await hoop.start_server(send, "web", 80)

    async def serve_for_ever():
        async with await serve() as server:
            await server.serve_forever()

    async def ask():
        reader, writer = await hoop.open_connection("web", 80)
        writer.write(data)
        await writer.drain()
        assert await reader.readexactly(len(data)) == data
        writer.close()

    async def alone():
        async with await serve():
            await ask()

    async def with_hosts(world):
        world.host("web", serve_for_ever)
        await asyncio.sleep(1)
        await world.run("client", ask)

    hoop.sim.explore(
        with_hosts if hosts else alone,
        seeds=range(20, 40),
        order="single",
        names=None if hosts else {"web": "10.0.0.1"},
        faults=hoop.sim.Faults(pieces=1, partial=1),
    )


def test_the_report_names_what_was_injected_and_how_to_do_it_again():
    async def main():
        server = await asyncio.start_server(echo, "web", 80)
        try:
            _, writer = await asyncio.open_connection("web", 80)
            await end(writer, server)
        finally:
            server.close()

    faults = hoop.sim.Faults(refuse=1.0, reset=0.5)
    with pytest.raises(ConnectionRefusedError) as caught:
        hoop.sim.explore(main, seeds=2, faults=faults, names={"web": "10.0.0.1"})
    (note,) = caught.value.__notes__
    assert "injected: 0 resets (!), 1 refusals" in note
    assert "10.0.0.1:40001 -> 10.0.0.1:80 is refused" in note
    assert "faults=hoop.sim.Faults(reset=0.5, refuse=1.0), names={'web': '10.0.0.1'})" in note
    assert "latency" in note


# ---- descriptors -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_open_by_a_program_that_closes_nothing(failing):
    async def main():
        loop = asyncio.get_running_loop()
        await loop.create_server(asyncio.Protocol, "10.0.0.1", 80)
        transport, _ = await loop.create_connection(asyncio.Protocol, "10.0.0.1", 80)
        transport.write(b"x")
        await asyncio.sleep(1)
        asyncio.create_task(connect(81))
        await asyncio.sleep(0)
        if failing:
            raise KeyError

    before = descriptors()
    for seed in range(3):
        try:
            hoop.sim.run(main, seed=seed)
        except KeyError:
            assert failing
        assert descriptors() == before


def test_a_number_that_belongs_to_another_file_is_left_alone():
    async def main():
        loop = asyncio.get_running_loop()
        with listening() as server:
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("10.0.0.1", 80))
                accepted, _ = await loop.sock_accept(server)
                fd = client.fileno()
                client.send(b"x")
            left, right = socket.socketpair()
            with left, right, accepted:
                assert left.fileno() == fd
                right.setblocking(False)
                accepted.close()  # with something unread, which resets the closed socket
                await asyncio.sleep(100)
                with pytest.raises(BlockingIOError):
                    right.recv(1)

    hoop.sim.explore(main, seeds=5)


def test_a_listening_socket_lives_on_in_its_duplicate():
    async def serve(reader, writer):
        writer.write(b"hello")
        writer.close()

    async def main():
        first = socket.create_server(("127.0.0.1", 80))
        second = first.dup()
        first.close()
        async with await asyncio.start_server(serve, sock=second):
            other = socket.create_server(("127.0.0.1", 81))
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            assert await reader.read() == b"hello"
            writer.close()
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", 80)).close()
        other.close()
        socket.create_server(("127.0.0.1", 80)).close()

    hoop.sim.explore(main, seeds=4)
