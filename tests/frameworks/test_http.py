"""aiohttp, uvicorn, hypercorn and httpx on a hoop loop: HTTP/1.1, HTTP/2 and WebSockets over real sockets."""

import asyncio
import contextlib
import io
import socket

import pytest
from peers import drain

import hoop

# ---- aiohttp, both sides ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def aiohttp_server(security):
    """An aiohttp application that shouts back. Gives its URL."""
    from aiohttp import web

    async def echo(request):
        return web.Response(body=(await request.read()).upper())

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for n in range(50):
            await response.write(b"%d," % n)
        await response.write_eof()
        return response

    async def talk(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data.upper())
        return ws

    app = web.Application(client_max_size=1 << 24)
    app.router.add_get("/ws", talk)
    app.router.add_get("/stream", stream)
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=security.serving).start()
    host, port = runner.addresses[0][:2]
    yield f"{security.scheme('http')}://{host}:{port}"
    await runner.cleanup()


def test_aiohttp_server_and_client(run, security):
    aiohttp = pytest.importorskip("aiohttp")

    async def main():
        connector = aiohttp.TCPConnector(ssl=security.trusting or True)
        async with (
            aiohttp_server(security) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            for size in (0, 1, 100_000, 5_000_000):
                async with session.post(f"{url}/echo", data=io.BytesIO(b"x" * size)) as response:
                    assert await response.read() == b"X" * size
            async with session.get(f"{url}/stream") as response:
                assert await response.text() == "".join(f"{n}," for n in range(50))

            async def one(n):
                async with session.post(f"{url}/echo", data=b"n%d" % n) as response:
                    return await response.read()

            assert await asyncio.gather(*map(one, range(100))) == [b"N%d" % n for n in range(100)]
            async with session.ws_connect(f"{url}/ws") as ws:
                for n in range(20):
                    await ws.send_str(f"m{n}")
                    assert await ws.receive_str() == f"M{n}"

    run(main())


# ---- ASGI: uvicorn and hypercorn serve one application to httpx ---------------------------------------


class Application:
    """An ASGI application that shouts back, streams lines, talks over a WebSocket and counts its lifespan."""

    def __init__(self) -> None:
        self.lifespan: list[str] = []

    async def __call__(self, scope, receive, send):
        assert type(asyncio.get_running_loop()) is hoop.EventLoop
        await getattr(self, f"on_{scope['type']}")(scope, receive, send)

    async def on_lifespan(self, scope, receive, send):
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            self.lifespan.append(phase)
            await send({"type": f"lifespan.{phase}.complete"})

    async def on_http(self, scope, receive, send):
        headers = [(b"x-method", scope["method"].encode()), (b"x-query", scope["query_string"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/lines":
            for n in range(200):
                line = b"line %d\n" % n
                await send({"type": "http.response.body", "body": line, "more_body": True})
        elif scope["path"] == "/never":
            await receive()  # the request
            await receive()  # until the client is gone
            return
        more = True
        while more:
            message = await receive()
            body, more = message["body"].upper(), message.get("more_body", False)
            await send({"type": "http.response.body", "body": body, "more_body": more})

    async def on_websocket(self, scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})


@contextlib.asynccontextmanager
async def uvicorn_server(application, security, **options):
    """uvicorn with that application, as its own main program runs it. Gives its address."""
    import uvicorn

    if security.certificate:
        options["ssl_certfile"], options["ssl_keyfile"] = security.certificate
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, **options))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0)
            assert not serving.done(), serving
        yield listening.getsockname()
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def hypercorn_server(application, security):
    """hypercorn with that application. Gives its address."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        config.bind = [f"fd://{listening.detach()}"]  # hypercorn's from now on
    if security.certificate:
        config.certfile, config.keyfile = security.certificate
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(application, config, shutdown_trigger=stop.wait))
    yield address
    stop.set()
    await serving


async def shout(client, url: str, version: str) -> None:
    """Drive an application with httpx: small and large, streamed both ways, many at once, given up."""
    import httpx

    for size in (0, 1, 100_000, 2_000_000):
        response = await client.post(f"{url}/a?size={size}", content=b"x" * size)
        assert (response.status_code, response.http_version) == (200, version)
        assert response.headers["x-method"] == "POST"
        assert response.headers["x-query"] == f"size={size}"
        assert response.content == b"X" * size
    async with client.stream("GET", f"{url}/lines") as response:
        lines = [line async for line in response.aiter_lines()]
    assert lines == [f"line {n}" for n in range(200)]

    async def pieces():
        for n in range(50):
            yield b"piece %d " % n * 100

    response = await client.put(f"{url}/b", content=pieces())
    assert response.content == b"".join([b"PIECE %d " % n * 100 for n in range(50)])
    many = [client.post(f"{url}/c", content=b"n%d" % n) for n in range(50)]
    assert [r.content for r in await asyncio.gather(*many)] == [b"N%d" % n for n in range(50)]
    with pytest.raises(httpx.ReadTimeout):
        await client.get(f"{url}/never", timeout=0.05)
    assert (await client.post(f"{url}/d", content=b"still there")).content == b"STILL THERE"


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_uvicorn_serves_httpx(run, security, http):
    pytest.importorskip("uvicorn")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip(http)
    application = Application()

    async def main():
        async with uvicorn_server(application, security, http=http, ws="none") as (host, port):
            url = f"{security.scheme('http')}://{host}:{port}"
            verify = security.trusting or True
            async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
                await shout(client, url, "HTTP/1.1")

    run(main())
    assert application.lifespan == ["startup", "shutdown"]


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_uvicorn_answers_pipelined_requests_in_order(run, plain, http):
    pytest.importorskip("uvicorn")
    pytest.importorskip(http)

    async def main():
        loop = asyncio.get_running_loop()
        server = uvicorn_server(Application(), plain, http=http, ws="none")
        async with server as address:
            with socket.create_connection(address) as client:
                client.setblocking(False)
                request = b"POST /?%d HTTP/1.1\r\nHost: x\r\n%sContent-Length: 2\r\n\r\nok"
                requests = [request % (n, b"") for n in range(50)]
                requests.append(request % (50, b"Connection: close\r\n"))
                await loop.sock_sendall(client, b"".join(requests))
                found = await drain(loop, client)
        answers = found.split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert len(answers) == 51
        for n, answer in enumerate(answers):
            assert b"x-query: %d\r\n" % n in answer
            assert b"OK" in answer.partition(b"\r\n\r\n")[2]

    run(main())


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_hypercorn_serves_httpx(run, security, version):
    pytest.importorskip("hypercorn")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("h2")
    application = Application()

    async def main():
        async with hypercorn_server(application, security) as (host, port):
            url = f"{security.scheme('http')}://{host}:{port}"
            one = version == "HTTP/1.1"
            async with httpx.AsyncClient(
                verify=security.trusting or True, trust_env=False, http1=one, http2=not one
            ) as client:
                await shout(client, url, version)

    run(main())
    assert application.lifespan == ["startup", "shutdown"]


@pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto", "hypercorn"])
def test_asgi_servers_talk_over_websockets(run, security, implementation):
    pytest.importorskip("websockets")
    pytest.importorskip("wsproto")
    pytest.importorskip("hypercorn" if implementation == "hypercorn" else "uvicorn")
    from websockets.asyncio.client import connect

    async def main():
        if implementation == "hypercorn":
            server = hypercorn_server(Application(), security)
        else:
            server = uvicorn_server(Application(), security, ws=implementation)
        async with server as (host, port):
            uri = f"{security.scheme('ws')}://{host}:{port}/talk"
            async with connect(uri, ssl=security.trusting, proxy=None) as websocket:
                for message in ["short", "x" * 200_000, *(f"m{n}" for n in range(50))]:
                    await websocket.send(message)
                    assert await websocket.recv() == message.upper()

    run(main())
