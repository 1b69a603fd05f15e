"""A program that cannot go on ends with an exception that shows what each task waits for."""

from __future__ import annotations

import asyncio
import gc
import socket
import time

import pytest

import hoop
import hoop.sim


async def two_locks(lock_class):
    left, right = lock_class(), lock_class()

    async def take(first, second):
        async with first:
            await asyncio.sleep(1)
            async with second:
                pass

    async with asyncio.TaskGroup() as group:
        group.create_task(take(left, right), name="left")
        group.create_task(take(right, left), name="right")


def test_a_deadlock_shows_the_cycle_and_the_holders():
    with pytest.raises(hoop.sim.Deadlock) as caught:
        hoop.sim.run(lambda: two_locks(hoop.Lock))
    heading, cycle, *lines = str(caught.value).splitlines()
    assert heading == "at 1.000 s: nothing is ready, and no timer is set; 3 unfinished tasks"
    assert cycle in ("a cycle: left -> right -> left", "a cycle: right -> left -> right")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert rows["left"][1] == "Lock.__aenter__, held by right"
    assert rows["right"][1] == "Lock.__aenter__, held by left"
    assert set(rows["Task-1"][1].removeprefix("awaits ").split(", ")) == {"left", "right"}
    assert all(place.startswith("test_stuck.py:") for place, _ in rows.values())


def test_a_deadlock_of_asyncio_s_locks_shows_where_the_tasks_are():
    with pytest.raises(hoop.sim.Deadlock, match=r"left .* test_stuck.py:\d+ .*held"):
        hoop.sim.run(lambda: two_locks(asyncio.Lock))


@pytest.mark.parametrize("wait", [hoop.Event, asyncio.Event])
def test_waiting_for_what_nobody_does_is_a_deadlock(wait):
    async def main():
        await wait().wait()

    with pytest.raises(hoop.sim.Deadlock, match="not set"):
        hoop.sim.run(main)


def test_a_future_that_nobody_sets_is_a_deadlock():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(hoop.sim.Deadlock, match="a future that nobody known will set"):
        hoop.sim.run(main)


def test_finally_blocks_run_after_a_deadlock():
    ended = []

    async def main():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(hoop.sim.now())

    with pytest.raises(hoop.sim.Deadlock):
        hoop.sim.run(main)
    assert ended == [pytest.approx(1)]


def test_a_task_that_cannot_end_is_no_reason_to_hang(logged):
    async def main():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    with pytest.raises(hoop.sim.Deadlock):
        hoop.sim.run(main)
    gc.collect()
    assert "was destroyed but it is pending" in logged.text


def test_a_loop_in_which_time_stands_still_is_a_livelock():
    async def main():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(
        hoop.sim.Livelock, match=r"at 0.000 s: 100,000 turns, and time did not move"
    ):
        hoop.sim.run(main)
    moved = r"at 0.[1-9]\d+ s: 100,000 turns of 1 to 3 µs, and the loop never waited"
    with pytest.raises(hoop.sim.Livelock, match=moved):
        hoop.sim.run(main, step_us=(1, 3))


def test_a_loop_that_waits_for_the_clock_needs_turns_that_take_time():
    async def main():
        until = time.monotonic() + 1
        while time.monotonic() < until:
            await asyncio.sleep(0)

    with pytest.raises(hoop.sim.Livelock, match=r"with step_us=\(1, 50\) each turn takes some"):
        hoop.sim.run(main)
    hoop.sim.run(main, step_us=(500, 500))


def test_a_program_may_take_only_so_much_time():
    async def main():
        while True:
            await asyncio.sleep(1)

    with pytest.raises(hoop.sim.TimeLimit, match=r"(?s)at 60\.\d+ s.*sleep, \d\.\d s left"):
        hoop.sim.run(main, limit=60)
    with pytest.raises(hoop.sim.TimeLimit, match=r"at 3600\.\d+ s"):
        hoop.sim.run(main)


def test_a_sleep_of_days_is_one_step():
    async def main():
        await asyncio.sleep(1000 * 86400)

    hoop.sim.run(main, limit=1e9)


def test_many_tasks_are_cut_to_a_readable_list():
    async def main():
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(200)))

    with pytest.raises(hoop.sim.Deadlock, match="and 151 more"):
        hoop.sim.run(main)


@pytest.mark.parametrize("order", ["single", "pct"])
def test_no_task_starves(order):
    """A task that queues itself again and again waits for a callback of another task."""

    async def main():
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        async def other():
            await asyncio.sleep(0)
            loop.call_soon(done.set)

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(other())
            while not done.is_set():
                await asyncio.sleep(0)

    hoop.sim.explore(main, seeds=50, order=order)


def test_debug_mode_has_the_same_order():
    async def main(debug):
        asyncio.get_running_loop().set_debug(debug)
        found = []

        async def note(i):
            await asyncio.sleep(1)
            found.append(i)

        await asyncio.gather(*(note(i) for i in range(10)))
        return found

    for seed in range(5):
        plain = hoop.sim.run(lambda: main(False), seed=seed)
        assert plain == hoop.sim.run(lambda: main(True), seed=seed)
        assert plain != sorted(plain)


def test_callbacks_keep_their_order():
    async def main():
        loop = asyncio.get_running_loop()
        found = []
        for i in range(20):
            loop.call_soon(found.append, i)
            asyncio.ensure_future(asyncio.sleep(0))
        await asyncio.sleep(1)
        assert found == list(range(20))

    for order in ("fifo", "wakes", "starts", "single", "pct"):
        hoop.sim.explore(main, seeds=20, order=order)


# ---- descriptors that stay ready -------------------------------------------------------------------


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@pytest.mark.parametrize("order", ["wakes", "single"])
def test_time_passes_while_descriptors_stay_ready(pair, order):
    left, right = pair
    right.send(b"nobody reads this")

    async def main():
        loop = asyncio.get_running_loop()
        turns = []
        loop.add_writer(right, turns.append, 1)
        loop.add_reader(left, turns.append, 1)
        await asyncio.sleep(0.05)
        await asyncio.sleep(1000)
        assert 1000.05 <= hoop.sim.now() < 1000.06
        loop.remove_writer(right)
        loop.remove_reader(left)
        assert 100 < len(turns) < 1000

    hoop.sim.run(main, order=order)


def test_a_connection_that_nobody_reads_keeps_no_time_from_passing():
    async def main():
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        async def serve(reader, writer):
            writer.write(b"text")
            await reader.read()
            writer.close()
            ended.set_result(None)

        server = await asyncio.start_server(serve, "10.0.0.1", 80)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("10.0.0.1", 80))
            loop.add_reader(sock, int)
            await asyncio.sleep(50)
            loop.remove_reader(sock)
            sock.recv(100)
        await ended
        server.close()

    hoop.sim.explore(main, seeds=4, order="mix")


def test_a_callback_that_reads_byte_by_byte_takes_no_time(pair):
    left, right = pair
    right.send(bytes(500))
    began = []

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def read():
            began.append(hoop.sim.now())
            left.recv(1)
            if len(began) == 500:
                loop.remove_reader(left)
                done.set_result(None)

        loop.add_reader(left, read)
        await asyncio.wait_for(done, 10)

    hoop.sim.run(main)
    assert began == [0.0] * 500


def test_a_descriptor_that_stays_ready_without_a_deadline_is_a_livelock(pair):
    async def main():
        asyncio.get_running_loop().add_writer(pair[0], int)
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().remove_writer(pair[0])

    with pytest.raises(hoop.sim.Livelock, match="100,000 turns"):
        hoop.sim.run(main)
