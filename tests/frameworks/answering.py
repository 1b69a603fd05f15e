"""Applications that answer with the loop that serves them, for test_documented.py.

The answer is the beginning of the loop's repr(), which names its class, and hoop's driver.
"""

from __future__ import annotations

import asyncio
from typing import Any

import hoop


def which_loop() -> str:
    """Describe the running loop."""
    return name_of(asyncio.get_running_loop())


def name_of(loop: asyncio.AbstractEventLoop) -> str:
    """The beginning of a loop's repr(), before its state."""
    return repr(loop).removeprefix("<").partition(" running=")[0]


def usual() -> str:
    """The name of a loop that hoop makes here."""
    loop = hoop.new_event_loop()
    try:
        return name_of(loop)
    finally:
        loop.close()


ON_HOOP = usual()  # "hoop.EventLoop driver=uring", where the kernel allows io_uring


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Be an ASGI application."""
    if scope["type"] == "lifespan":
        message = {"type": ""}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    body = which_loop().encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def make_app() -> Any:
    """Make an application of aiohttp's."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=which_loop())

    app = web.Application()
    app.router.add_get("/", answer)
    return app


def make_fastapi() -> Any:
    """Make an application of FastAPI's."""
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/")
    async def answer() -> str:
        return which_loop()

    return app


def make_django() -> Any:
    """Make an application of Django's, with an asynchronous and a synchronous view."""
    import django
    from asgiref.sync import async_to_sync
    from django import conf, http, urls
    from django.core.asgi import get_asgi_application

    async def answer(request: Any) -> Any:
        return http.HttpResponse(which_loop())

    def answer_synchronously(request: Any) -> Any:
        return async_to_sync(answer)(request)

    views = [urls.path("", answer), urls.path("synchronous", answer_synchronously)]
    conf.settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=tuple(views), SECRET_KEY="x", MIDDLEWARE=[]
    )
    django.setup()
    return get_asgi_application()
