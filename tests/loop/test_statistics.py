"""The numbers that loops, drivers and tasks keep at all times, for tools that observe a program."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import pytest

import hoop
from hoop.scheduling.histogram import Histogram


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_statistics_of_a_new_loop(loop):
    found = loop.statistics()
    assert set(found) == {
        "visits", "timer_lag", "idle_ns", "stamp", "born", "tasks", "bytes_in", "bytes_out",
        "accepted", "refused", "driver", "busy",
    }  # fmt: skip
    assert found["tasks"] == {"made": 0, "ended": 0, "failed": 0, "cancelled": 0}
    assert found["visits"].count == found["timer_lag"].count == found["idle_ns"] == 0
    assert 0 <= time.monotonic_ns() - found["born"] < 60e9
    assert set(found["driver"].values()) == {0}


def test_the_bounds_of_a_histogram_rise():
    bounds = Histogram.bounds()
    assert bounds[:6] == [1, 2, 3, 4, 5, 6]
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == 2.0**63
    assert max(b / a for a, b in itertools.pairwise(bounds[4:])) == 1.25


def test_an_empty_histogram():
    empty = Histogram()
    assert (empty.count, empty.total_ns, empty.max_ns, empty.quantile(0.5)) == (0, 0, 0, 0.0)
    assert set(empty.counts()) == {0}
    assert repr(empty) == "<Histogram of 0 times, the longest 0.000000 s>"


def test_what_blocks_the_loop_is_a_long_visit(loop):
    turn(loop)
    before = loop.statistics()["visits"].count
    loop.call_soon(time.sleep, 0.02)
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    visits = loop.statistics()["visits"]
    assert visits.count > before
    assert sum(visits.counts()) == visits.count
    assert visits.max_ns >= 20e6
    assert visits.quantile(1) == visits.max_ns * 1e-9
    assert visits.quantile(0) <= visits.quantile(0.5) <= visits.quantile(1)
    assert visits.total_ns >= visits.max_ns


def test_sleep_is_idle_and_no_visit(loop):
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert 0.04e9 < loop.statistics()["idle_ns"] <= time.monotonic_ns() - loop.statistics()["born"]
    assert (
        loop.statistics()["visits"].max_ns < 0.05e9 or loop.statistics()["visits"].total_ns < 10e9
    )


def test_time_between_two_runs_is_no_visit(loop):
    turn(loop)
    time.sleep(0.05)
    before = loop.statistics()["visits"].total_ns
    turn(loop)
    assert loop.statistics()["visits"].total_ns - before < 50e6


def test_a_busy_loop_notes_the_time(loop):
    """Also on io_uring, where it need not ask the driver."""
    turn(loop)
    began, count = loop.statistics()["stamp"], 0

    def again():
        nonlocal count
        count += 1
        loop.call_soon(again if count < 1000 else loop.stop)

    before = loop.statistics()["visits"].count
    loop.call_soon(again)
    loop.run_forever()
    assert loop.statistics()["stamp"] > began
    assert loop.statistics()["visits"].count - before >= 4 * 1000 // 256


def test_timers_that_are_late(loop):
    loop.call_at(loop.time() - 3, int)
    loop.call_at(loop.time() - 1, int)
    turn(loop)
    lag = loop.statistics()["timer_lag"]
    assert lag.count == 2
    assert 3e9 <= lag.max_ns < 13e9
    assert 3.75 > lag.quantile(1) >= 3 or lag.max_ns >= 3.75e9


@pytest.mark.parametrize("when", [-1e300, float("-inf")])
def test_a_timer_of_long_ago(loop, when):
    """No number of nanoseconds can say how late it is."""
    for _ in range(3):
        loop.call_at(when, int)
    turn(loop)
    assert loop.statistics()["timer_lag"].max_ns == 3600e9
    assert loop.statistics()["timer_lag"].total_ns == 3 * 3600e9


def test_tasks_are_counted_by_how_they_end(loop, run):
    async def main():
        loop = asyncio.get_running_loop()

        async def ends():
            return 1

        async def fails():
            raise ValueError

        made = [loop.create_task(c()) for c in (ends, ends, fails)]
        cancelled = loop.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([*made, cancelled])
        assert made[2].exception()
        tasks = loop.statistics()["tasks"]
        assert tasks == {"made": 5, "ended": 4, "failed": 1, "cancelled": 1}
        serials = [task._serial for task in (*made, cancelled)]
        assert serials == sorted(set(serials))

    run(main())


def test_when_a_task_was_made_and_since_when_it_waits(run):
    async def main():
        loop = asyncio.get_running_loop()
        began = time.monotonic_ns()
        await asyncio.sleep(0.01)  # the loop visits its driver
        gate = loop.create_future()

        async def waits():
            await gate

        task = loop.create_task(waits())
        assert (
            began < task._born == task._since == loop.statistics()["stamp"] <= time.monotonic_ns()
        )
        await asyncio.sleep(0.01)
        waiting_since = task._since
        assert task._born <= waiting_since < loop.statistics()["stamp"]
        await asyncio.sleep(0.01)
        assert task._since == waiting_since  # it waits still
        gate.set_result(None)
        assert task._since == loop.statistics()["stamp"] > waiting_since  # it is ready
        await task

    run(main())


def test_the_driver_counts_what_it_watches(loop, driver):
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, int)
        turn(loop)
        watching = loop.statistics()["driver"]["armed"]
        loop.add_reader(b, int)
        assert loop.statistics()["driver"]["armed"] == watching + 1
        loop.remove_reader(a)
        loop.remove_reader(b)
        turn(loop)
    names = (
        {"armed"} if driver == "epoll" else {"armed", "in_kernel", "ring_full", "buffers_used_up"}
    )
    assert set(loop.statistics()["driver"]) == names


@pytest.mark.parametrize("task_count", [100])
def test_the_numbers_of_a_task_are_new_for_a_new_task(run, task_count):
    """The memory of an ended task serves the next one."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = set()
        for _ in range(task_count):
            task = loop.create_task(asyncio.sleep(0))
            assert task._born == loop.statistics()["stamp"]
            await task
            seen.add(task._serial)
        assert len(seen) == task_count

    run(main())


# ---- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_bytes_of_connections(run, size):
    """Each way in and out: small and large, by protocol and by buffered protocol."""

    class Reads(asyncio.Protocol):
        left = size

        def __init__(self, done):
            self.done = done

        def data_received(self, data):
            self.left -= len(data)
            if not self.left:
                self.done.set_result(None)

    class Buffers(Reads, asyncio.BufferedProtocol):
        buffer = bytearray(1000)

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, n):
            self.data_received(bytes(n))

    async def main():
        loop = asyncio.get_running_loop()
        for kind in (Reads, Buffers):
            a, b = socket.socketpair()
            done = loop.create_future()
            before = loop.statistics()
            writer, _ = await loop.connect_accepted_socket(asyncio.Protocol, a)
            reader, _ = await loop.connect_accepted_socket(lambda: kind(done), b)  # noqa: B023
            born = reader._statistics()["born"]
            writer.write(bytes(size // 2))
            writer.write(bytes(size - size // 2))
            await done
            sent, received = writer._statistics(), reader._statistics()
            assert (sent["bytes_in"], received["bytes_out"]) == (0, 0)
            assert received["bytes_in"] == size
            assert (received["kind"], received["closing"]) == ("unix", False)
            assert received["active"] >= born > 0
            while sent["bytes_out"] < size:  # on io_uring the last completion may come later
                await asyncio.sleep(0)
                sent = writer._statistics()
            assert sent["bytes_out"] == size
            writer.close()
            reader.close()
            after = loop.statistics()
            assert after["bytes_in"] - before["bytes_in"] == size
            assert after["bytes_out"] - before["bytes_out"] == size

    run(main())


def test_bytes_of_datagrams(run):
    class Reads(asyncio.DatagramProtocol):
        def __init__(self, done):
            self.done = done

        def datagram_received(self, data, address):
            if not self.done.done():
                self.done.set_result(None)

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        reader, _ = await loop.create_datagram_endpoint(
            lambda: Reads(done), local_addr=("127.0.0.1", 0)
        )
        at = reader.get_extra_info("sockname")
        writer, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=at)
        writer.sendto(bytes(70))
        await done
        assert reader._statistics()["bytes_in"] == writer._statistics()["bytes_out"] == 70
        assert writer._statistics()["kind"] == "udp"
        assert writer._statistics()["peer"] == at
        writer.close()
        reader.close()
        await asyncio.sleep(0.01)

    run(main())


def test_accepted_and_refused(run, logged):
    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory():
            made.append(1)
            if len(made) == 2:
                raise ValueError("no room")
            return asyncio.Protocol()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        at = server.sockets[0].getsockname()
        for _ in range(3):
            transport, _ = await loop.create_connection(asyncio.Protocol, *at)
            transport.close()
        while len(made) < 3:
            await asyncio.sleep(0.001)
        found = loop.statistics()
        assert (found["accepted"], found["refused"]) == (3, 1)
        server.close()
        await server.wait_closed()

    run(main())
    assert "Error on transport creation" in logged.text


def test_operations_tell_what_they_are(run):
    """While a protocol is called, the loop runs the operation that received."""

    async def main():
        loop = asyncio.get_running_loop()
        found = loop.create_future()

        class Asks(asyncio.Protocol):
            def data_received(self, data):
                found.set_result(loop._current_runnable.about())

        server = await loop.create_server(Asks, "127.0.0.1", 0)
        at = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *at)
        transport.write(b"x")
        kind, fd, peer = await found
        assert (kind, peer) == ("RecvOp", transport.get_extra_info("sockname"))
        assert fd >= 0
        transport.close()
        server.close()
        await server.wait_closed()

    run(main())


# ---- coroutines in C -------------------------------------------------------------------------------


def test_a_coroutine_tells_whose_it_is(run):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        waits = lock.acquire()
        assert waits.owner is lock
        assert waits.awaits is None
        task = asyncio.get_running_loop().create_task(waits)
        await asyncio.sleep(0)
        assert waits.awaits is task._fut_waiter is not None
        lock.release()
        await task
        assert waits.awaits is None

        now = asyncio.get_running_loop().time()
        sleeps = hoop.sleep(50)
        task = asyncio.get_running_loop().create_task(sleeps)
        await asyncio.sleep(0)
        assert now + 50 <= sleeps.owner.when() < now + 60
        task.cancel()
        await asyncio.wait([task])

    run(main())
