"""The event loops the benchmarks can run on, by name, and the interpreter they all run on."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import platform
import sysconfig
from collections.abc import Callable

from workloads import Unavailable, attribute

Factory = Callable[[], asyncio.AbstractEventLoop]

HOOP = ("hoop-epoll", "hoop-uring")
SPINNING = tuple(f"{loop}-spin" for loop in HOOP)
OBSERVED = tuple(f"{loop}-observed" for loop in HOOP)  # After hoop.observe.start().
RIVALS = ("rloop", "blazio", "talyn", "zuvloop", "rsloop")
LOOPS = (*HOOP, "asyncio", "uvloop", *RIVALS)
FACTORIES = {"talyn": "Loop"}  # Where it is not called new_event_loop.
SPIN_US = 50


def loop_factory(name: str) -> Factory:
    """Return what makes a new loop of that name.

    Raises Unavailable when its package is not installed or not built, or has no such driver.
    """
    package, _, rest = name.partition("-")
    driver, _, how = rest.partition("-")
    factory: Factory = attribute(package, FACTORIES.get(package, "new_event_loop"))
    if not driver:
        return factory
    if how == "spin":
        return lambda: factory(driver=driver, spin_us=SPIN_US)  # type: ignore[call-arg]
    if how == "observed":
        observe(package)
    if "driver" in inspect.signature(factory).parameters:
        return lambda: factory(driver=driver)  # type: ignore[call-arg]
    if driver != "epoll":
        raise Unavailable(f"{package} has no driver called {driver}")
    return factory


def observe(package: str) -> None:
    """Have the package observe all loops of this process, with a socket of the process's own."""
    start = attribute(f"{package}.observe", "start")
    if not attribute(f"{package}.observe", "is_on")():
        start()


def loop_version(name: str) -> str:
    """Return the version of the package the loop comes from."""
    package = name.partition("-")[0]
    if package == "asyncio":
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # Built in place, and not installed.
        return str(attribute(package, "__version__"))


def describe_python() -> str:
    """Return the interpreter's version, and whether it is of the faster kind of build."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    # Debian builds its interpreter by `make profile-opt`. The folder of its wheels tells it.
    profiled = "--enable-optimizations" in arguments or "/usr/share/python-wheels" in arguments
    return f"Python {platform.python_version()} (built {'with' if profiled else 'without'} PGO)"
