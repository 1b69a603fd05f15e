"""The counts of the loop and its tasks, for tools that watch them."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest

import hoop
from hoop.insight import sites


def turn(loop) -> None:
    """Let the loop take one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


class YieldsNone:
    """Awaits a number of bare yields."""

    def __init__(self, n):
        self.n = n

    def __await__(self):
        for _ in range(self.n):
            yield


async def steps(n):
    """Take n + 1 steps."""
    await YieldsNone(n)


def test_counters_of_a_new_loop(loop):
    counters = loop.counters()
    assert set(counters) == {
        "turns", "callbacks", "ready", "ready_max", "sleeps", "wakes", "spins", "spins_in_vain", "lag_max",
        "timers", "transports",
    }  # fmt: skip
    assert set(counters.values()) == {0}


def test_turns(loop):
    before = loop.counters()["turns"]
    for _ in range(5):
        turn(loop)
    assert loop.counters()["turns"] - before == 5


def test_callbacks_and_queue(loop):
    turn(loop)
    before = loop.counters()["callbacks"]
    for _ in range(10):
        loop.call_soon(int)
    assert loop.counters()["ready"] == 10
    turn(loop)
    counters = loop.counters()
    assert (counters["callbacks"] - before, counters["ready"], counters["ready_max"]) == (11, 0, 11)


def test_timers(loop):
    handles = [loop.call_later(100, int) for _ in range(3)]
    assert loop.counters()["timers"] == 3
    for handle in reversed(handles):
        handle.cancel()
    assert loop.counters()["timers"] == 0


def test_lag_is_that_of_the_latest_timer(loop):
    loop.call_at(loop.time() - 3, int)
    loop.call_at(loop.time() - 1, int)
    turn(loop)
    assert 3 <= loop.counters()["lag_max"] < 13


def test_sleeps(loop):
    before = loop.counters()["sleeps"]
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert loop.counters()["sleeps"] > before


def test_no_sleep_while_something_is_ready(loop):
    before = loop.counters()["sleeps"]
    for _ in range(20):
        turn(loop)
    assert loop.counters()["sleeps"] == before


def test_sleeps_once_for_a_distant_timer(loop):
    loop.call_later(0.05, loop.stop)
    before = loop.counters()["sleeps"]
    loop.run_forever()
    # A busy machine may wake the process without reason, but only a few times.
    assert loop.counters()["sleeps"] - before < 10, loop.counters()


@pytest.mark.parametrize("n", [0, 1, 7])
def test_polls_counts_the_steps_of_a_task(loop, n):
    task = loop.create_task(steps(n))
    assert task._polls == 0
    loop.run_until_complete(task)
    assert task._polls == n + 1


def test_polls_counts_an_eager_first_step(run):
    async def main():
        task = hoop.Task(steps(2), loop=asyncio.get_running_loop(), eager_start=True)
        assert task._polls == 1
        await task
        assert task._polls == 3

    run(main())


def test_polls_counts_steps_after_asyncios_futures(loop):
    async def main():
        for _ in range(3):
            future = asyncio.Future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            await future

    task = loop.create_task(main())
    loop.run_until_complete(task)
    assert task._polls == 4


def test_polls_counts_steps_on_asyncios_loop():
    stock = asyncio.new_event_loop()
    task = hoop.Task(steps(2), loop=stock)
    stock.run_until_complete(task)
    stock.close()
    assert task._polls == 3


def test_measuring_is_off_at_first(loop):
    assert loop.get_measuring() is False


def test_busy_ns_is_kept_while_measuring(loop):
    async def busy(ns):
        end = time.perf_counter_ns() + ns
        while time.perf_counter_ns() < end:
            pass
        await asyncio.sleep(0.002)

    loop.set_measuring(True)
    task = loop.create_task(busy(3_000_000))
    loop.run_until_complete(task)
    assert 3_000_000 <= task._busy_ns < 1_000_000_000


def test_waiting_is_not_busy(loop):
    loop.set_measuring(True)
    task = loop.create_task(asyncio.sleep(0.05))
    loop.run_until_complete(task)
    assert 0 < task._busy_ns < 50_000_000


def test_busy_ns_is_zero_without_measuring(loop):
    task = loop.create_task(steps(3))
    loop.run_until_complete(task)
    assert task._busy_ns == 0


def test_busy_ns_of_an_eager_first_step(loop):
    async def main():
        return hoop.Task(steps(0), loop=asyncio.get_running_loop(), eager_start=True)

    loop.set_measuring(True)
    assert loop.run_until_complete(main())._busy_ns > 0


def test_created_at_is_the_callers_line(loop):
    loop.set_measuring(True)

    async def main():
        return [asyncio.create_task(steps(0)), asyncio.ensure_future(steps(0))]

    line = main.__code__.co_firstlineno + 1
    tasks = loop.run_until_complete(main())
    assert [task._created_at for task in tasks] == [(__file__, line)] * 2
    direct = loop.create_task(steps(0))
    assert direct._created_at == (
        __file__,
        test_created_at_is_the_callers_line.__code__.co_firstlineno + 9,
    )
    loop.run_until_complete(asyncio.wait([direct, *tasks]))


def test_created_at_of_a_member_of_a_group(loop):
    loop.set_measuring(True)

    async def main():
        async with asyncio.TaskGroup() as group:
            return group.create_task(steps(0))

    task = loop.run_until_complete(main())
    assert task._created_at == (__file__, main.__code__.co_firstlineno + 2)


def test_created_at_is_none_without_measuring(loop):
    task = loop.create_task(steps(0))
    assert task._created_at is None
    loop.run_until_complete(task)


def test_measuring_can_be_turned_on_and_off_while_running(loop):
    async def main():
        here = asyncio.get_running_loop()
        task = asyncio.create_task(steps(50))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task._busy_ns == 0
        here.set_measuring(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        here.set_measuring(False)
        measured = task._busy_ns
        assert measured > 0
        await task
        assert task._busy_ns == measured

    loop.run_until_complete(main())


def test_current_runnable(loop):
    seen = []
    assert loop._current_runnable is None
    handle = loop.call_soon(lambda: seen.append(loop._current_runnable))

    async def main():
        seen.append(loop._current_runnable)

    task = loop.create_task(main())
    turn(loop)
    assert seen[0] is handle
    assert seen[1] is task
    assert loop._current_runnable is None


def public(o):
    return {name for name in dir(o) if not name.startswith("_")}


def test_a_program_can_use_every_name_for_an_attribute_of_its_own(loop):
    """Names that asyncio's objects do not have are free there, also those that hoop's have."""
    stock = asyncio.new_event_loop()
    done = stock.create_future(), stock.create_task(asyncio.sleep(0))
    stock.run_until_complete(done[1])
    stock.close()
    ours = loop.create_future(), loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(ours[1])
    for mine, asyncios in zip((*ours, loop), (*done, stock)):
        names = "polls busy_ns created_at born turns callbacks ready_max lag_max measuring driver"
        own = {*names.split(), "current_runnable"} | (public(mine) - public(asyncios))
        for name in own:
            value = object()
            setattr(mine, name, value)
            assert getattr(mine, name) is value
            delattr(mine, name)
    assert f"driver={loop.driver} " in repr(loop)


def test_failures_are_counted_as_callbacks(loop, logged):
    turn(loop)
    before = loop.counters()["callbacks"]
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(int)
    turn(loop)
    assert loop.counters()["callbacks"] - before == 3


def test_time_on_the_ring_and_time_waited_for(loop):
    """A task that is woken at once, while another keeps the loop busy, was ready for that time."""

    async def sleeper():
        await asyncio.sleep(0.03)
        await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(sleeper())
        await asyncio.sleep(0.01)
        assert task._busy_ns > 0
        waited = asyncio.create_task(asyncio.sleep(0.01))
        await asyncio.sleep(0)  # it begins to wait
        end = time.monotonic() + 0.04
        while time.monotonic() < end:
            pass
        await task
        await waited
        return task

    loop.set_measuring(True)
    task = loop.run_until_complete(main())
    assert 20_000_000 <= task._waited_ns + task._scheduled_ns < 2_000_000_000
    assert task._waited_ns >= 20_000_000


def test_a_ready_task_is_scheduled_and_does_not_wait(loop):
    async def ready():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(ready())
        await asyncio.sleep(0)
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        await task
        return task

    loop.set_measuring(True)
    task = loop.run_until_complete(main())
    assert task._scheduled_ns >= 19_000_000
    assert task._waited_ns < 5_000_000


def test_times_are_not_counted_over_a_pause_of_measuring(loop):
    async def steady():
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        for _ in range(3):
            await asyncio.sleep(0)

    async def main():
        here = asyncio.get_running_loop()
        task = asyncio.create_task(steady())
        here.set_measuring(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        here.set_measuring(False)
        await asyncio.sleep(0.1)
        here.set_measuring(True)
        await task
        return task

    task = loop.run_until_complete(main())
    assert task._waited_ns < 50_000_000


def test_several_may_measure_at_once(loop):
    assert not loop.get_measuring()
    loop._measure(True)
    loop._measure(True)
    loop.set_measuring(True)
    loop.set_measuring(False)
    loop._measure(False)
    assert loop.get_measuring()
    loop._measure(False)
    loop._measure(False)
    assert not loop.get_measuring()


def test_what_is_no_task_is_busy_by_class(loop):
    async def main():
        here = asyncio.get_running_loop()
        here.call_soon(time.sleep, 0.001)
        here.call_later(0, time.sleep, 0.001)
        await asyncio.sleep(0.01)

    loop.set_measuring(True)
    loop.run_until_complete(main())
    busy = {kind.__name__: ns for kind, ns in loop.statistics()["busy"].items()}
    assert busy["Handle"] >= 1_000_000
    assert busy["TimerHandle"] >= 1_000_000


# ---- places that make tasks --------------------------------------------------------------------------


@pytest.fixture
def recording():
    sites.record(True)
    yield
    sites.record(False)


def made_and_ended(line):
    """The counts of a line of this file. One call in it may have two offsets, as Python adapts its code."""
    found = [site for site in sites.counts() if site[2:4] == (__file__, line)]
    return sum(site[4] for site in found), sum(site[5] for site in found)


def test_a_site_is_noted_by_all_ways_to_make_a_task(loop, recording):
    async def main():
        here = asyncio.get_running_loop()
        made = []
        made.append(asyncio.create_task(steps(0)))
        made.append(hoop.create_task(steps(0)))
        made.append(here.create_task(steps(0)))
        made.append(asyncio.ensure_future(steps(0)))
        made.append(hoop.Task(steps(0), loop=here))
        async with asyncio.TaskGroup() as group:
            made.append(group.create_task(steps(0)))
        await asyncio.gather(*made)
        return made

    first = main.__code__.co_firstlineno + 3
    made = loop.run_until_complete(main())
    assert [task._created_at for task in made] == [
        (__file__, first + i + (i == 5)) for i in range(6)
    ]


def test_sites_count_what_they_made_and_what_ended(loop, recording):
    async def main():
        tasks = []
        before = made_and_ended(main.__code__.co_firstlineno + 4)
        for _ in range(5):
            tasks.append(hoop.create_task(asyncio.sleep(100)))
        await asyncio.sleep(0)
        tasks.pop().cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen = made_and_ended(main.__code__.co_firstlineno + 4)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return before, seen, made_and_ended(main.__code__.co_firstlineno + 4)

    (made, ended), waiting, over = loop.run_until_complete(main())
    assert waiting == (made + 5, ended + 1)
    assert over == (made + 5, ended + 5)


def test_a_dropped_task_has_ended(loop, recording):
    async def main():
        hoop.create_task(asyncio.sleep(100))._log_destroy_pending = False
        await asyncio.sleep(0)

    line = main.__code__.co_firstlineno + 1
    made, ended = made_and_ended(line)
    loop.run_until_complete(main())
    assert made_and_ended(line) == (made + 1, ended)
    loop._let_go_of_tasks()
    assert made_and_ended(line) == (made + 1, ended + 1)


def test_a_site_in_code_that_nothing_else_keeps(loop, recording):
    """The code of exec() is freed, and its memory used again: a site keeps its own."""

    async def main():
        lines = []
        for n in range(1, 50):
            names = {"hoop": hoop, "steps": steps}
            exec("\n" * n + "task = hoop.create_task(steps(0))", names)
            lines.append(names["task"]._created_at)
            await names["task"]
        return lines

    assert loop.run_until_complete(main()) == [("<string>", n + 1) for n in range(1, 50)]


MANY = 700  # places; more than are found at once


@functools.cache
def code_of_many_places():
    makes = "\n".join(
        f" made.append({'hoop' if n % 2 else 'asyncio'}.create_task(steps(0)))" for n in range(MANY)
    )
    return compile(f"def make(made):\n{makes}", "<many>", "exec")


def test_of_many_places_each_is_told_each_time(loop, recording):
    names = {"hoop": hoop, "asyncio": asyncio, "steps": steps}
    exec(code_of_many_places(), names)

    async def main():
        for _ in range(3):
            made = []
            names["make"](made)
            assert [task._created_at for task in made] == [("<many>", n + 2) for n in range(MANY)]
            await asyncio.gather(*made)

    loop.run_until_complete(main())


def test_a_site_of_a_task_made_by_a_generator_and_by_a_class(loop, recording):
    class Maker:
        def __init__(self):
            self.task = hoop.create_task(steps(0))

    async def main():
        def generate():
            yield hoop.create_task(steps(0))

        made = [*generate(), Maker().task]
        await asyncio.gather(*made)
        return made

    made = loop.run_until_complete(main())
    assert [task._created_at[1] for task in made] == [
        main.__code__.co_firstlineno + 2,
        Maker.__init__.__code__.co_firstlineno + 1,
    ]


def test_no_site_is_noted_otherwise(loop):
    task = loop.create_task(steps(0))
    assert task._site == 0
    loop.run_until_complete(task)
