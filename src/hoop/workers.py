"""gunicorn's workers on hoop's event loop: the names to write after `--worker-class`.

    gunicorn app:app --worker-class hoop.workers.UvicornWorker  # ASGI: FastAPI, Starlette, Django
    gunicorn app:app --worker-class hoop.workers.AsgiWorker  # ASGI, by gunicorn's own server
    gunicorn app:app --worker-class hoop.workers.AiohttpWorker  # aiohttp

Importing this module needs nothing but hoop. A worker is made when it is first named. If one of its packages
is missing or too old, you then get an ImportError that says what to install.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hoop

if TYPE_CHECKING:
    AiohttpWorker: type[Any]
    AsgiWorker: type[Any]
    UvicornWorker: type[Any]

__all__ = ["AiohttpWorker", "AsgiWorker", "UvicornWorker"]


def _need(worker: str, package: str, *modules: str) -> Any:
    """Import the first of some modules that is there, or say which package has it."""
    missing = None
    for module in modules:
        try:
            return importlib.import_module(module)
        except ImportError as exc:
            missing = missing or exc
    raise ImportError(
        f"hoop.workers.{worker} needs {package}: {missing}", name=modules[0]
    ) from missing


def _uvicorn_worker() -> type[Any]:
    name = "UvicornWorker"
    _need(name, "gunicorn (`pip install gunicorn`)", "gunicorn.workers.base")
    config = _need(name, "uvicorn 0.36 or later (`pip install uvicorn`)", "uvicorn.config")
    if not hasattr(config.Config, "get_loop_factory"):
        raise ImportError(f"hoop.workers.{name} needs uvicorn 0.36 or later, which takes any loop")
    found = _need(
        name, "uvicorn-worker (`pip install uvicorn-worker`)", "uvicorn_worker", "uvicorn.workers"
    )

    class UvicornWorker(found.UvicornWorker):  # type: ignore[misc,name-defined]
        """uvicorn's worker for gunicorn, on a hoop loop.

        A subclass can set more of uvicorn's options:

            class Worker(hoop.workers.UvicornWorker):
                CONFIG_KWARGS = {**hoop.workers.UvicornWorker.CONFIG_KWARGS, "lifespan": "on"}
        """

        __qualname__ = name
        CONFIG_KWARGS = {**found.UvicornWorker.CONFIG_KWARGS, "loop": "hoop:EventLoop"}

    return UvicornWorker


def _asgi_worker() -> type[Any]:
    name = "AsgiWorker"
    package = "gunicorn 24 or later (`pip install gunicorn`)"
    found = _need(name, package, "gunicorn.workers.gasgi")
    if not hasattr(found.ASGIWorker, "_setup_event_loop"):
        raise ImportError(f"hoop.workers.{name} does not know this version of gunicorn")

    class AsgiWorker(found.ASGIWorker):  # type: ignore[misc,name-defined]
        """gunicorn's own worker for ASGI, on a hoop loop. The option `--asgi-loop` has no effect."""

        __qualname__ = name

        def _setup_event_loop(self) -> None:
            self.loop = hoop.new_event_loop()
            asyncio.set_event_loop(self.loop)

    return AsgiWorker


def _aiohttp_worker() -> type[Any]:
    name = "AiohttpWorker"
    _need(name, "gunicorn (`pip install gunicorn`)", "gunicorn.workers.base")
    found = _need(name, "aiohttp (`pip install aiohttp`)", "aiohttp.worker")

    class AiohttpWorker(found.GunicornWebWorker):  # type: ignore[misc,name-defined]
        """aiohttp's worker for gunicorn, on a hoop loop."""

        __qualname__ = name

        def init_process(self) -> None:
            """Make the loop after the fork, and go on where aiohttp has made asyncio's."""
            self.loop = hoop.new_event_loop()
            asyncio.set_event_loop(self.loop)
            super(found.GunicornWebWorker, self).init_process()

    return AiohttpWorker


_MAKERS: dict[str, Callable[[], type[Any]]] = {
    "AiohttpWorker": _aiohttp_worker,
    "AsgiWorker": _asgi_worker,
    "UvicornWorker": _uvicorn_worker,
}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = globals()[name] = _MAKERS[name]()
    return worker


def __dir__() -> list[str]:
    return sorted({*globals(), *_MAKERS})
