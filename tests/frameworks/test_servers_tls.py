"""aiohttp, uvicorn, websockets and httpx over TLS on a hoop loop; proxies that need start_tls."""

import asyncio
import io
import socket
import ssl

import pytest
from peers import end, turns, until
from tls_peers import certificate, client_context, server_context

from hoop.tls.transport import SSLTransport


async def proxy(reader, writer):
    """Answer one CONNECT, then carry bytes both ways."""
    head = await reader.readuntil(b"\r\n\r\n")
    port = int(head.split()[1].rpartition(b":")[2])
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async def carry(source, target):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()
        await target.wait_closed()

    await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))


def test_aiohttp_server_and_client(run):
    aiohttp = pytest.importorskip("aiohttp")
    from aiohttp import web

    transports = set()

    async def echo(request):
        transports.add(type(request.transport))
        return web.Response(body=(await request.read()).upper())

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b"x" * 10_000)
        await response.write_eof()
        return response

    async def talk(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async def main():
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/ws", talk)
        app.router.add_get("/stream", stream)
        app.router.add_route("*", "/{name}", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context()).start()
        port = runner.addresses[0][1]
        url = f"https://localhost:{port}"
        trusting = aiohttp.TCPConnector(ssl=client_context(), family=socket.AF_INET)
        async with aiohttp.ClientSession(connector=trusting) as session:
            for size in (0, 1, 100_000, 3_000_000):
                async with session.post(f"{url}/echo", data=io.BytesIO(b"x" * size)) as response:
                    assert await response.read() == b"X" * size
            async with session.get(f"{url}/stream") as response:
                assert len(await response.read()) == 2_000_000

            async def one(n):
                async with session.post(f"{url}/echo", data=b"n%d" % n) as response:
                    return await response.read()

            assert await asyncio.gather(*map(one, range(50))) == [b"N%d" % n for n in range(50)]
            async with session.ws_connect(f"{url}/ws") as ws:
                for n in (1, 1000, 500_000):
                    await ws.send_bytes(b"q" * n)
                    assert await ws.receive_bytes() == b"q" * n
            for scheme, context in (("http", None), ("https", server_context())):
                through = await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=context)
                address = f"{scheme}://localhost:{through.sockets[0].getsockname()[1]}"
                headers = {"Connection": "close"}
                async with session.post(
                    f"{url}/echo", data=b"proxied", proxy=address, headers=headers
                ) as response:
                    assert await response.read() == b"PROXIED"
                through.close()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"{url}/echo")
        await runner.cleanup()
        await until(lambda: not asyncio.get_running_loop().counters()["transports"])
        assert transports == {SSLTransport}

    run(main())


async def asgi(scope, receive, send):
    """Answers with the scheme and the length of the request's body."""
    n = 0
    while True:
        message = await receive()
        n += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['scheme']} {n}".encode()})


def test_uvicorn_and_httpx(run):
    uvicorn = pytest.importorskip("uvicorn")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("httptools")

    async def main():
        cert, key = certificate()
        config = uvicorn.Config(
            asgi, ws="none", lifespan="off", log_config=None, ssl_certfile=cert, ssl_keyfile=key
        )
        config.load()
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        port = listening.getsockname()[1]
        async with httpx.AsyncClient(verify=client_context(), trust_env=False) as client:
            for size in (0, 10, 1_000_000):
                response = await client.post(f"https://localhost:{port}/", content=bytes(size))
                assert response.text == f"https {size}"
        await server.shutdown(sockets=[listening])
        await until(lambda: not asyncio.get_running_loop().counters()["transports"])
        listening.close()

    run(main())


def test_websockets_echo(run):
    pytest.importorskip("websockets")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo(websocket):
        async for message in websocket:
            await websocket.send(message)

    async def main():
        options = {"compression": None, "max_size": None}
        async with serve(echo, "127.0.0.1", 0, ssl=server_context(), **options) as server:
            port = server.sockets[0].getsockname()[1]
            uri = f"wss://127.0.0.1:{port}"
            async with connect(
                uri, ssl=client_context(), server_hostname="localhost", proxy=None, **options
            ) as websocket:
                for message in ("text", b"bytes", b"x" * 3_000_000):
                    await websocket.send(message)
                    assert await websocket.recv() == message
        await turns(5)

    run(main())


def test_streams_echo(run):
    async def main():
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()

        async def client(n):
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname="localhost"
            )
            assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
            data = b"%d" % n * 100_000
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(client, range(20)))
        await end(server)

    run(main())
