"""The work that the benchmarks run, without any measuring. A worker finds it by name.

A *server* is `async def f(sock, **parameters)`. It serves on a socket that listens already, and returns
when it accepts (or never, if it is no coroutine). A piece of *work* is `async def f(n)`. It does its
operation n times, and nothing else that grows with n. If it needs preparation, it is an asynchronous
context manager of such a function. All use only what every asyncio loop offers, so the same code runs on
all of them.
"""

from __future__ import annotations

import importlib
from typing import Any


class Unavailable(Exception):
    """This cannot be run here; the message says why."""


def module(name: str) -> Any:
    """Import a module. Raises Unavailable if that fails."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(str(error)) from error


def attribute(module_name: str, name: str) -> Any:
    """Return a name of a module. Raises Unavailable if there is no such module or name."""
    found = getattr(module(module_name), name, None)
    if found is None:
        raise Unavailable(f"there is no {module_name}.{name}")
    return found


def find(name: str) -> Any:
    """Return what `module:function` names in this package."""
    module_name, function = name.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module_name}"), function)
