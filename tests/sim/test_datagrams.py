"""Datagrams in a world: they may be lost, come twice, and overtake each other."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import os
import socket

import pytest

import hoop.sim

SAFE = hoop.sim.Faults(loss=0, duplicate=0)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[::-1], address)


class Keep(asyncio.DatagramProtocol):
    def __init__(self):
        self.found = []
        self.more = asyncio.Event()

    def datagram_received(self, data, address):
        self.found.append((data, address))
        self.more.set()


async def open_endpoint(protocol, **kwargs):
    return await asyncio.get_running_loop().create_datagram_endpoint(protocol, **kwargs)


async def echo(address=("echo", 7)):
    await open_endpoint(Echo, local_addr=address)
    await asyncio.Event().wait()


async def client(count, connected, seconds=20):
    """Send datagrams to the echo, and return what has come back."""
    if connected:
        transport, keep = await open_endpoint(Keep, remote_addr=("echo", 7))
    else:
        transport, keep = await open_endpoint(Keep, local_addr=("0.0.0.0", 0))
    for n in range(count):
        transport.sendto(b"%d" % (1000 + n), None if connected else ("10.0.0.1", 7))
        await asyncio.sleep(0.001)
    await asyncio.sleep(seconds)
    assert {address for _, address in keep.found} <= {("10.0.0.1", 7)}
    transport.close()
    return [int(data[::-1]) - 1000 for data, _ in keep.found]


@pytest.mark.parametrize("connected", [False, True])
def test_endpoints_of_hosts_reach_each_other(connected):
    async def main(world):
        world.host("echo", echo)
        await asyncio.sleep(1)
        assert sorted(await world.run("client", lambda: client(5, connected))) == list(range(5))

    hoop.sim.explore(main, seeds=6, order="mix", faults=SAFE)


def test_they_are_lost_come_twice_and_overtake_each_other():
    seen = set()

    async def main(world):
        world.host("echo", echo)
        await asyncio.sleep(1)
        found = await world.run("client", lambda: client(20, False))
        seen.update(
            name
            for name, held in {
                "lost": len(set(found)) < 20,
                "twice": len(set(found)) < len(found),
                "overtaken": found != sorted(found),
                "all": found == list(range(20)),
            }.items()
            if held
        )

    hoop.sim.explore(main, seeds=20)
    assert seen == {"lost", "twice", "overtaken", "all"}


def test_a_seed_gives_the_same_datagrams_again():
    async def main(world):
        world.host("echo", echo)
        await asyncio.sleep(1)
        for connected in (False, True):
            await world.run(f"client-{connected}", functools.partial(client, 10, connected))

    traces = []
    for seed in (3, 4, 3, 4):
        trace = []
        hoop.sim.run(main, seed=seed, trace=trace)
        traces.append(trace)
    assert traces[:2] == traces[2:]
    assert traces[0] != traces[1]


def test_a_program_without_hosts_has_datagrams_too():
    async def main():
        loop = asyncio.get_running_loop()
        server, keep = await open_endpoint(Keep, local_addr=("127.0.0.1", 9000))
        assert server.get_extra_info("sockname") == ("127.0.0.1", 9000)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            assert await loop.sock_sendto(sock, b"one", ("127.0.0.1", 9000)) == 3
            await keep.more.wait()
            data, address = keep.found[0]
            assert (data, address[0]) == (b"one", "127.0.0.1")
            server.sendto(b"two", address)
            assert await loop.sock_recvfrom(sock, 100) == (b"two", ("127.0.0.1", 9000))
            await loop.sock_connect(sock, ("localhost", 9000))
            assert sock.getpeername() == ("127.0.0.1", 9000)
            for n in range(50):
                sock.send(b"%d" % n)
                await asyncio.sleep(0.01)
            await asyncio.sleep(60)
            assert [int(data) for data, _ in keep.found[1:]] == list(range(50))
            server.sendto(b"three", address)
            buffer = bytearray(10)
            found = await loop.sock_recvfrom_into(sock, buffer)
            assert (found, buffer[:5]) == ((5, ("127.0.0.1", 9000)), b"three")
            with pytest.raises(OSError, match="too long"):
                sock.sendto(b"x" * 70_000, ("127.0.0.1", 9000))
            with socket.socket(type=socket.SOCK_DGRAM) as other:
                with pytest.raises(OSError, match="in use") as caught:
                    other.bind(("0.0.0.0", 9000))
                assert caught.value.errno == errno.EADDRINUSE
        server.close()

    for seed in range(4):
        hoop.sim.run(main, seed=seed)


def test_an_endpoint_without_an_address_gets_one():
    async def main(world):
        world.host("echo", echo)
        await asyncio.sleep(1)
        transport, keep = await open_endpoint(Keep, family=socket.AF_INET)
        transport.sendto(b"ab", ("echo", 7))
        await keep.more.wait()
        assert keep.found == [(b"ba", ("10.0.0.1", 7))]
        transport.close()

    hoop.sim.run(main, faults=SAFE)


@pytest.mark.parametrize("way", ["partition", "hold", "crash", "pause"])
def test_a_road_that_is_blocked(way):
    async def main(world):
        host = world.host("echo", echo)
        await asyncio.sleep(1)
        sender = world.host("client", lambda: client(5, False, 100))
        link = world.link(host, sender)
        if way == "partition":
            world.partition(host, sender)
        elif way == "hold":
            link.hold()
        elif way == "pause":
            host.pause()
        else:
            host.crash(silent=True)
        await asyncio.sleep(50)
        if way == "crash":
            host.restart()
        world.heal()
        link.release()
        host.resume()
        assert len(await sender) == (5 if way in ("hold", "pause") else 0)

    for seed in range(3):
        hoop.sim.run(main, seed=seed, faults=SAFE)


def test_only_its_peer_reaches_a_connected_endpoint():
    async def main():
        server, _ = await open_endpoint(Echo, local_addr=("127.0.0.1", 7))
        transport, keep = await open_endpoint(Keep, remote_addr=("127.0.0.1", 7))
        other, _ = await open_endpoint(Echo, local_addr=("127.0.0.1", 8))
        other.sendto(b"no", transport.get_extra_info("sockname"))
        transport.sendto(b"yes")
        await asyncio.sleep(10)
        assert keep.found == [(b"sey", ("127.0.0.1", 7))]
        for each in (server, transport, other):
            each.close()

    hoop.sim.run(main)


def test_what_is_not_simulated_is_refused():
    async def main():
        transport, _ = await open_endpoint(Keep, local_addr=("127.0.0.1", 0))
        for address in ("255.255.255.255", "224.0.0.1"):
            with pytest.raises(hoop.sim.Unsimulated, match="several hosts"):
                transport._sock.sendto(b"x", (address, 7))
        transport.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with sock, pytest.raises(hoop.sim.Unsimulated):
            sock.bind("\0hoop-sim")

    hoop.sim.run(main)


def test_descriptors_are_closed():
    async def main(world):
        world.host("echo", echo)
        await asyncio.sleep(1)
        await world.run("client", lambda: client(5, True))

    hoop.sim.run(main)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    hoop.sim.run(main, seed=1)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def use_sockets(pause):
    """Return what sockets of UDP say, on loopback. `pause` waits until a datagram has arrived."""
    said = {}

    def note(name, call):
        try:
            said[name] = call()
        except (OSError, OverflowError) as exc:
            said[name] = getattr(exc, "errno", None) or type(exc)

    with contextlib.ExitStack() as stack:

        def new(host="127.0.0.1", *options, family=socket.AF_INET):
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.setblocking(False)
            for option in options:
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            if host:
                sock.bind((host, 0))
            return sock

        def receive_all(sock):
            found = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(int(sock.recv(100)))
            return found

        one, two, both = new(), new(), new("::", family=socket.AF_INET6)
        here, there = one.getsockname(), two.getsockname()
        note("alone", lambda: new("").send(b"x"))
        note("port 0", lambda: one.sendto(b"x", ("127.0.0.1", 0)))
        note("no port", lambda: one.sendto(b"x", ("127.0.0.1", 70_000)))
        for n in range(100):
            one.sendto(b"%d" % n, there)
        await pause()
        note("burst", lambda: receive_all(two))
        two.connect(here)
        note("burst of one that is connected", lambda: [two.send(b"%d" % n) for n in range(100)])
        await pause()
        note("its datagrams", lambda: receive_all(one))
        note("too long", lambda: two.send(b"x" * 65_509))
        note("too long, by sendmsg()", lambda: two.sendmsg([b"x" * 40_000, b"x" * 40_000]))
        one.sendto(b"four", ("127.0.0.1", both.getsockname()[1]))
        await pause()
        data, address = both.recvfrom(100)
        note("to both families", lambda: (data, address[0], len(address)))
        note("and back", lambda: both.sendto(b"back", address))
        await pause()
        note("what came back", lambda: one.recv(100))
        for name in ("SO_DOMAIN", "SO_PROTOCOL", "SO_TYPE"):
            note(name, lambda name=name: one.getsockopt(socket.SOL_SOCKET, getattr(socket, name)))
        shared = new("127.0.0.1", socket.SO_REUSEPORT)
        for name, options in {"one": [], "both": [socket.SO_REUSEPORT]}.items():
            other = new("", *options)
            note(f"shared by {name}", lambda other=other: other.bind(shared.getsockname()))
        lone = new("", socket.SO_REUSEPORT)
        note("shared by the other", lambda: lone.bind(here))
        twin = stack.enter_context(one.dup())
        one.close()
        two.send(b"to the twin")
        await pause()
        note("duplicated", lambda: twin.recv(100))
    return said


def test_sockets_say_what_the_kernel_says():
    real = asyncio.run(use_sockets(lambda: asyncio.sleep(0)))
    for seed in range(4):
        assert hoop.sim.run(lambda: use_sockets(lambda: asyncio.sleep(5)), seed=seed) == real


def test_a_datagram_that_is_too_long_is_an_error_of_the_endpoint():
    errors = []

    class Tell(asyncio.DatagramProtocol):
        def error_received(self, exc):
            errors.append(exc.errno)

    async def main():
        transport, _ = await open_endpoint(Tell, remote_addr=("127.0.0.1", 9))
        transport.sendto(b"x" * 65_509)
        await asyncio.sleep(1)
        transport.close()

    hoop.sim.run(main)
    assert errors == [errno.EMSGSIZE]


def test_many_senders_and_a_slow_receiver():
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as server:
            server.setblocking(False)
            server.bind(("127.0.0.1", 9000))
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(150):
                with socket.socket(type=socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    sock.bind(("127.0.0.1", 0))
                    sock.sendto(b"%d" % sock.getsockname()[1], server.getsockname())
            await asyncio.sleep(5)
            assert len(os.listdir("/proc/self/fd")) < before + 80
            for _ in range(150):
                data, address = await loop.sock_recvfrom(server, 100)
                assert int(data) == address[1]
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                for _ in range(1000):
                    sock.sendto(bytes(1000), server.getsockname())
            await asyncio.sleep(5)
            received = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    received += len(server.recv(2000)) == 1000
            assert 110 < received < 140

    hoop.sim.run(main)
