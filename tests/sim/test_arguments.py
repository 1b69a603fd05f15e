"""Wrong arguments of the functions of hoop.sim: the call itself says what is wrong."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

import hoop.sim


async def main():
    pass


ERROR = OSError(errno.EIO, "I/O error")
SIM = hoop.sim


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: SIM.run(main, names=5), TypeError, "names must have addresses"),
        (lambda: SIM.run(main, names=[]), TypeError, "names must have addresses"),
        (lambda: SIM.run(main, depth=True), ValueError, "depth must be"),
        (lambda: SIM.run(main, step_us=(False, True)), ValueError, "step_us must be"),
        (lambda: SIM.run(main, limit=float("nan")), ValueError, "limit must be"),
        (lambda: SIM.run(main, trace=5), TypeError, "trace must be"),
        (lambda: SIM.explore(main, trace=[]), TypeError, "trace must be"),
        (lambda: SIM.explore(main, shrink_seconds="1"), TypeError, "shrink_seconds must be"),
        (lambda: SIM.explore(main, shrink_seconds=-1), ValueError, "shrink_seconds must be"),
        (lambda: SIM.explore(main, seeds=1.5), TypeError, "seeds must be"),
        (lambda: SIM.explore(main, seeds=range(0)), ValueError, "at least one"),
        (lambda: SIM.explore(main, workers=0), ValueError, "workers must be"),
        (lambda: SIM.SimEventLoop("1"), TypeError, "seed must be"),
        (lambda: SIM.SimEventLoop(limit=0), ValueError, "limit must be"),
        (lambda: SIM.Faults(reset="1"), TypeError, "reset must be"),
        (lambda: SIM.Disk(capacity=-1), ValueError, "capacity must be"),
        (lambda: SIM.Disk().write("/a", 5), TypeError, "data must be"),
        (lambda: SIM.Disk().write("/a", "text"), TypeError, "data must be"),
        (lambda: SIM.Disk().fail("read", ERROR, times=-1), ValueError, "times must be"),
        (lambda: SIM.sometimes(True, 5), TypeError, "message must be"),
        (lambda: SIM.fault(5), TypeError, "name must be"),
        (lambda: SIM.fault("a", "often"), TypeError, "share must be"),
        (lambda: SIM.fault("a", 2), ValueError, "share must be"),
    ],
)
def test_the_call_says_what_is_wrong(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda world: world.host("db", main), ValueError, "there is a host 'db'"),
        (lambda world: world.host("DB", main), ValueError, "there is a host 'DB'"),
        (lambda world: world.host("localhost", main), ValueError, "there is a host"),
        (lambda world: world.host("other", main, disk="/data"), TypeError, "disk must be"),
        (lambda world: world.host("other", main, ipv6="yes"), TypeError, "ipv6 must be"),
        (lambda world: world.partition("db", "db"), ValueError, "no way from a host to itself"),
        (lambda world: world.link(["db"], "db"), ValueError, "no way from a host to itself"),
        (lambda world: world.partition("db", "none"), ValueError, "no host of this world"),
        (lambda world: world.find("db").signal(1000), ValueError, "1000"),
    ],
)
def test_the_call_of_a_world_says_what_is_wrong(call, error, text):
    async def in_world(world):
        world.host("db", asyncio.Event().wait)
        with pytest.raises(error, match=text):
            call(world)

    hoop.sim.run(in_world)


@pytest.mark.parametrize("condition", [main, 5])
def test_a_condition_is_a_function(condition):
    async def in_world(world):
        world.host("db", asyncio.Event().wait)
        with pytest.raises(TypeError, match="condition must be a function"):
            await world.until(condition, within=1)

    hoop.sim.run(in_world)


def test_very_many_seeds_take_no_memory():
    found = []

    async def count():
        found.append(1)
        if len(found) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hoop.sim.explore(count, seeds=10**15)


def test_duplicates_of_many_sockets_keep_their_addresses():
    async def bind():
        copies = []
        for _ in range(300):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.bind(("10.0.0.1", 0))
                copies.append((sock.getsockname(), sock.dup()))
        for name, copy in copies:
            with copy:
                assert copy.getsockname() == name

    hoop.sim.run(bind)
