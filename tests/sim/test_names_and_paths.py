"""Names of hosts, Unix sockets, watched descriptors and TLS in a simulation."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import sys
from os import chmod, lstat, remove
from os import stat as status
from pathlib import Path

import pytest
from peers import make_certificate

import hoop
import hoop.sim

NAMES = {"db": "10.0.0.2", "web": ["10.0.0.3", "fd00::3"]}


# ---- names -----------------------------------------------------------------------------------------


def test_names_are_those_of_the_test():
    async def main():
        loop = asyncio.get_running_loop()
        assert (await loop.getaddrinfo("127.0.0.1", 80))[0][4] == ("127.0.0.1", 80)
        assert hoop.sim.now() == 0
        kind = socket.SOCK_STREAM
        found = await loop.getaddrinfo("WEB", 80, type=kind)
        assert [entry[4] for entry in found] == [("10.0.0.3", 80), ("fd00::3", 80, 0, 0)]
        assert hoop.sim.now() > 0
        found = await loop.getaddrinfo("localhost", 80, family=socket.AF_INET6, type=kind)
        assert [entry[4][0] for entry in found] == ["::1"]
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("nobody", 80)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("db", 80, family=socket.AF_INET6)
        assert await loop.getnameinfo(("10.0.0.2", 80)) == ("db", "80")
        assert await loop.getnameinfo(("10.0.0.9", 80)) == ("10.0.0.9", "80")
        with pytest.raises(socket.gaierror):
            await loop.getnameinfo(("10.0.0.9", 80), socket.NI_NAMEREQD)
        assert socket.gethostbyname("db") == "10.0.0.2"

    hoop.sim.run(main, names=NAMES)


def test_a_server_is_found_by_its_name():
    async def main():
        server = await asyncio.start_server(lambda r, w: w.close(), "db", 5432)
        assert server.sockets[0].getsockname() == ("10.0.0.2", 5432)
        reader, writer = await asyncio.open_connection("db", 5432)
        assert await reader.read() == b""
        writer.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("db", 5432)

    hoop.sim.explore(main, seeds=3, names=NAMES)


@pytest.mark.parametrize("wrong", [{"db": 7}, {7: "10.0.0.1"}, {"db": [7]}])
def test_wrong_names_are_refused(wrong):
    with pytest.raises(TypeError, match="names must have"):
        hoop.sim.run(asyncio.Event, names=wrong)


def test_names_of_no_address_are_refused():
    with pytest.raises(ValueError, match="names must have addresses, not 'notanip' for 'a'"):
        hoop.sim.run(asyncio.Event, names={"a": ["10.0.0.1", "notanip"]})


# ---- Unix sockets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/run/app.sock", "\0app"])
def test_unix_sockets_have_paths_of_the_simulation(path):
    async def main():
        peers = []

        async def serve(reader, writer):
            peers.append(writer.get_extra_info("peername"))
            assert writer.get_extra_info("sockname") == path
            writer.write(await reader.readline())
            await reader.read()
            writer.close()

        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(path)
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await hoop.open_unix_connection(path)
        assert writer.get_extra_info("peername") == path
        writer.write(b"hello\n")
        began = hoop.sim.now()
        assert await reader.readline() == b"hello\n"
        assert hoop.sim.now() > began
        assert writer.get_extra_info("socket").family == socket.AF_UNIX
        writer.close()
        server.close()
        await asyncio.sleep(100)
        assert peers == [""]
        # Since 3.13 asyncio's servers remove their path.
        removed = sys.version_info >= (3, 13) and path[0] == "/"
        with pytest.raises(FileNotFoundError if removed else ConnectionRefusedError):
            await asyncio.open_unix_connection(path)

    hoop.sim.explore(main, seeds=3)
    assert not os.path.exists(path)


# ---- watched descriptors ---------------------------------------------------------------------------


def listening():
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind(("10.0.0.1", 80))
    sock.listen()
    return sock


def test_add_reader_hears_of_a_pair_of_the_program_and_of_connections():
    async def main():
        loop = asyncio.get_running_loop()
        heard = asyncio.Queue()
        left, right = socket.socketpair()
        with listening() as server, left, right, socket.socket() as client:
            client.setblocking(False)
            loop.add_reader(left, heard.put_nowait, "pair")
            loop.add_reader(server, heard.put_nowait, "server")
            right.send(b"x")
            assert await heard.get() == "pair"
            loop.remove_reader(left)
            assert client.connect_ex(("10.0.0.1", 80)) == 115
            loop.add_writer(client, heard.put_nowait, "client")
            assert await heard.get() == "server"
            loop.remove_reader(server)
            while await heard.get() != "client":
                pass
            loop.remove_writer(client)
            accepted, _ = server.accept()
            with accepted:
                loop.add_reader(client, heard.put_nowait, "data")
                accepted.send(b"y")
                while await heard.get() != "data":
                    pass
                assert client.recv(10) == b"y"
                loop.remove_reader(client)

    hoop.sim.explore(main, seeds=3)


def test_a_socket_that_is_watched_before_it_connects():
    async def main():
        loop = asyncio.get_running_loop()
        heard = []
        with listening() as server, socket.socket() as client:
            client.setblocking(False)
            writable = loop.create_future()

            def on_writable():
                if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and connected():
                    loop.remove_writer(client)
                    writable.set_result(None)

            def connected():
                heard.append(1)
                try:
                    client.getpeername()
                except OSError:
                    return False
                return True

            loop.add_writer(client, on_writable)  # the kernel's own socket is writable now
            client.connect_ex(("10.0.0.1", 80))
            await writable
            assert len(heard) == 1
            accepted, _ = await loop.sock_accept(server)
            accepted.close()

    hoop.sim.run(main)


def test_what_is_no_socket_of_the_world_cannot_be_watched():
    async def main():
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        try:
            loop.add_reader(read, print)
            loop.remove_reader(read)
        finally:
            os.close(read)
            os.close(write)
        with open(os.devnull) as null, pytest.raises(hoop.sim.Unsimulated, match="add_reader"):
            loop.add_reader(null, print)
        for use in (
            lambda: loop.add_writer(real, print),
            lambda: loop.sock_recv(real, 1),
            lambda: loop.sock_sendall(real, b"x"),
        ):
            with pytest.raises(hoop.sim.Unsimulated):
                await use()
        with pytest.raises(hoop.sim.Unsimulated, match="from outside"):
            await loop.create_connection(asyncio.Protocol, sock=real)

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as real,
    ):
        real.setblocking(False)
        hoop.sim.run(main)


# ---- TLS -------------------------------------------------------------------------------------------


def test_tls_on_top(tmp_path):
    cert, key = make_certificate(tmp_path, "rsa:2048")  # whose signatures have one length
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)
    asking = ssl.create_default_context(cafile=cert)

    async def main():
        async def serve(reader, writer):
            assert writer.get_extra_info("peername")[0] == "10.0.0.1"
            while data := await reader.read(1000):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(serve, "10.0.0.1", 443, ssl=serving)
        reader, writer = await asyncio.open_connection(
            "10.0.0.1", 443, ssl=asking, server_hostname="localhost"
        )
        writer.write(b"x" * 30_000)
        assert await reader.readexactly(30_000) == b"x" * 30_000
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(100)
        return hoop.sim.now()

    for seed in range(4):
        first: list[str] = []
        second: list[str] = []
        hoop.sim.run(main, seed=seed, trace=first)
        hoop.sim.run(main, seed=seed, trace=second)
        assert first == second


@pytest.mark.parametrize("disk", [None, hoop.sim.Disk()], ids=["real", "simulated"])
def test_the_path_of_a_unix_socket_looks_like_a_file(disk, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        async def serve(reader, writer):
            writer.close()

        assert not os.path.exists(path)
        server = await asyncio.start_unix_server(serve, path)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        os.chmod(path, 0o666)
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o666
        assert os.path.exists(path)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        os.unlink(path)
        assert not Path(path).exists()
        with pytest.raises(FileNotFoundError):
            os.unlink(path)
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(path)
        async with await asyncio.start_unix_server(serve, path):  # beside the first
            _, writer = await asyncio.open_unix_connection(path)
            writer.close()
        server.close()
        await asyncio.sleep(10)

    hoop.sim.run(main, disk=disk)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("disk", [None, hoop.sim.Disk()], ids=["real", "simulated"])
def test_functions_of_os_that_were_imported_by_name_find_sockets_in_each_world(disk, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
        chmod(path, 0o600)
        assert status(path).st_mode == lstat(path).st_mode == stat.S_IFSOCK | 0o600
        remove(path)
        with pytest.raises(FileNotFoundError):
            status(path)
        assert os.chmod in os.supports_fd
        server.close()

    for seed in range(2):
        hoop.sim.run(main, seed=seed, disk=disk)
    with pytest.raises(FileNotFoundError):
        chmod(path, 0o600)


def test_happy_eyeballs_take_the_address_that_answers():
    waited = set()

    async def main():
        async def serve(reader, writer):
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(serve, port=80)
        async with server:
            began = hoop.sim.now()
            try:
                connecting = asyncio.open_connection("db", 80, happy_eyeballs_delay=10)
                reader, writer = await connecting
            except OSError:  # no address has answered
                return
            took = hoop.sim.now() - began
            assert await reader.read() == b"hello"
            writer.close()
        waited.add((took // 10, writer.get_extra_info("peername")[0]))

    names = {"db": ["fd00::2", "fd00::3", "10.0.0.2", "10.0.0.3"]}
    faults = hoop.sim.Faults(timeout=0.4)
    for seed in range(20):
        hoop.sim.run(main, seed=seed, names=names, faults=faults)
    assert {(0, "fd00::2"), (1, "10.0.0.2"), (2, "fd00::3")} <= waited
