"""Changes of the standard library that hold while a world runs, and only in its thread."""

from __future__ import annotations

import _posixsubprocess
import _thread
import asyncio
import contextlib
import itertools
import os
import random
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hoop.loop import registry
from hoop.loop.event_loop import EventLoop
from hoop.sim.driver import Choices
from hoop.sim.errors import Unsimulated
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.hosts import signals
from hoop.sim.net import sockets
from hoop.sim.net.network import Network
from hoop.sim.storage import openings
from hoop.sim.stuck import Interruption
from hoop.sim.swaps import is_inside, next_task
from hoop.sim.threads.turns import Ending, Threads

_ABSENT: Any = object()

PROCESS = "replace the process in the test"
# In place of the hardware's address, from the range for those that have none.
NODE = 0x0100_0000_0001

# Functions that send a real signal, now or later, or wait for one.
_WITH_SIGNALS: dict[Any, tuple[str, ...]] = {
    os: ("killpg", "abort"),
    signal: ("alarm", "setitimer", "pause", "sigwait", "sigwaitinfo", "sigtimedwait"),
}

# Classes of other libraries that reach the real network in C, with threads of their own. Nothing else sees
# what they do. Each has its module, its name, what the user calls, and what to do instead.
_IN_C = (
    (
        "aiodns",
        "DNSResolver",
        "aiodns.DNSResolver()",
        "resolve names by loop.getaddrinfo(), with aiohttp by TCPConnector(resolver=ThreadedResolver())",
    ),
    ("grpc.aio._channel", "Channel", "a channel of grpc.aio", "replace the channel in the test"),
    ("grpc.aio._server", "Server", "grpc.aio.server()", "replace the server in the test"),
)


def _refusing(owner: Any, name: str, call: str, advice: str) -> Any:
    """A function in the place of an attribute, that refuses what it does."""
    real: Any = getattr(owner, name)

    def refused(*args: Any, **kwargs: Any) -> Any:
        if is_inside():
            raise Unsimulated(call, advice)
        return real(*args, **kwargs)

    return refused


def _starting(owner: Any, name: str, threads: Threads) -> Any:
    """A function that starts a thread: one that takes turns with the others of the world."""
    real: Any = getattr(owner, name)
    ours: Any = threads.start_joinable if "joinable" in name else threads.start_new

    def start(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs) if is_inside() else real(*args, **kwargs)

    return start


def _excepthook() -> Any:
    """threading.excepthook(), which says nothing of threads that the simulation ends."""
    real: Any = threading.excepthook

    def excepthook(args: Any, /) -> None:
        if not issubclass(args.exc_type, (Interruption, Ending)):
            real(args)

    return excepthook


def _counting_tasks() -> Any:
    """A function that counts the tasks of asyncio's class in Python together with all others of the world."""
    real: Any = asyncio.tasks._task_name_counter  # type: ignore[attr-defined]
    return lambda: next_task() if is_inside() else real()


def _each_task() -> Any:
    """An iteration over asyncio's set of tasks, which is older than the world, in order of their hashes."""
    real: Any = registry.TaskSet.__iter__

    def each(self: Any) -> Iterator[Any]:
        return iter(sorted(real(self), key=hash)) if is_inside() else real(self)

    return each


def _seeded(owner: Any, name: str) -> Any:
    """os.getrandom() or its like, which takes the bytes of os.urandom()."""
    real: Any = getattr(owner, name)

    def octets(size: int, *args: Any, **kwargs: Any) -> Any:
        return os.urandom(size) if is_inside() else real(size, *args, **kwargs)

    return octets


def _clock(name: str, wall: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """time.clock_gettime() or its like, with virtual time. Clocks of the processor stay real."""
    real: Any = getattr(time, name)
    walls = {time.CLOCK_REALTIME, time.CLOCK_TAI}  # the kernel begins with no leap seconds between
    others = {time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME}

    def clock(number: int) -> Any:
        if is_inside() and number in walls:
            return wall()
        return other() if is_inside() and number in others else real(number)

    return clock


def _select(network: Network) -> Any:
    """select.select(), which takes virtual time, and never blocks."""
    real: Any = select.select

    def simulated(r: Any, w: Any, x: Any, timeout: float | None = None) -> Any:
        if not is_inside():
            return real(r, w, x, timeout)
        found = real(r, w, x, 0)
        if any(found) or timeout == 0:
            return found
        is_ready = sockets.let_time_pass(network, lambda: any(real(r, w, x, 0)), timeout)
        if timeout is None and not is_ready:
            raise Unsimulated("a select.select() that blocks", "await loop.sock_recv() instead")
        return real(r, w, x, 0)

    return simulated


def _run_forever(owner: Any) -> Any:
    """run_forever() of the world's own loops. Others would wait in the kernel for virtual time."""
    real: Any = owner.run_forever

    def run_forever(self: Any) -> None:
        if is_inside() and not isinstance(self, SimEventLoop):
            raise Unsimulated("another event loop", "await in the loop of the simulation")
        real(self)

    return run_forever


def _seeded_seed(choices: Choices) -> Callable[..., None]:
    """Random.seed(), which takes a number of the world's where it would ask the kernel for one."""
    real: Any = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and is_inside():
            a = int.from_bytes(choices.octets(32), "little")
        real(self, a, version)

    return seed


def _changes(choices: Choices, network: Network) -> Iterator[tuple[Any, str, Any]]:
    """All that is changed: an object, the name of its attribute, and the new value."""
    yield random.Random, "seed", _seeded_seed(choices)
    yield uuid, "_generate_time_safe", None  # uuid1() then goes by time.time_ns() and random
    yield uuid, "_node", NODE
    for name in [name for name in vars(uuid) if name.startswith("_last_")]:
        yield uuid, name, None  # no UUID has to come after those that were made in real time
    yield os, "getrandom", _seeded(os, "getrandom")
    yield ssl, "RAND_bytes", _seeded(ssl, "RAND_bytes")
    yield tempfile, "_name_sequence", None  # so that each world begins with numbers of its own
    yield asyncio.tasks, "_task_name_counter", _counting_tasks()
    yield registry.TaskSet, "__iter__", _each_task()
    yield threading, "_counter", itertools.count(1).__next__  # of names
    yield ThreadPoolExecutor, "_counter", itertools.count().__next__
    yield threading, "excepthook", _excepthook()
    popen = _refusing(subprocess.Popen, "__init__", "subprocess.Popen()", PROCESS)
    yield subprocess.Popen, "__init__", popen
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "execv", "execve"):
        yield os, name, _refusing(os, name, f"os.{name}()", PROCESS)
    for loop in (asyncio.BaseEventLoop, EventLoop):
        yield loop, "run_forever", _run_forever(loop)
    for owner, names in _WITH_SIGNALS.items():
        for name in names:
            yield owner, name, _refusing(owner, name, f"{owner.__name__}.{name}()", signals.ADVICE)
    # The processes of multiprocessing begin with it.
    starting = _refusing(_posixsubprocess, "fork_exec", "the start of a process", PROCESS)
    yield _posixsubprocess, "fork_exec", starting
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        for owner, found in ((_thread, name), (threading, f"_{name}")):
            if hasattr(owner, found):
                yield owner, found, _starting(owner, found, network.threads)
    for module, name, call, advice in _IN_C:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            yield kind, "__init__", _refusing(kind, "__init__", call, advice)
    yield time, "clock_gettime", _clock("clock_gettime", time.time, time.monotonic)
    yield time, "clock_gettime_ns", _clock("clock_gettime_ns", time.time_ns, time.monotonic_ns)
    yield select, "select", _select(network)
    yield from sockets.changes(network)
    yield from openings.changes(network)


@contextlib.contextmanager
def patched(choices: Choices, network: Network) -> Iterator[None]:
    """Change the standard library for a world, and change it back."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in _changes(choices, network):
            stack.callback(_restore, owner, name, vars(owner).get(name, _ABSENT))
            setattr(owner, name, value)
        stack.callback(random.setstate, random.getstate())
        # The module's function is a method that was bound before the change.
        stack.callback(setattr, random, "seed", random.seed)
        random.seed = random._inst.seed
        random.seed(int.from_bytes(choices.octets(32), "little"))
        yield


def _restore(owner: Any, name: str, value: Any) -> None:
    if value is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
