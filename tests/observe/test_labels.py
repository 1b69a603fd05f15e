"""Labels say which request a task serves: by label(), by asgi(), and without either."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.util
import time
import weakref

import pytest
import watched

import hoop.observe
from hoop.observe import labels, stalls


def label_of(task: asyncio.Task) -> str:
    """The label with which a look shows a task."""
    (found,) = [one for one in hoop.observe.snapshot().tasks if one.name == task.get_name()]
    return found.label


def labels_now() -> set[str]:
    """The labels of all tasks."""
    return {task.label for task in hoop.observe.snapshot().tasks}


def blocked_label(block) -> str:
    """Call a function that blocks the loop, and return the label of the report."""
    seen: list[stalls.Stall] = []
    thread = watched.start(0.02, hook=seen.append)
    try:
        until = time.monotonic() + 10
        while not seen and time.monotonic() < until:
            block()
    finally:
        thread.stop()
    return seen[0].label


# ---- label() -----------------------------------------------------------------------------------------


def test_a_label_is_that_of_the_task_and_of_those_it_makes(run):
    async def main():
        done = asyncio.Event()
        task = asyncio.current_task()
        assert label_of(task) == ""
        with hoop.observe.label("outer"):
            child = asyncio.create_task(done.wait())
            with hoop.observe.label("inner"):
                assert label_of(task) == "inner"
                await asyncio.sleep(0)
            assert label_of(task) == "outer"
            assert label_of(child) == "outer"
        assert label_of(task) == ""
        done.set()
        await child

    run(main())


def test_a_label_is_cut_and_has_no_control_characters(run):
    async def main():
        with hoop.observe.label("x" * 1000):
            assert label_of(asyncio.current_task()) == "x" * 200
        with hoop.observe.label("GET /\x1b[2J\n\udc80é"):
            assert label_of(asyncio.current_task()) == "GET /\ufffd[2J\ufffd\ufffdé"

    run(main())


def test_a_label_is_a_text():
    with pytest.raises(TypeError, match="a label is a str, not int"):
        hoop.observe.label(5)


def test_a_text_with_methods_of_its_own_is_not_asked(run):
    class Text(str):
        def __str__(self):
            raise AssertionError("the program's code ran")

        __format__ = __getitem__ = isprintable = __str__

    async def main():
        with hoop.observe.label(Text("plain")):
            assert label_of(asyncio.current_task()) == "plain"

    run(main())


def test_a_generator_that_another_task_closes_may_have_a_label(run):
    async def items():
        with hoop.observe.label("items"):
            yield 1

    async def main():
        generator = items()
        await asyncio.create_task(generator.__anext__())
        await asyncio.create_task(generator.aclose())
        assert label_of(asyncio.current_task()) == ""

    run(main())


def test_a_stall_has_the_label_of_its_task(run):
    async def main():
        with hoop.observe.label("GET /report"):
            assert blocked_label(lambda: time.sleep(0.2)) == "GET /report"

    run(main())


def test_a_stall_has_the_label_of_its_callback(run):
    async def main():
        told = asyncio.get_running_loop().create_future()

        def callback():
            told.set_result(blocked_label(lambda: time.sleep(0.2)))

        with hoop.observe.label("refresh"):
            asyncio.get_running_loop().call_soon(callback)
        assert await told == "refresh"

    run(main())


# ---- show() ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """Forget afterwards what was shown."""
    monkeypatch.setattr(labels, "_shown", [])


def test_variables_are_shown_beside_the_label(run, shown):
    trace, number, other = (contextvars.ContextVar(name) for name in ("trace", "number", "other"))

    async def main():
        for var in (trace, number, other, trace):
            hoop.observe.show(var)
        assert label_of(asyncio.current_task()) == ""
        trace.set("a1b2")
        number.set(7)
        other.set(["not shown"])
        assert label_of(asyncio.current_task()) == "trace=a1b2 number=7"
        with hoop.observe.label("GET /"):
            assert label_of(asyncio.current_task()) == "GET / trace=a1b2 number=7"
        number.set(10**5000)  # to write it down would take long
        assert label_of(asyncio.current_task()) == "trace=a1b2"

    run(main())


def test_only_a_few_variables_are_shown(shown):
    with pytest.raises(TypeError, match="a ContextVar is shown, not str"):
        hoop.observe.show("trace")
    for n in range(labels.SHOWN_MAX):
        hoop.observe.show(contextvars.ContextVar(str(n)))
    with pytest.raises(ValueError, match="more than 8 variables"):
        hoop.observe.show(contextvars.ContextVar("one more"))


# ---- asgi() ------------------------------------------------------------------------------------------


def test_requests_and_websockets_of_an_asgi_application_are_labelled(run):
    seen = []

    async def app(scope, receive, send):
        seen.append(label_of(asyncio.current_task()))

    async def main():
        labelled = hoop.observe.asgi(app)
        request = {"type": "http", "method": "GET", "path": "/a", "query_string": b"password=1"}
        await labelled({**request, "client": ("10.0.0.7", 51034)}, None, None)
        await labelled({**request, "client": ["::1", 5]}, None, None)
        await labelled({**request, "client": None}, None, None)
        await labelled({"type": "websocket", "path": "/room"}, None, None)
        await labelled({"type": "lifespan"}, None, None)

    run(main())
    assert seen == ["GET /a 10.0.0.7:51034", "GET /a [::1]:5", "GET /a", "WebSocket /room", ""]


# ---- uvicorn and aiohttp, without configuration ------------------------------------------------------------


def needs(*modules: str) -> None:
    """Skip the test if one of these is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


async def ask(port: int, target: str) -> bytes:
    """Send one request, and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def with_uvicorn(app, use, **options) -> None:
    """Serve an application with uvicorn on this loop while `use(port)` runs."""
    import uvicorn

    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1, **options
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        await use(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def answer(send, text: str = "done") -> None:
    """Answer an HTTP request by ASGI."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_requests_of_uvicorn_are_known(run, http):
    needs("uvicorn", http)
    found: list[set[str]] = []

    async def main():
        go = asyncio.Event()

        async def app(scope, receive, send):
            await go.wait()
            found.append({label_of(asyncio.current_task())})
            await answer(send)

        async def use(port):
            asking = asyncio.create_task(ask(port, "/items/1?key=secret"))
            while not any(label.startswith("GET /items/1 127.0.0.1:") for label in labels_now()):
                await asyncio.sleep(0.01)
            found.append(labels_now())
            go.set()
            assert (await asking).endswith(b"done\r\n0\r\n\r\n")

        await with_uvicorn(app, use, http=http)

    run(main())
    assert len(found) == 2
    assert not any("secret" in label or "?" in label for labels in found for label in labels)
    assert {label.startswith("GET /items/1 127.0.0.1:") for label in found[1]} == {True}


def test_a_blocked_request_of_uvicorn_is_named(run):
    needs("uvicorn")
    found = []

    async def app(scope, receive, send):
        found.append(blocked_label(lambda: time.sleep(0.2)))
        await answer(send)

    run(with_uvicorn(app, lambda port: ask(port, "/slow?x=1")))
    assert [label.rpartition(":")[0] for label in found] == ["GET /slow 127.0.0.1"]


def test_websockets_of_uvicorn_are_known(run):
    needs("uvicorn", "websockets")
    import websockets

    async def main():
        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            await receive()

        async def use(port):
            async with websockets.connect(f"ws://127.0.0.1:{port}/room?key=secret", proxy=None):
                found = {label.rpartition(":")[0] for label in labels_now()}
                assert "WebSocket /room 127.0.0.1" in found

        await with_uvicorn(app, use, ws="websockets-sansio")

    run(main())


def test_requests_of_aiohttp_are_known(run):
    needs("aiohttp")
    from aiohttp import web

    found = []

    async def main():
        go = asyncio.Event()

        async def handle(request):
            await go.wait()
            found.append(blocked_label(lambda: time.sleep(0.2)))
            return web.Response(text="done")

        app = web.Application()
        app.router.add_get("/items/{id}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            port = runner.addresses[0][1]
            asking = asyncio.create_task(ask(port, "/items/1?key=secret"))
            # From Python 3.12 on aiohttp takes asyncio's own class for its tasks.
            while not any(label.startswith("GET /items/1 127.0.0.1:") for label in labels_now()):
                await asyncio.sleep(0.01)
            go.set()
            assert (await asking).endswith(b"done")
        finally:
            await runner.cleanup()

    run(main())
    assert [label.rpartition(":")[0] for label in found] == ["GET /items/1 127.0.0.1"]


def test_a_look_keeps_no_request(run):
    """Before Python 3.13 a frame keeps what it was asked for."""

    class Thing:
        pass

    async def run_asgi():
        self = Thing()
        gone = weakref.ref(self)
        labels_now()
        del self
        gc.collect()
        assert gone() is None

    code = run_asgi.__code__.replace(co_filename="uvicorn/made_up.py")
    run_asgi.__code__ = code

    async def main():
        await asyncio.create_task(run_asgi())

    run(main())


def test_properties_of_the_program_are_not_called():
    class Odd:
        __slots__ = ("empty", "full")

        @property
        def scope(self):
            raise AssertionError("the program's code ran")

        def __getattribute__(self, name):
            raise AssertionError("the program's code ran")

    class Plain(Odd):
        pass

    odd, plain = Odd(), Plain()
    Odd.full.__set__(odd, 1)
    assert [labels.field(odd, name) for name in ("scope", "empty", "full", "none")] == [
        None,
        None,
        1,
        None,
    ]
    object.__setattr__(plain, "mine", 2)
    assert [labels.field(plain, name) for name in ("scope", "mine", "none")] == [None, 2, None]
