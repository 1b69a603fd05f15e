"""Waits for hosts and conditions, and what hosts and worlds refuse."""

from __future__ import annotations

import asyncio
import signal

import pytest

import hoop.sim


def test_until_a_condition_holds():
    async def program(log):
        for n in range(10):
            await asyncio.sleep(1)
            log.append(n)

    async def main(world):
        log = []
        world.host("db", lambda: program(log))
        await world.until(lambda: len(log) == 4, within=10)
        assert (len(log), int(hoop.sim.now())) == (4, 4)
        await world.until(lambda: log, within=1)
        with pytest.raises(TimeoutError, match=r"line \d+ did not hold within 3 s"):
            await world.until(lambda: len(log) == 9, within=3)
        with pytest.raises(ZeroDivisionError):
            await world.until(lambda: 1 / (len(log) - 8) > 0, within=3)
        with pytest.raises(ValueError, match="within"):
            await world.until(lambda: True, within=-1)

    hoop.sim.run(main)


def test_programs_of_other_hosts_wait_for_conditions_and_hosts():
    async def slow(log):
        await asyncio.sleep(5)
        log.append(1)
        return 7

    async def main(world):
        log = []
        host = world.host("slow", lambda: slow(log))

        async def wait():
            await world.until(lambda: log, within=60)
            return await host

        async def crash():
            return await host

        others = [world.host(f"h{n}", wait) for n in range(2)]
        crashed = world.host("crashed", crash)
        await asyncio.sleep(1)
        crashed.crash(silent=False)
        assert await asyncio.gather(host, *others) == [7, 7, 7]

    hoop.sim.explore(main, seeds=4)


def test_an_exception_ends_the_run_if_who_waited_for_the_host_has_given_up():
    async def fail():
        await asyncio.sleep(10)
        raise ZeroDivisionError

    async def main(world):
        host = world.host("db", fail)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(host, 1)
        await asyncio.sleep(60)

    with pytest.raises(ZeroDivisionError) as caught:
        hoop.sim.run(main)
    assert caught.value.__notes__ == ["in the program of the host db"]


def test_a_program_that_cannot_begin_leaves_its_name():
    async def program():
        return 1

    async def main(world):
        with pytest.raises(TypeError, match="coroutine function"):
            world.host("db", lambda: 3)
        with pytest.raises(ZeroDivisionError):
            world.host("db", lambda: 1 / 0)
        for name in ("1", "10.1", "10.0.0.1"):
            with pytest.raises(ValueError, match="an address"):
                world.host(name, program)
        with pytest.raises(hoop.sim.SimError, match="needs a host"):
            await world.until(lambda: False, within=1)
        assert await world.run("db", program) == 1

    hoop.sim.run(main)


def test_groups_may_be_iterators_and_one_host_may_be_healed():
    async def main(world):
        hosts = [world.host(name, lambda: asyncio.sleep(100)) for name in ("a", "b", "c", "d")]
        world.partition(iter(hosts[:2]), iter(hosts[2:]))
        cut = world.network.roads.between
        assert len(cut) == 8
        world.heal(hosts[0])
        assert sum(road.cut for road in cut.values()) == 4
        world.heal("b", iter(hosts))
        assert not any(road.cut for road in cut.values())
        for host in hosts:
            host.crash()

    hoop.sim.run(main)


def test_signals_that_stop_and_continue_a_program():
    async def program(log):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGKILL, signal.SIGSTOP):
            with pytest.raises(RuntimeError, match="cannot be caught"):
                loop.add_signal_handler(number, print)
        with pytest.raises(ValueError, match="signal"):
            loop.add_signal_handler(9999, print)
        with pytest.raises(TypeError, match="coroutine"):
            loop.add_signal_handler(signal.SIGTERM, program)
        while True:
            await asyncio.sleep(1)
            log.append(int(hoop.sim.now()))

    async def main(world):
        log = []
        host = world.host("db", lambda: program(log))
        await asyncio.sleep(2.5)
        host.signal(signal.SIGSTOP)
        assert host.state == "paused"
        await asyncio.sleep(5)
        host.signal(signal.SIGCONT)
        await asyncio.sleep(1)
        assert log == [1, 2, 7, 8]
        host.signal(signal.SIGKILL)
        assert host.state == "crashed"

    hoop.sim.run(main)
