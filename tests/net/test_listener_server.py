"""asyncio's Server over AcceptOp: closing, waiting for it, serving for ever, TLS."""

import asyncio
import socket
import ssl

import pytest
from peers import Recorder, drain, end, make_certificate, outcome, same_as_asyncio, turns, until

HAS_CLOSE_CLIENTS = hasattr(asyncio.Server, "close_clients")


def address(server):
    """Where a server listens."""
    return server.sockets[0].getsockname()[:2]


def test_when_wait_closed_returns_is_as_in_this_python(loop):
    async def script(loop):
        protocols, found = [], []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        early = asyncio.ensure_future(server.wait_closed())
        clients = [socket.create_connection(address(server)) for _ in range(2)]
        await until(lambda: len(protocols) == 2 and protocols[1].transport)
        await turns(3)
        found.append(early.done())
        server.close()
        late = asyncio.ensure_future(server.wait_closed())
        for n in range(2):
            await turns(3)
            found += [early.done(), late.done(), server.is_serving(), server.sockets]
            clients[n].close()
            await until(lambda: protocols[n].is_lost or protocols[1 - n].is_lost)  # noqa: B023
        await until(lambda: all(p.is_lost for p in protocols))
        await turns(3)
        found += [early.done(), late.done()]
        await server.wait_closed()
        await asyncio.gather(early, late)
        return found

    same_as_asyncio(loop, script)


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="new in Python 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_close_clients_and_abort_clients(loop, method):
    async def script(loop):
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = [socket.create_connection(address(server)) for _ in range(3)]
        await until(lambda: len(protocols) == 3 and all(p.transport for p in protocols))
        protocols[0].transport.write(b"x" * 8_000_000)
        server.close()
        getattr(server, method)()
        clients[0].setblocking(False)
        received = len(await drain(loop, clients[0]))
        await server.wait_closed()
        for client in clients:
            client.close()
        whole = received == 8_000_000
        return whole, [(p.events[-1], p.lost_with) for p in protocols]

    assert same_as_asyncio(loop, script)[0] is (method == "close_clients")


def test_serve_forever_cancelled(loop):
    async def script(loop):
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        found = [server.is_serving(), len(server.sockets)]
        serving = asyncio.ensure_future(server.serve_forever())
        await turns(2)
        found.append(server.is_serving())
        client = socket.create_connection(address(server))
        await until(lambda: protocols and protocols[0].transport)
        try:
            await server.serve_forever()
        except RuntimeError as exc:
            found.append(str(exc).split("<")[0])
        serving.cancel()
        await turns(5)
        found += [serving.done(), server.is_serving(), protocols[0].is_lost]
        client.close()
        await until(lambda: protocols[0].is_lost and serving.done())
        return [*found, serving.cancelled(), server.sockets]

    same_as_asyncio(loop, script)


def test_a_server_that_was_not_started_accepts_nobody_until_it_is(loop):
    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        with socket.socket() as refused:  # bound, not listening
            assert refused.connect_ex(address(server)) != 0
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        with socket.create_connection(address(server)):
            await until(lambda: protocols and protocols[0].transport)
        await until(lambda: protocols[0].is_lost)
        async with server:
            pass
        assert not server.is_serving()
        assert type(outcome(server.get_loop)).__name__ == "EventLoop"

    loop.run_until_complete(main())


@pytest.mark.parametrize("buffered", [False, True])
def test_tls_server_and_client(loop, tmp_path, buffered):
    cert, key = make_certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=cert)

    async def main():
        async def upper(reader, writer):
            data = await reader.readexactly(1_000_000)
            writer.write(data.upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(upper, "127.0.0.1", 0, ssl=serving)
        reader, writer = await asyncio.open_connection(
            *address(server), ssl=trusting, server_hostname="localhost"
        )
        assert writer.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
        assert writer.get_extra_info("socket").getpeername() == address(server)
        writer.write(b"abcde" * 200_000)
        assert await reader.read() == b"ABCDE" * 200_000
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                *address(server), ssl=trusting, server_hostname="elsewhere"
            )
        await end(server)
        await turns(5)

    loop.set_exception_handler(lambda *_: None)  # the refused handshake
    loop.run_until_complete(main())
