"""Connections, servers, timers and sites, as hoop.observe.resources shows them."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import threading
import time

import pytest
from lookers import cancel, port_of, turns, until
from tls_peers import client_context, server_context

import hoop
from hoop.insight import sites
from hoop.observe import resources, snapshot

# ---- connections and servers ---------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        self.lost.set_result(None)


class Client(Echo):
    def __init__(self):
        self.got = b""

    def data_received(self, data):
        self.got += data


def test_tcp_connections_and_their_server(run):
    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory():
            made.append(Echo())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=7)
        transport, client = await loop.create_connection(Client, "127.0.0.1", port_of(server))
        transport.write(b"x" * 1000)
        await until(lambda: len(client.got) == 1000)
        transport.pause_reading()
        found = resources.connections(), resources.servers(), snapshot().loops[0]
        transport.close()
        await client.lost
        await made[0].lost
        left = resources.connections()
        port = port_of(server)
        server.close()
        await server.wait_closed()
        return found, left, port, resources.servers()

    (found, servers, loop), left, port, later = run(main())
    by_protocol = {view.protocol: view for view in found}
    assert set(by_protocol) == {"Echo", "Client"}
    echo, client = by_protocol["Echo"], by_protocol["Client"]
    assert {echo.kind, client.kind} == {"tcp"}
    assert client.peer == echo.local == f"127.0.0.1:{port}"
    assert client.local == echo.peer
    assert (client.bytes_out, client.bytes_in) == (echo.bytes_in, echo.bytes_out) == (1000, 1000)
    assert (client.reading_paused, echo.reading_paused) == (True, False)
    assert client.age >= client.idle >= 0
    (server,) = servers
    assert (server.kind, server.address, server.backlog) == ("tcp", f"127.0.0.1:{port}", 7)
    assert (server.accepted, server.connections, server.tls) == (1, 1, False)
    assert server.protocol.startswith("test_tcp_connections_and_their_server.<locals>.main")
    assert (echo.server, client.server) == (server.id, None)
    assert loop.connections == {"tcp": 2}
    assert left == later == ()


def test_bytes_that_wait_are_shown(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(Client, sock=ours)
            transport.write(bytes(4_000_000))
            (view,) = resources.connections()
            waiting = transport.get_write_buffer_size()
            transport.abort()
            await turns()
            return view, waiting

    view, waiting = run(main())
    assert view.kind == "unix"
    assert view.buffered == waiting > 1_000_000
    assert view.writing_paused


def test_tls(run):
    async def main():
        async def serve(reader, writer):
            await reader.read(100)
            writer.close()

        server = await hoop.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        _, writer = await hoop.open_connection(
            "127.0.0.1", port_of(server), ssl=client_context(), server_hostname="localhost"
        )
        await until(lambda: all(view.tls_version for view in resources.connections()))
        found, servers = resources.connections(), resources.servers()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await until(lambda: not resources.connections())
        return found, servers

    found, (server,) = run(main())
    assert [view.kind for view in found] == ["tls", "tls"]
    assert {view.tls_version for view in found} == {"TLSv1.3"}
    assert all(view.cipher.startswith("TLS_") for view in found)
    assert {view.protocol for view in found} == {"StreamProtocol"}
    assert server.tls
    assert {view.server for view in found} == {server.id, None}


def test_unix_and_udp(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "s")
        server = await loop.create_unix_server(Echo, path)
        transport, _ = await loop.create_unix_connection(Client, path)
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        await until(lambda: len(resources.connections()) == 3)
        found, servers = resources.connections(), resources.servers()
        name = datagrams.get_extra_info("sockname")
        transport.close()
        datagrams.close()
        server.close()
        await server.wait_closed()
        await until(lambda: not resources.connections())
        return found, servers, path, name

    found, (server,), path, name = run(main())
    assert sorted(view.kind for view in found) == ["udp", "unix", "unix"]
    assert (server.kind, server.address) == ("unix", path)
    assert {view.local for view in found if view.kind == "unix"} == {path, ""}
    (udp,) = [view for view in found if view.kind == "udp"]
    assert udp.local == f"127.0.0.1:{name[1]}"


def test_pipes(run):
    async def main():
        loop = asyncio.get_running_loop()
        out, into = os.pipe()
        transport, _ = await loop.connect_read_pipe(Client, os.fdopen(out, "rb"))
        found = resources.connections()
        transport.close()
        os.close(into)
        await turns()
        return found, out

    (view,), fd = run(main())
    assert (view.kind, view.fd, view.local, view.protocol) == ("pipe", fd, "read end", "Client")


def test_the_idle_ones_come_first_and_only_so_many(run):
    async def main():
        loop = asyncio.get_running_loop()
        ends = [socket.socketpair() for _ in range(5)]
        transports = [
            (await loop.create_connection(Client, sock=end))[0] for pair in ends for end in pair
        ]
        await asyncio.sleep(0.05)
        transports[0].write(b"x")
        await turns()
        found, few = resources.connections(), resources.connections(3)
        for transport in transports:
            transport.abort()
        await turns()
        return found, few

    found, few = run(main())
    assert (len(found), len(few)) == (10, 3)
    idle = [view.idle for view in found]
    assert idle == sorted(idle, reverse=True)
    assert idle[-1] <= idle[0] - 0.04


class Hostile(asyncio.Protocol):
    """A protocol that fails the test if anybody asks it anything."""

    def __getattribute__(self, name):
        if name in ("connection_made", "data_received", "connection_lost", "eof_received"):
            return object.__getattribute__(self, name)
        if name in ("__class__", "pause_writing", "resume_writing"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"read {name}")

    def __repr__(self):
        raise AssertionError("repr was called")

    __str__ = __hash__ = __repr__


def test_no_code_of_a_protocol_runs(run):
    async def main():
        loop = asyncio.get_running_loop()
        pair = socket.socketpair()
        transports = [(await loop.create_connection(Hostile, sock=end))[0] for end in pair]
        found = resources.connections()
        for transport in transports:
            transport.abort()
        await turns()
        return found

    assert [view.protocol for view in run(main())] == ["Hostile", "Hostile"]


# ---- timers ----------------------------------------------------------------------------------------


def test_timers(run):
    def ring(text):
        raise AssertionError("a timer was called")

    async def main():
        loop = asyncio.get_running_loop()
        sleepers = [
            asyncio.create_task(hoop.sleep(100)),
            asyncio.create_task(asyncio.sleep(200)),
        ]
        await turns()
        handles = [
            loop.call_later(50, ring, "x"),
            loop.call_later(300, functools.partial(ring, "x")),
            loop.call_later(400, print),
        ]
        loop.call_later(10, ring, "x").cancel()
        found = [v for v in resources.timers() if "Timeout" not in v.callback]  # of the fixture
        few = resources.timers(2)
        for handle in handles:
            handle.cancel()
        ids = [task._serial for task in sleepers]
        await cancel(*sleepers)
        return found, few, ids

    found, few, ids = run(main())
    place = f"{ring.__qualname__} {__file__}:{ring.__code__.co_firstlineno}"
    assert [view.callback for view in found[:2]] == [place, "sleep"]
    assert [view.callback for view in found[3:]] == [place, "print"]
    assert found[2].callback.startswith("_set_result_unless_cancelled ")
    assert [view.task for view in found] == [None, *ids, None, None]
    assert [round(view.left, -1) for view in found] == [50, 100, 200, 300, 400]
    assert len(few) == 2


# ---- sites -----------------------------------------------------------------------------------------


@pytest.fixture
def recording():
    sites.record(True)
    yield
    sites.record(False)


def test_sites(run, recording, monkeypatch):
    monkeypatch.setattr(resources, "growth", resources.Growth())

    async def sleeper():
        await asyncio.sleep(100)

    async def main():
        tasks = [hoop.create_task(sleeper()) for _ in range(30)]
        await asyncio.sleep(0.01)
        await cancel(*tasks[:10])
        found = resources.sites()
        few = resources.sites(1)
        await cancel(*tasks[10:])
        return found, few

    before = {(view.file, view.line): view for view in resources.sites(100_000)}
    found, few = run(main())
    (site,) = [view for view in found if view.coroutine == sleeper.__qualname__]
    assert site.file == __file__
    old = before.get((site.file, site.line))
    made, ended = (old.made, old.ended) if old else (0, 0)
    assert (site.made - made, site.ended - ended, site.alive) == (30, 10, 20)
    assert site.oldest >= 0.009
    assert len(few) == 1


def test_growth_and_leaks():
    growth = resources.Growth()
    counts = {}
    minute = 60_000_000_000
    key = ("app.py", 1, "handle")
    original = resources.site_counts
    try:
        for n in range(8):
            counts[key] = (50 * (n + 1), 0, {1})
            resources.site_counts = lambda: counts
            growth.take(n * minute)
            growth.take(n * minute + minute // 2)
        assert growth.of(key, 400, 7 * minute) == (50.0, True)
        assert growth.of(key, 90, 7 * minute)[1] is False
        assert growth.of(("other.py", 1, "f"), 400, 7 * minute)[1] is False
        growth.take(8 * minute)  # no more than before
        assert growth.of(key, 400, 8 * minute)[1] is False
    finally:
        resources.site_counts = original


# ---- many things -----------------------------------------------------------------------------------


def test_tasks_that_end_between_the_slices(loop):
    """Another thread looks, again and again, while the loop makes and ends tasks."""
    over = threading.Event()

    async def short(n):
        for _ in range(n % 7):
            await asyncio.sleep(0)

    async def main():
        lasting = [asyncio.create_task(asyncio.sleep(100)) for _ in range(3000)]
        await turns()
        for _ in range(30):
            await asyncio.gather(*(short(n) for n in range(200)))
            await asyncio.sleep(0.001)
        over.set()
        await cancel(*lasting)

    found = []

    def look():
        while not over.is_set():
            found.append(snapshot(top=10))

    looker = threading.Thread(target=look)
    looker.start()
    loop.run_until_complete(main())
    looker.join()
    assert found
    full = [one for one in found if one.total >= 3000]
    assert all(one.total <= 3000 + 202 for one in full)


def test_a_look_at_many_tasks_keeps_no_loop_waiting_long(loop):
    """A loop that only wants to go on gets the GIL between the slices."""
    gaps = []
    looking, over = threading.Event(), threading.Event()

    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(100)) for _ in range(20_000)]
        await turns()
        looking.set()
        last = time.monotonic()
        while not over.is_set():
            await asyncio.sleep(0)
            now = time.monotonic()
            gaps.append(now - last)
            last = now
        await cancel(*tasks)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    looking.wait()
    found = snapshot(top=5)
    over.set()
    thread.join()
    assert found.total == 20_001
    assert len(gaps) >= 20
    gaps.sort()
    assert gaps[len(gaps) // 2] < 0.005


def test_everything_is_json(run):
    async def main():
        tasks = [asyncio.create_task(hoop.Semaphore(0).acquire())]
        await turns()
        rows = [
            *resources.connections(),
            *resources.servers(),
            *resources.timers(),
            *resources.locks(),
            *resources.pools(),
            *resources.children(),
            *resources.sites(),
        ]
        await cancel(*tasks)
        return [row.as_json() for row in rows]

    json.dumps(run(main()))


def test_an_observed_program_notes_sites(run):
    async def main():
        task = hoop.create_task(asyncio.sleep(0))
        hoop.observe.start(socket=False)
        try:
            observed = hoop.create_task(asyncio.sleep(0))
        finally:
            hoop.observe.stop()
        after = hoop.create_task(asyncio.sleep(0))
        await asyncio.gather(task, observed, after)
        return [one._site != 0 for one in (task, observed, after)]

    assert run(main()) == [False, True, False]
