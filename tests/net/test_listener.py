"""AcceptOp and the servers of the loop: bursts, failures, closing while it accepts."""

import asyncio
import gc
import os
import resource
import socket
import subprocess
import sys

import pytest
from peers import Recorder, drain, end, reports, same_as_asyncio, turns, until


def address(server):
    """Where a server listens."""
    return server.sockets[0].getsockname()[:2]


def test_a_burst_of_500_connections_is_accepted_whole(loop):
    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder(data_received=lambda p, data: p.transport.write(data)))
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024)
        clients = []
        for n in range(500):  # none of them is accepted before the loop's next turn
            clients.append(socket.create_connection(address(server)))
            clients[-1].send(b"%03d" % n)
        await until(lambda: len(protocols) == 500)
        for n, client in enumerate(clients):
            client.setblocking(False)
            assert await loop.sock_recv(client, 10) == b"%03d" % n
            client.close()
        await until(lambda: all(p.is_lost for p in protocols))
        assert loop.counters()["transports"] == 0
        await end(server)

    loop.run_until_complete(main())


OUT_OF_DESCRIPTORS = """
import asyncio, os, resource, socket, sys
import hoop

asyncio.constants.ACCEPT_RETRY_DELAY = 0.2
loop = hoop.new_event_loop(sys.argv[1])
reports, made = [], []
loop.set_exception_handler(lambda _, context: reports.append(context))

class Made(asyncio.Protocol):
    def connection_made(self, transport):
        made.append(transport)
        transport.write(b"hello")
        transport.close()

async def main():
    server = await loop.create_server(Made, "127.0.0.1", 0)
    await asyncio.sleep(0)
    limit = (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
    hold = []
    try:
        while True:
            hold.append(os.dup(0))
    except OSError:
        pass
    while not reports:
        await asyncio.sleep(0)
    for _ in range(300):
        await asyncio.sleep(0)
    assert len(reports) == 1, reports
    assert reports[0]["message"] == "socket.accept() out of system resource"
    assert reports[0]["exception"].errno == 24
    assert loop.counters()["timers"] == 1, loop.counters()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limit
    while len(reports) < 3:  # the timer arms it again; still no descriptor
        await asyncio.sleep(0.01)
    assert not made
    assert loop.counters()["timers"] <= 2, loop.counters()
    for fd in hold:
        os.close(fd)
    for client in clients:
        client.setblocking(False)
        assert await loop.sock_recv(client, 10) == b"hello"
        client.close()
    reports.clear()
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.setblocking(False)
        assert await loop.sock_recv(client, 10) == b"hello"
    server.close()
    await server.wait_closed()
    assert not reports, reports

loop.run_until_complete(main())
loop.close()
print("accepted again")
"""


def test_accepts_again_after_the_process_ran_out_of_descriptors(driver):
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, driver],
        capture_output=True,
        text=True,
        timeout=18,
    )
    assert done.stdout == "accepted again\n", done.stderr


def test_a_server_closed_while_it_rests_leaves_no_timer(loop, monkeypatch):
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 3600)

    async def main():
        found = reports(loop)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        hold = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        client = socket.create_connection(address(server))
        try:
            while True:
                hold.append(os.dup(0))
        except OSError:
            pass
        try:
            await until(lambda: found)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in hold:
                os.close(fd)
        assert loop.counters()["timers"] == 1
        await end(server)
        await turns(2)
        assert loop._scheduled == [] or all(h.cancelled() for h in loop._scheduled)
        client.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("error", [ValueError, OSError, asyncio.CancelledError])
def test_a_protocol_factory_that_raises_costs_only_its_connection(loop, error):
    """Unlike on asyncio, which tells of it in debug mode only and leaves the socket to be collected."""

    async def main():
        found = reports(loop)
        made = []

        def factory():
            if not made:
                made.append(None)
                raise error("on purpose")
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(address(server)) as refused:
            refused.setblocking(False)
            await until(lambda: found)
            assert await drain(loop, refused) == b""
        with socket.create_connection(address(server)):
            await until(lambda: len(made) == 2 and made[1].transport)
        await until(lambda: made[1].is_lost)
        await end(server)
        message = "Error on transport creation for incoming connection"
        assert [words[:3] for words in found] == [(message, error, "on purpose")]

    loop.run_until_complete(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["factory", "connection_made"])
def test_an_order_to_leave_while_accepting_loses_no_other_connection(loop, where, error):
    protocols, orders = [], []

    def leave(*_):
        if not orders:
            orders.append(where)
            raise error("on purpose")

    def factory():
        if where == "factory":
            leave()
        protocols.append(Recorder(connection_made=leave) if not protocols else Recorder())
        return protocols[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    clients = [socket.create_connection(address(server)) for _ in range(4)]

    def turn():
        loop.call_soon(loop.stop)
        loop.run_forever()

    def wait():
        while True:
            turn()

    with pytest.raises(error):
        wait()
    expected = 3 if where == "factory" else 4
    while len(protocols) < expected or not all(p.transport for p in protocols):
        turn()
    for protocol in protocols:
        protocol.transport.abort()
    for client in clients:
        client.close()
    loop.run_until_complete(end(server))


def test_a_server_closed_inside_connection_made(loop):
    async def script(loop):
        protocols, servers = [], []

        def factory():
            protocols.append(Recorder(connection_made=lambda p: servers[0].close()))
            return protocols[-1]

        servers.append(await loop.create_server(factory, "127.0.0.1", 0))
        where_it_was = address(servers[0])
        with socket.create_connection(where_it_was) as client:
            client.setblocking(False)
            await until(lambda: protocols and protocols[0].transport)
            assert not servers[0].is_serving()
            assert servers[0].sockets == ()
            client.send(b"still served")
            await until(lambda: protocols[0].received == b"still served")
            protocols[0].transport.close()
            assert await drain(loop, client) == b""
        await until(lambda: protocols[0].is_lost)
        await servers[0].wait_closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where_it_was)
        return len(protocols), protocols[0].events

    assert same_as_asyncio(loop, script)[0] == 1


def test_a_server_closed_inside_its_protocol_factory_closes_that_connection_once(loop):
    async def main():
        found, servers = reports(loop), []

        def factory():
            servers[0].close()
            return Recorder()

        servers.append(await loop.create_server(factory, "127.0.0.1", 0))
        with socket.create_connection(address(servers[0])) as client:
            client.setblocking(False)
            assert await drain(loop, client) == b""
        await turns(5)
        await servers[0].wait_closed()
        assert len(found) <= 1
        return loop.counters()["transports"]

    left = loop.run_until_complete(main())
    somebody_elses = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    loop.close()
    gc.collect()
    for fd in somebody_elses:
        os.close(fd)  # raises if it was closed already
    assert left == 0
