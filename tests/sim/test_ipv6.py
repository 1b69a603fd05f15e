"""Hosts with addresses of both IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import socket

import pytest

import hoop.sim


async def tell_peer(reader, writer):
    """Answer with the address from which the connection comes, as the server sees it."""
    writer.write(writer.get_extra_info("peername")[0].encode())
    writer.close()


async def serve(*addresses):
    async with await asyncio.start_server(tell_peer, list(addresses) or None, 80) as server:
        await server.serve_forever()


async def ask(address, **how):
    """Connect. Returns the address that this reached, and the own one as the other side sees it."""
    reader, writer = await asyncio.open_connection(address, 80, **how)
    reached = writer.get_extra_info("peername")[0]
    seen = (await reader.read()).decode()
    assert seen == writer.get_extra_info("sockname")[0]
    writer.close()
    return reached, seen


async def look_up(name, **how):
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, 80, type=socket.SOCK_STREAM, **how)
    return [entry[4][0] for entry in found]


def test_a_host_has_an_address_of_each_kind():
    async def client(db):
        assert await ask(db.address6) == ("fd00::1", "fd00::2")
        assert await ask(db.address) == ("10.0.0.1", "10.0.0.2")
        assert await ask("db") == ("10.0.0.1", "10.0.0.2")
        with pytest.raises(socket.gaierror):
            await look_up("db", family=socket.AF_INET6)
        with socket.socket(socket.AF_INET6) as sock, pytest.raises(OSError, match="Cannot assign"):
            sock.bind((db.address6, 80))
        for own in ("::1", "::", "127.0.0.1"):
            with pytest.raises(ConnectionRefusedError):
                await ask(own)

    async def main(world):
        db = world.host("db", serve)
        assert (db.address, db.address6) == ("10.0.0.1", "fd00::1")
        await asyncio.sleep(1)
        await world.run("client", lambda: client(db))
        assert await ask(db.address6) == ("fd00::1", "fd00::ff:1")
        with pytest.raises(hoop.sim.Unsimulated, match=r"::ffff:10\.0\.0\.1"):
            await ask("::ffff:10.0.0.1")

    hoop.sim.explore(main, seeds=4)


def test_a_name_leads_to_both_in_the_order_of_linux():
    async def client():
        assert await look_up("db") == ["fd00::1", "10.0.0.1"]
        assert await look_up("db", family=socket.AF_INET) == ["10.0.0.1"]
        assert await look_up("db", family=socket.AF_INET6) == ["fd00::1"]
        assert (await ask("db"))[0] == "fd00::1"
        assert (await ask("old"))[0] == "10.0.0.2"  # nobody listens at the other address
        assert (await ask("old", happy_eyeballs_delay=0.25))[0] == "10.0.0.2"

    async def main(world):
        world.host("db", lambda: serve("db"), ipv6=True)
        world.host("old", lambda: serve("0.0.0.0"), ipv6=True)
        await asyncio.sleep(1)
        await world.run("client", client)

    hoop.sim.explore(main, seeds=4)


def test_one_socket_listens_for_both():
    async def run_db():
        sock = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
        async with await asyncio.start_server(tell_peer, sock=sock) as server:
            await server.serve_forever()

    async def client():
        assert await ask("fd00::1") == ("fd00::1", "fd00::2")
        reader, writer = await asyncio.open_connection("10.0.0.1", 80)
        assert await reader.read() == b"::ffff:10.0.0.2"
        writer.close()

    async def main(world):
        world.host("db", run_db)
        await asyncio.sleep(1)
        await world.run("client", client)

    hoop.sim.explore(main, seeds=4)


def test_a_partition_is_between_hosts_and_not_addresses():
    async def main(world):
        db = world.host("db", serve, ipv6=True)
        await asyncio.sleep(1)

        async def client():
            assert (await ask("db"))[0] == db.address6
            world.partition("db", "client")
            for address in (db.address, db.address6):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(address), 60)
            world.heal()
            assert (await ask("db"))[0] == db.address6

        await world.run("client", client)

    hoop.sim.explore(main, seeds=4)


def test_datagrams_come_from_the_address_of_their_kind():
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(address[0].encode(), address)

    class Client(asyncio.DatagramProtocol):
        def __init__(self):
            self.answer = asyncio.get_running_loop().create_future()

        def datagram_received(self, data, address):
            self.answer.set_result((data.decode(), address[0]))

    async def run_db():
        loop = asyncio.get_running_loop()
        for host in ("10.0.0.1", "fd00::1"):
            await loop.create_datagram_endpoint(Server, local_addr=(host, 53))
        await asyncio.sleep(100)

    async def client():
        loop = asyncio.get_running_loop()
        for to, own in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")):
            transport, protocol = await loop.create_datagram_endpoint(Client, remote_addr=(to, 53))
            transport.sendto(b"who am I?")
            assert await protocol.answer == (own, to)
            transport.close()

    async def main(world):
        world.host("db", run_db)
        await asyncio.sleep(1)
        await world.run("client", client)

    hoop.sim.run(main, faults=hoop.sim.Faults(loss=0.0, duplicate=0.0))
