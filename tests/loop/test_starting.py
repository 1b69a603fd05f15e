"""A loop takes memory and descriptors when it is made, and gives back all of them when it is closed."""

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import resource
import socket
import sys
import threading

import pytest

import hoop
from hoop.loop import registry, signals
from hoop.sim.event_loop import SimEventLoop


def descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one with which the folder is read
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


def rings() -> int:
    return sum("io_uring" in name for name in descriptors())


async def watch_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(ours, readable.set)
        theirs.send(b"x")
        await readable.wait()
        loop.remove_reader(ours)


def test_a_loop_has_all_its_descriptors_from_its_beginning(new_loop, tmp_path):
    """As on asyncio. A program may count descriptors to find its own leaks."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    loop = new_loop()
    counts = [len(descriptors())]

    async def main():
        counts.append(len(descriptors()))
        await asyncio.sleep(0.001)
        counts.append(len(descriptors()))
        await watch_a_socket()
        assert await hoop.Path(path).read_bytes() == b"x"
        await asyncio.sleep(0.001)
        counts.append(len(descriptors()))

    loop.run_until_complete(main())
    counts.append(len(descriptors()))
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    thread.join()
    assert len(set(counts)) == 1, counts


@pytest.fixture
def scarce():
    """A function that leaves the process so many descriptors, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    null = os.open(os.devnull, os.O_RDONLY)
    taken = [null]

    def leave(n):
        for fd in taken[1:]:
            os.close(fd)
        del taken[1:]
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard)
        )
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(null))
        for _ in range(n):
            os.close(taken.pop())

    yield leave
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_loop_lacks_descriptors_when_it_is_made_or_never(driver, scarce):
    loop = None
    for n in range(8):
        scarce(n)
        refused = None
        try:
            loop = hoop.new_event_loop(driver)
            break
        except OSError as exc:
            refused = exc
        assert refused.errno == errno.EMFILE
        for fd in [os.dup(0) for _ in range(n)]:  # it has given back what it had
            os.close(fd)
    scarce(2)
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.run_until_complete(watch_a_socket())
    assert loop.driver == driver
    loop.close()


def test_a_loop_that_does_not_sleep_makes_no_ring(new_loop):
    loop, before = new_loop(), rings()

    async def busy():
        for _ in range(1000):
            await asyncio.sleep(0)
        return rings()

    assert loop.run_until_complete(busy()) == before
    loop.run_until_complete(asyncio.sleep(0.001))
    assert rings() == before + (loop.driver == "uring")
    loop.close()
    assert rings() == before


def kept() -> dict[str, int]:
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "descriptors": len(descriptors()),
        "loops": len(registry.loops),
        "sockets for signals": len(signals._wakeup_fds),
        "blocks": sys.getallocatedblocks(),
        "KiB": pages * resource.getpagesize() // 1024,
    }


async def nothing() -> None:
    pass


async def a_sleep() -> None:
    await asyncio.sleep(0.0001)


async def a_wake() -> None:
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
    thread.start()
    await woken.wait()
    thread.join()


@pytest.mark.parametrize(
    ("main", "times"), [(nothing, 3000), (a_sleep, 300), (a_wake, 100), (watch_a_socket, 100)]
)
def test_many_loops_leave_nothing(driver, main, times):
    def start(n):
        for _ in range(n):
            hoop.run(main(), loop_factory=lambda: hoop.new_event_loop(driver))

    start(50)
    before = kept()
    start(times)
    after = kept()
    grown = {name: after[name] - before[name] for name in before}
    assert grown["blocks"] < 200, grown
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # asan keeps freed memory
        assert grown["KiB"] < 4096, grown
    assert all(grown[name] == 0 for name in before if name not in ("blocks", "KiB")), grown


def test_loops_that_never_run_leave_nothing(driver):
    def make(n):
        for _ in range(n):
            hoop.new_event_loop(driver).close()

    make(50)
    before = kept()
    make(2000)
    after = kept()
    assert after["descriptors"] == before["descriptors"]
    assert after["blocks"] - before["blocks"] < 200


def interrupted(number, make):
    """Make a loop with an interrupt at this line of all that run. Returns False if there are fewer lines."""
    lines, tracing = itertools.count(), sys.gettrace()

    def trace(frame, event, argument):
        if event == "line" and next(lines) == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        made = make()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    made.close()
    return next(lines) > number  # a finaliser has swallowed it


@pytest.mark.filterwarnings("ignore:unclosed event loop")  # it was made, and nobody has got it
@pytest.mark.parametrize("simulated", [False, True], ids=["real", "simulated"])
def test_an_interrupt_while_a_loop_is_made_leaves_nothing(driver, monkeypatch, simulated):
    def make():
        return SimEventLoop(seed=1) if simulated else hoop.new_event_loop(driver=driver)

    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: complaints.append(args.exc_type))
    make().close()  # what is imported or made once is there
    gc.collect()
    before = sorted(descriptors())
    number = 0
    while interrupted(number, make):
        number += 1
    gc.collect()
    assert number > 30
    assert set(complaints) <= {KeyboardInterrupt}
    assert sorted(descriptors()) == before
