"""aiohttp, uvicorn and websockets on a hoop loop: small programs, driven over real sockets."""

import asyncio
import io
import socket

import pytest
from peers import drain, end, turns


def test_aiohttp_server_and_client(run):
    aiohttp = pytest.importorskip("aiohttp")
    from aiohttp import web

    async def echo(request):
        if request.path == "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for n in range(50):
                await response.write(b"%d," % n)
            await response.write_eof()
            return response
        return web.Response(body=(await request.read()).upper())

    async def talk(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data.upper())
        return ws

    async def main():
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/ws", talk)
        app.router.add_route("*", "/{name}", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}"
        async with aiohttp.ClientSession() as session:
            for size in (0, 1, 100_000, 5_000_000):
                async with session.post(f"{url}/echo", data=io.BytesIO(b"x" * size)) as response:
                    assert await response.read() == b"X" * size
            async with session.get(f"{url}/stream") as response:
                assert (await response.text()).endswith("48,49,")

            async def one(n):
                async with session.post(f"{url}/echo", data=b"n%d" % n) as response:
                    return await response.read()

            assert await asyncio.gather(*map(one, range(100))) == [b"N%d" % n for n in range(100)]
            async with session.ws_connect(f"{url}/ws") as ws:
                for n in range(20):
                    await ws.send_str(f"m{n}")
                    assert await ws.receive_str() == f"M{n}"
        await runner.cleanup()
        await turns(5)

    run(main())


async def asgi(scope, receive, send):
    """Answers with the length of the request's body."""
    assert scope["type"] == "http"
    n = 0
    while True:
        message = await receive()
        n += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
    await send({"type": "http.response.body", "body": str(n).encode()})


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_uvicorn_serves_an_asgi_app(run, http):
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip(http)

    async def main():
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(asgi, http=http, ws="none", lifespan="off", log_config=None)
        config.load()
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        for size in (0, 10, 1_000_000):
            with socket.create_connection(listening.getsockname()) as client:
                client.setblocking(False)
                head = (
                    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                )
                await loop.sock_sendall(client, head % size + bytes(size))
                head, _, body = (await drain(loop, client)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert b"x-a: b" in head
                assert str(size).encode() in body
        with socket.create_connection(listening.getsockname()) as client:  # pipelined, kept alive
            client.setblocking(False)
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            found = b""
            while found.count(b"HTTP/1.1 200") < 10 or not found.endswith((b"0", b"0\r\n\r\n")):
                found += await loop.sock_recv(client, 65536)
        await server.shutdown(sockets=[listening])
        await turns(5)
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
        async with serve(echo, "127.0.0.1", 0, compression=None, max_size=None) as server:
            host, port = server.sockets[0].getsockname()
            uri = f"ws://{host}:{port}"
            async with connect(uri, compression=None, max_size=None, proxy=None) as websocket:
                for message in ("text", b"bytes", b"x" * 3_000_000):
                    await websocket.send(message)
                    assert await websocket.recv() == message
        await turns(5)

    run(main())


def test_asyncio_streams_echo(run):
    async def main():
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def client(n):
            reader, writer = await asyncio.open_connection(*address)
            data = b"%d" % n * 100_000
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(client, range(20)))
        await end(server)

    run(main())
