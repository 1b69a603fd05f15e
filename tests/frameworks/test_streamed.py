"""A streamed answer arrives chunk by chunk, though the application computes in between without awaiting.

The application stands still until the client has got the chunk before: one that is kept back would stay away.
"""

import asyncio
import contextlib
import socket
import threading

import pytest

CHUNKS = [b"chunk %d." % n for n in range(5)]
PATIENCE_S = 5


class Client(threading.Thread):
    """Asks for plain answers and for streamed ones, on one connection, with blocking calls."""

    def __init__(self, address, asked):
        super().__init__(daemon=True)
        self.address = address
        self.asked = asked
        self.got = threading.Semaphore(0)
        self.failure = None

    def run(self):
        try:
            with socket.create_connection(self.address, PATIENCE_S) as self.sock:
                for path in self.asked:
                    self.ask(path)
        except BaseException as exc:
            self.failure = exc

    def ask(self, path):
        self.sock.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        received = self.receive_until(b"\r\n\r\n", b"")
        if path == b"/plain":
            self.receive_until(b"plain", received)
            return
        for chunk in CHUNKS:
            received = self.receive_until(chunk, received)
            self.got.release()
        self.receive_until(b"0\r\n\r\n", received)

    def receive_until(self, wanted, received):
        while wanted not in received:
            data = self.sock.recv(65536)
            assert data, f"the end came before {wanted!r}"
            received += data
        return received[received.index(wanted) :]


@contextlib.asynccontextmanager
async def uvicorn(stand_still, http):
    package = pytest.importorskip("uvicorn")
    pytest.importorskip(http)

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/plain":
            await send({"type": "http.response.body", "body": b"plain"})
            return
        for chunk in CHUNKS:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            stand_still()
        await send({"type": "http.response.body", "body": b""})

    config = package.Config(application, http=http, lifespan="off", loop="none", log_config=None)
    server = package.Server(config)
    server.install_signal_handlers = lambda: None
    server.capture_signals = contextlib.nullcontext
    with socket.create_server(("127.0.0.1", 0)) as sock:
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        yield sock.getsockname()
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def aiohttp(stand_still, _):
    web = pytest.importorskip("aiohttp.web")

    async def plain(request):
        return web.Response(body=b"plain")

    async def stream(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in CHUNKS:
            await response.write(chunk)
            stand_still()
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/plain", plain)
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][:2]
    await runner.cleanup()


SERVERS = {
    "uvicorn-httptools": (uvicorn, "httptools"),
    "uvicorn-h11": (uvicorn, "h11"),
    "aiohttp": (aiohttp, ""),
}


@pytest.mark.parametrize("server", SERVERS)
def test_each_chunk_is_with_the_client_before_the_next_is_made(run, server):
    serve, http = SERVERS[server]
    clients = []

    def stand_still():
        assert clients[0].got.acquire(timeout=PATIENCE_S), "the chunk was kept back"

    async def main():
        async with serve(stand_still, http) as address:
            clients.append(Client(address, [b"/stream", *[b"/plain"] * 20, b"/stream", b"/stream"]))
            clients[0].start()
            await asyncio.to_thread(clients[0].join)
            assert clients[0].failure is None

    run(main())
