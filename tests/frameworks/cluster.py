"""One member of a dask cluster, run as a program by test_dask.py: `scheduler` or `worker NAME`.

A scheduler prints its address, and a worker reads it: so all of them can start at the same time.

Its event loop is hoop's, because hoop.run() runs it. With HOOP_TEST_CERT and HOOP_TEST_KEY it speaks TLS.
The functions that the workers compute in the tests stand here too, so that they can import them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import distributed

import hoop


def security(cert: str | None, key: str | None) -> distributed.Security:
    """TLS for every role, if there is a certificate."""
    if not cert:
        return distributed.Security(require_encryption=False)
    roles = {
        f"tls_{role}_{what}": path
        for role in ("scheduler", "worker", "client")
        for what, path in (("cert", cert), ("key", key))
    }
    return distributed.Security(require_encryption=True, tls_ca_file=cert, **roles)


async def serve(role: str, *args: str) -> None:
    """Be a scheduler, or a worker of two threads, until told to end."""
    secure = security(os.environ.get("HOOP_TEST_CERT"), os.environ.get("HOOP_TEST_KEY"))
    options: dict[str, Any] = {"security": secure, "dashboard": False, "host": "127.0.0.1"}
    if role == "scheduler":
        protocol = "tls://" if secure.require_encryption else "tcp://"
        member = distributed.Scheduler(port=0, protocol=protocol, **options)
    else:
        address = sys.stdin.readline().strip()
        options |= {"name": args[0], "nthreads": 2, "local_directory": os.getcwd()}
        member = distributed.Worker(address, **options)
    async with member:
        print(member.address, flush=True)
        await member.finished()


# ---- what is computed ------------------------------------------------------------------------------


def loop_here() -> tuple[str, int]:
    """The loop that runs in this thread, as its kind and driver; and the process."""
    loop = asyncio.get_running_loop()
    kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
    return f"{kind} on {getattr(loop, 'driver', None)}", os.getpid()


async def loop_of_worker() -> tuple[str, int]:
    """The same, from a task that the worker runs in its loop."""
    await asyncio.sleep(0)
    return loop_here()


def count_primes(start: int, stop: int) -> int:
    """How many primes there are in a range."""
    return sum(n > 1 and all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(start, stop))


def make_blob(n: int) -> bytes:
    """Some megabytes."""
    return bytes(range(256)) * (4096 * n)


def weigh(*blobs: bytes) -> int:
    """The length of all blobs, which must be whole."""
    assert all(blob == bytes(range(256)) * (len(blob) // 256) for blob in blobs)
    return sum(map(len, blobs))


async def play(mine: str, other: str, rounds: int) -> list[int]:
    """Take a number from one queue and put the next into another, so many times."""
    taking, giving = await distributed.Queue(mine), await distributed.Queue(other)
    found = []
    for _ in range(rounds):
        found.append(await taking.get())
        await giving.put(found[-1] + 1)
    return found


if __name__ == "__main__":
    hoop.run(serve(*sys.argv[1:]))
