"""One contestant in a process of its own: a loop, and a server or a piece of work on it.

Usage: worker.py check LOOP                     prints the loop's version, if it works here
       worker.py serve LOOP SERVER PARAMETERS   prints where it listens, then serves until killed
       worker.py work LOOP WORK PARAMETERS      prints `ready`; for each line with a number of seconds
                                                does the work for about so long and prints JSON
       worker.py count LOOP WORK PARAMETERS     does the work once, for a program that counts instructions

A LOOP is a name from loops.py, or `none` for a server that needs no loop. SERVER and WORK are
`module:function` in workloads. PARAMETERS are a JSON object for it. A worker ends with its parent. If a
loop or a package is missing it exits with status 3 and a line on standard error.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import inspect
import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from loops import loop_factory, loop_version
from workloads import Unavailable, find

PR_SET_PDEATHSIG = 1
BACKLOG = 4096
UNAVAILABLE = 3
FIRST_TRY_S = 0.005  # A try that takes less says too little about how much can be done in a second.


def check(loop_name: str) -> None:
    """Prove that the loop turns."""
    loop = loop_factory(loop_name)()
    driver = loop_name.partition("-")[2].partition("-")[0]
    if driver != getattr(loop, "driver", driver):
        raise Unavailable(f"{driver} does not work here")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    print(loop_version(loop_name), flush=True)


# ---- servers ----


def open_socket(address: str) -> socket.socket:
    """Return a socket that listens on a TCP port of loopback ("0") or a path, or is bound ("udp")."""
    if address == "udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock
    if address == "0":
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
    sock.listen(BACKLOG)
    return sock


def serve(loop_name: str, server: Callable[..., Any], address: str, **parameters: Any) -> None:
    sock = open_socket(address)
    name = sock.getsockname()
    announcement = name if isinstance(name, str) else name[1]
    if loop_name == "none":
        print(announcement, flush=True)
        server(sock, **parameters)
        return

    async def main() -> None:
        serving = await server(sock, **parameters)
        print(announcement, flush=True)
        await asyncio.get_running_loop().create_future()
        del serving

    loop_factory(loop_name)().run_until_complete(main())


# ---- work ----


class Work:
    """A piece of work on new loops, and how many operations it does in a second."""

    def __init__(
        self,
        loop_name: str,
        function: Callable[..., Any],
        *,
        step: int = 1,
        once: int = 0,
        **parameters: Any,
    ) -> None:
        self._factory = loop_factory(loop_name)
        self._function = function
        self._step = step  # The number of operations is a multiple of this.
        self._once = once  # And so many at a time always, if it is not 0.
        self._parameters = parameters
        self._per_second = 0.0

    def run(self, operations: int) -> dict[str, float]:
        """Do so many operations on a new loop; return what they took, and what the work reports."""

        async def timed() -> dict[str, float]:
            async with AsyncExitStack() as stack:
                work = self._function
                if not inspect.iscoroutinefunction(work):
                    work = await stack.enter_async_context(work(**self._parameters))
                wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
                reported = await work(operations)
                cpu_ns = time.process_time_ns() - cpu_ns
                wall_ns = time.perf_counter_ns() - wall_ns
                taken = {"wall_s": wall_ns / 1e9, "cpu_s": cpu_ns / 1e9}
                return {"operations": operations, **taken, **(reported or {})}

        gc.collect()
        loop = self._factory()
        try:
            return loop.run_until_complete(timed())
        finally:
            loop.close()

    def measure(self, seconds: float) -> dict[str, float]:
        """Do as many operations as take about so long. The first time it has to find out how many."""
        if self._once:
            return self.run(self._once)
        operations = self._step
        while not self._per_second:
            tried = self.run(operations)
            if tried["wall_s"] >= min(FIRST_TRY_S, seconds):
                self._per_second = operations / tried["wall_s"]
            operations *= 4
        steps = max(1, round(self._per_second * seconds / self._step))
        measured = self.run(steps * self._step)
        self._per_second = measured["operations"] / measured["wall_s"]
        return measured


def work(loop_name: str, function: Callable[..., Any], **parameters: Any) -> None:
    measurable = Work(loop_name, function, **parameters)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measurable.measure(float(line))), flush=True)


def count(loop_name: str, function: Callable[..., Any], operations: int, **parameters: Any) -> None:
    Work(loop_name, function, **parameters).run(operations)


COMMANDS: dict[str, Callable[..., None]] = {"serve": serve, "work": work, "count": count}


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    command, loop_name, *rest = sys.argv[1:]
    try:
        if command == "check":
            check(loop_name)
        else:
            name, parameters = rest
            COMMANDS[command](loop_name, find(name), **json.loads(parameters))
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        sys.exit(UNAVAILABLE)


if __name__ == "__main__":
    main()
