"""The event loops the benchmarks can run on, by name, and the interpreter they all run on."""

from __future__ import annotations

import asyncio
import importlib
import platform
import sysconfig
from collections.abc import Callable

LOOPS = ("hoop", "asyncio", "uvloop")


class LoopUnavailable(Exception):
    """The loop cannot be used here; the message says why."""


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a new loop of that name.

    Raises LoopUnavailable when its package is not installed or not built.
    """
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
            name
        ).new_event_loop
    except (ImportError, AttributeError) as error:
        raise LoopUnavailable(f"{name} is left out: {error}") from error
    return factory


def loop_version(name: str) -> str:
    """Return the version of the package the loop comes from."""
    if name == "asyncio":
        return platform.python_version()
    version: str = importlib.import_module(name).__version__
    return version


def describe_python() -> str:
    """Return the interpreter's version, and whether it is of the faster kind of build."""
    profiled = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"Python {platform.python_version()} (built {'with' if profiled else 'without'} PGO)"


def available_loops(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the names that can be used and, for each of the others, a line that says why not."""
    available, reasons = [], []
    for name in names:
        try:
            loop_factory(name)
        except LoopUnavailable as reason:
            reasons.append(str(reason))
        else:
            available.append(name)
    return available, reasons
