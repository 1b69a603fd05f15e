"""Servers and clients of others run in a simulation, unmodified: each seed passes, and gives one trace."""

import asyncio

import pytest

import hoop.sim

NAMES = {"web": "10.0.0.1"}
SEEDS = 4


def check(main):
    """Run some seeds twice."""
    traces = set()
    for seed in range(SEEDS):
        first, second = [], []
        for trace in (first, second):
            hoop.sim.run(main, seed=seed, order="mix", trace=trace, names=NAMES)
        assert first == second
        traces.add(tuple(first))
    assert len(traces) == SEEDS


def test_aiohttp():
    aiohttp = pytest.importorskip("aiohttp")
    web = pytest.importorskip("aiohttp.web")

    async def main():
        async def reverse(request):
            body = await request.read()
            return web.Response(body=body[::-1], headers={"peer": request.remote})

        async def ask(session, n):
            for size in (1, 5000):
                data = bytes(range(n, n + 5)) * size
                async with session.post("http://web/", data=data) as response:
                    assert await response.read() == data[::-1]
                    assert response.headers["peer"] == "10.0.0.1"
                await asyncio.sleep(1)

        app = web.Application()
        app.router.add_post("/", reverse)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "10.0.0.1", 80).start()
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session, n) for n in range(3)))
        await runner.cleanup()

    check(main)


def test_websockets():
    client = pytest.importorskip("websockets.asyncio.client")
    server = pytest.importorskip("websockets.asyncio.server")

    async def main():
        async def reverse(connection):
            async for message in connection:
                await connection.send(message[::-1])

        async def ask(n):
            async with client.connect("ws://web/") as connection:
                for i in range(5):
                    await connection.send(f"{n} {i}")
                    assert await connection.recv() == f"{i} {n}"
                    await asyncio.sleep(1)

        async with server.serve(reverse, "10.0.0.1", 80):
            await asyncio.gather(*(ask(n) for n in range(3)))

    check(main)


def test_uvicorn_and_httpx():
    uvicorn = pytest.importorskip("uvicorn")
    httpx = pytest.importorskip("httpx")

    async def reverse(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body[::-1]})

    async def main():
        config = uvicorn.Config(reverse, host="10.0.0.1", port=80, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.1)
        async with httpx.AsyncClient(timeout=600, trust_env=False, verify=False) as client:
            for size in (1, 1000):
                answer = await client.post("http://web/", content=b"ab" * size)
                assert answer.content == b"ba" * size
        server.should_exit = True
        await serving

    check(main)
