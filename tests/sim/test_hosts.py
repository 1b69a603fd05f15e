"""Worlds with several hosts: their programs crash, stand still, and lose sight of each other."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import time

import pytest

import hoop
import hoop.sim


async def count(name="db", port=80):
    """A server that answers each line with the number of lines that it has had."""
    lines = 0

    async def serve(reader, writer):
        nonlocal lines
        try:
            while await reader.readline():
                lines += 1
                writer.write(b"%d\n" % lines)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, name, port) as server:
        await server.serve_forever()


async def connect(name="db", port=80):
    """Connect as soon as somebody listens."""
    while True:
        try:
            return await asyncio.open_connection(name, port)
        except OSError:
            await asyncio.sleep(0.1)


async def ask(reader, writer):
    writer.write(b"more\n")
    return int(await reader.readline())


async def asks(times, name="db"):
    reader, writer = await connect(name)
    try:
        return [await ask(reader, writer) for _ in range(times)]
    finally:
        writer.close()


async def forever():
    await asyncio.Event().wait()


def traced(main, seed, **settings):
    trace = []
    hoop.sim.run(main, seed=seed, trace=trace, **settings)
    return trace


# ---- hosts -----------------------------------------------------------------------------------------


def test_programs_on_hosts_talk_and_end():
    async def main(world):
        db = world.host("db", count)
        clients = [world.host(f"client-{n}", lambda: asks(5)) for n in range(3)]
        found = [await client for client in clients]
        assert sorted(number for some in found for number in some) == list(range(1, 16))
        assert [client.state for client in clients] == ["ended"] * 3
        assert (db.name, db.address, db.state, db.is_running) == ("db", "10.0.0.1", "running", True)
        assert await world.run("last", lambda: asks(1)) == [16]

    hoop.sim.explore(main, seeds=10, order="mix")


@pytest.mark.parametrize("order", ["fifo", "wakes", "starts", "single", "pct"])
def test_a_seed_gives_the_same_run_again(order):
    async def main(world):
        db = world.host("db", count)
        clients = [world.host(f"client-{n}", lambda: asks(3)) for n in range(3)]
        await asyncio.sleep(0.1)
        db.crash()
        await asyncio.sleep(5)
        db.restart()
        assert await asks(1)
        for client in clients:
            try:
                await client
            except (ValueError, OSError):
                pass

    trace = traced(main, 1, order=order)
    assert traced(main, 1, order=order) == trace
    if order == "wakes":
        assert traced(main, 2, order=order) != trace


def test_hosts_have_addresses_names_and_ports_of_their_own():
    seen = []

    async def serve(reader, writer):
        seen.append((writer.get_extra_info("sockname"), writer.get_extra_info("peername")[0]))
        writer.close()

    async def run_server():
        async with await asyncio.start_server(serve, None, 80) as server:
            await server.serve_forever()

    async def at_home(world_address):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("two", 80, type=socket.SOCK_STREAM)
        assert [info[4] for info in found] == [(world_address, 80)]
        with socket.socket() as sock, pytest.raises(OSError, match="Cannot assign") as caught:
            sock.bind((world_address, 80))
        assert caught.value.errno == errno.EADDRNOTAVAIL
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 80)

    async def main(world):
        one, two = world.host("one", run_server), world.host("two", run_server)
        await asyncio.sleep(1)
        _, writer = await asyncio.open_connection("TWO", 80)
        writer.close()
        await world.run("three", lambda: at_home(two.address))
        await world.run("four", lambda: connect("one"))
        await asyncio.sleep(1)
        assert seen == [((two.address, 80), "10.0.255.1"), ((one.address, 80), "10.0.0.4")]
        seen.clear()

    hoop.sim.explore(main, seeds=4)


def test_each_program_has_tasks_loops_and_generators_of_its_own():
    closed = []

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            closed.append(asyncio.get_running_loop())

    async def program(loops):
        loop = asyncio.get_running_loop()
        assert loop.is_running()
        assert asyncio.current_task().get_name() == "Task-1"
        assert asyncio.create_task(asyncio.sleep(0)).get_name() == "Task-2"
        await asyncio.sleep(1)
        assert asyncio.get_running_loop() is loop
        assert len(asyncio.all_tasks()) == 1
        async for _ in numbers():
            break
        await asyncio.sleep(1)
        loops.append(loop)

    async def main(world):
        loops = []
        closed.clear()
        hosts = [world.host(f"h{n}", lambda: program(loops)) for n in range(2)]
        for host in hosts:
            await host
        assert asyncio.create_task(asyncio.sleep(0)).get_name() == "Task-2"
        assert len({*loops, asyncio.get_running_loop()}) == 3
        assert set(closed) == set(loops)

    hoop.sim.explore(main, seeds=4)


def test_the_end_of_a_program_ends_its_tasks_and_connections():
    ended = []

    async def program():
        async def other():
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append(hoop.sim.now())

        task = asyncio.create_task(other())
        kept = []  # from Python 3.13 on, a writer that is dropped closes its connection
        server = await asyncio.start_server(lambda r, w: kept.append(w), "server", 80)
        await asyncio.sleep(1)
        assert task
        assert server

    async def main(world):
        ended.clear()
        server = world.host("server", program)
        reader, writer = await connect("server")
        assert await reader.read() == b""
        writer.close()
        assert ended
        assert ended[0] < 2
        assert await server is None
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 80)

    hoop.sim.explore(main, seeds=6, order="mix")


def test_an_exception_of_a_program_ends_the_run_unless_somebody_waits():
    async def wrong():
        await asyncio.sleep(1)
        raise LookupError("lost")

    async def main(world, waits):
        db = world.host("db", wrong)
        if waits:
            with pytest.raises(LookupError):
                await db
        await asyncio.sleep(10)

    hoop.sim.run(lambda world: main(world, True))
    with pytest.raises(LookupError) as caught:
        hoop.sim.run(lambda world: main(world, False))
    assert caught.value.__notes__ == ["in the program of the host db"]


def test_time_is_the_same_everywhere():
    async def program():
        await asyncio.sleep(1.5)
        began = time.monotonic()
        await asyncio.sleep(0.25)
        assert asyncio.get_running_loop().time() == time.monotonic()
        return time.monotonic() - began, hoop.sim.now()

    async def main(world):
        for host in [world.host(f"h{n}", program) for n in range(3)]:
            took, now = await host
            assert 0.25 <= took < 0.2501
            assert 1.75 <= now < 1.7501

    hoop.sim.run(main)


def test_a_deadlock_names_hosts():
    async def main(world):
        world.host("db", forever)
        await forever()

    with pytest.raises(hoop.sim.Deadlock, match="2 unfinished tasks") as caught:
        hoop.sim.run(main)
    assert "\n  db/Task-1 " in str(caught.value)
    assert "\n  Task-1 " in str(caught.value)


def test_wrong_names_and_arguments():
    async def main(world):
        world.host("db", forever)
        world.host("web", forever)
        for name, error in (
            ("db", ValueError),
            ("DB", ValueError),
            ("a b", ValueError),
            (7, TypeError),
        ):
            with pytest.raises(error):
                world.host(name, forever)
        with pytest.raises(TypeError, match="coroutine function"):
            world.host("api", 7)
        with pytest.raises(ValueError, match="no host of this world"):
            world.partition("db", "other")
        with pytest.raises(ValueError, match="low"):
            world.link("db", "web").latency(-1)
        with pytest.raises(ValueError, match="high"):
            world.link("db", "web").latency(1, 0.5)

    hoop.sim.run(main)


# ---- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [False, True])
def test_a_crash_runs_no_finally_and_forgets_all(silent):
    async def main(world):
        events = []

        async def program():
            try:
                await count()
            finally:
                events.append("finally")

        db = world.host("db", program)
        reader, writer = await connect()
        assert await ask(reader, writer) == 1
        db.crash(silent=silent)
        assert (db.state, db.is_running) == ("crashed", False)
        began = hoop.sim.now()
        if silent:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(reader, writer), 100)
            with pytest.raises(TimeoutError):
                await asyncio.open_connection("db", 80)
            assert hoop.sim.now() - began >= 227
        else:
            with pytest.raises((ValueError, ConnectionError)):
                await ask(reader, writer)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("db", 80)
            assert hoop.sim.now() - began < 10
        writer.close()
        db.restart()
        assert await asks(2) == [1, 2]
        assert events == []

    hoop.sim.run(main, seed=1)
    hoop.sim.run(main, seed=2, order="single")


def test_after_a_restart_the_old_connections_are_reset():
    async def main(world):
        db = world.host("db", count)
        reader, writer = await connect()
        assert await ask(reader, writer) == 1
        db.crash(silent=True)
        await asyncio.sleep(10)
        db.restart()
        with pytest.raises((ValueError, ConnectionError)):
            await ask(reader, writer)
        writer.close()

    hoop.sim.explore(main, seeds=6)


def test_a_crash_leaves_nothing_open():
    async def main(world):
        db = world.host("db", count)
        await asks(2)
        db.restart()
        await asks(2)
        world.host("other", lambda: asks(1000))
        await asyncio.sleep(1)

    hoop.sim.run(main)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    hoop.sim.run(main, seed=1)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_host_that_stands_still_still_receives():
    async def main(world):
        db = world.host("db", count)
        reader, writer = await connect()
        db.pause()
        assert db.state == "paused"
        _, other = await asyncio.open_connection("db", 80)
        writer.write(b"a\n")
        await asyncio.sleep(100)
        db.resume()
        assert int(await reader.readline()) == 1
        assert hoop.sim.now() > 100
        other.close()
        writer.close()

    hoop.sim.explore(main, seeds=4)


def test_signals_reach_the_handler_of_a_program():
    async def program(signals):
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGHUP, signals.append, "hangup")
        loop.add_signal_handler(signal.SIGUSR1, signals.append, "never")
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        await stop.wait()
        return signals

    async def main(world):
        one, two, three = (world.host(name, lambda: program([])) for name in ("a", "b", "c"))
        await asyncio.sleep(1)
        one.signal(signal.SIGHUP)
        one.signal(signal.SIGTERM)
        assert await one == ["hangup"]
        two.signal(signal.SIGUSR1)
        assert two.state == "crashed"
        three.signal(signal.SIGINT)
        with pytest.raises(asyncio.CancelledError):
            await three

    hoop.sim.run(main)


# ---- disks -----------------------------------------------------------------------------------------


async def store(texts):
    """Write texts, and sync the first."""
    for number, text in enumerate(texts):
        async with hoop.open("/data/log", "a") as file:
            await file.write(text)
            if number == 0:
                await file.fsync()
                folder = os.open("/data", os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    await forever()


def a_disk():
    disk = hoop.sim.Disk()
    disk.write("/data/log", b"")
    return disk


def test_each_host_has_a_disk():
    async def program(text):
        async with hoop.open("/data/log", "a") as file:
            await file.write(text)
        os.mkdir("/data/" + text)
        assert await hoop.read_text("/data/log") == text
        hoop.sim.disk().fail("mkdir", OSError(errno.EIO, "I/O error"))
        with pytest.raises(OSError, match="I/O error"):
            os.mkdir("/data/more")

    async def main(world):
        hosts = [world.host(name, lambda name=name: program(name)) for name in ("one", "two")]
        for host in hosts:
            await host
        assert [host.disk.read("/data/log") for host in hosts] == [b"one", b"two"]
        assert os.listdir("/data") == ["log"]
        own = a_disk()
        await world.run("three", lambda: program("three"), disk=own)
        assert own.read("/data/log") == b"three"

    hoop.sim.explore(main, seeds=4, disk=a_disk())


def test_a_process_that_crashes_loses_nothing_that_it_wrote():
    async def main(world):
        db = world.host("db", lambda: store(["a", "b"]))
        await asyncio.sleep(100)
        db.crash(silent=False)
        assert db.disk.read("/data/log") == b"ab"
        db.restart()
        await asyncio.sleep(100)
        assert db.disk.read("/data/log") == b"abab"

    hoop.sim.explore(main, seeds=4, disk=a_disk())


@pytest.mark.parametrize("way", ["power_loss", "crash"])
def test_a_power_loss_takes_what_was_not_synced(way):
    seen = set()

    async def main(world):
        db = world.host("db", lambda: store(["a", "b"]))
        await asyncio.sleep(100)
        if way == "crash":
            db.crash(silent=True)
        else:
            db.power_loss()
        assert db.state == "crashed"
        seen.add(db.disk.read("/data/log"))
        db.restart()
        await asyncio.sleep(100)
        assert db.disk.read("/data/log").endswith(b"ab")

    hoop.sim.explore(main, seeds=10, disk=a_disk())
    assert seen <= {b"a", b"ab", b"a\0"}
    assert len(seen) > 1


def test_the_power_goes_at_an_operation_of_one_host():
    async def main(world):
        disk = a_disk()
        disk.power_loss_after = 2
        db, other = world.host("db", lambda: store("ab"), disk=disk), world.host("other", forever)
        await asyncio.sleep(100)
        assert (db.state, other.state) == ("crashed", "running")
        db.restart()
        await asyncio.sleep(100)
        assert db.state == "running"

    hoop.sim.explore(main, seeds=4, disk=a_disk())


def test_without_a_disk_there_is_no_power_loss():
    async def main(world):
        db = world.host("db", forever)
        with pytest.raises(RuntimeError, match="no disk"):
            db.power_loss()
        with pytest.raises(RuntimeError, match="if the run has one"):
            world.host("other", forever, disk=a_disk())

    hoop.sim.run(main)


# ---- between hosts ---------------------------------------------------------------------------------


def test_a_partition_holds_what_tcp_sends():
    async def client(log):
        reader, writer = await connect()
        assert await ask(reader, writer) == 1
        await asyncio.sleep(10 - hoop.sim.now())
        assert await ask(reader, writer) == 2
        log.append(hoop.sim.now())
        writer.close()

    async def main(world):
        log = []
        world.host("db", count)
        api = world.host("api", lambda: client(log))
        await asyncio.sleep(9)
        world.partition("db", api)
        await asyncio.sleep(41)
        assert log == []
        world.heal()
        await api
        assert 50 < log[0] < 100

    hoop.sim.explore(main, seeds=8, order="mix")


def test_tcp_gives_up_after_fifteen_minutes():
    async def client():
        reader, writer = await connect()
        assert await ask(reader, writer) == 1
        await asyncio.sleep(10 - hoop.sim.now())
        with pytest.raises(TimeoutError) as caught:
            await ask(reader, writer)
        assert caught.value.errno == errno.ETIMEDOUT
        writer.close()
        return hoop.sim.now()

    async def main(world):
        world.host("db", count)
        api = world.host("api", client)
        await asyncio.sleep(9)
        world.partition("db", "api")
        assert 910 <= await api < 912

    hoop.sim.explore(main, seeds=8)


def test_a_partition_of_one_way():
    async def main(world):
        world.host("db", count)
        api = world.host("api", lambda: asks(1))
        world.partition("db", api, one_way=True)
        await asyncio.sleep(60)
        assert api.is_running
        world.heal("db", api)
        assert await api == [1]

    hoop.sim.explore(main, seeds=4)


async def keep(got):
    """A server that keeps what it gets, with the times."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                got.append((hoop.sim.now(), len(data)))
        writer.close()

    async with await asyncio.start_server(serve, "db", 80) as server:
        await server.serve_forever()


def test_who_hears_no_acknowledgement_gives_up_though_all_has_arrived():
    drivers = set()

    async def client():
        reader, writer = await connect()
        await asyncio.sleep(10 - hoop.sim.now())
        writer.write(b"first")
        await asyncio.sleep(100)
        writer.write(b"second")
        with pytest.raises(TimeoutError) as caught:
            await reader.read()
        assert caught.value.errno == errno.ETIMEDOUT
        writer.close()
        return hoop.sim.now()

    async def main(world):
        got = []
        world.host("db", lambda: keep(got))
        api = world.host("api", client)
        await asyncio.sleep(9)
        world.partition("db", "api", one_way=True)
        assert 910 <= await api < 912
        drivers.add(asyncio.get_running_loop().parameters["driver"])
        assert sum(size for _, size in got) == 11
        assert all(now < 112 for now, _ in got)

    hoop.sim.explore(main, seeds=8)
    assert drivers == {"readiness", "completion"}


def test_acknowledgements_come_when_the_way_back_is_free_again():
    async def client():
        reader, writer = await connect()
        await asyncio.sleep(10 - hoop.sim.now())
        for _ in range(50):
            writer.write(bytes(20_000))
            await writer.drain()
        assert hoop.sim.now() > 500  # there was no room for it before
        writer.write_eof()
        await reader.read()
        writer.close()

    async def main(world):
        got = []
        world.host("db", lambda: keep(got))
        api = world.host("api", client)
        await asyncio.sleep(9)
        world.partition("db", "api", one_way=True)
        await asyncio.sleep(491)
        assert 0 < sum(size for _, size in got) < 1_000_000
        world.heal()
        await api
        assert sum(size for _, size in got) == 1_000_000
        await asyncio.sleep(2000)  # nobody gives up later

    hoop.sim.explore(main, seeds=3)


def test_groups_that_do_not_see_each_other():
    async def main(world):
        hosts = [world.host(name, lambda name=name: count(name)) for name in "abcd"]
        await asyncio.sleep(1)
        world.partition(hosts[:2], hosts[2:])
        assert await world.run("e", lambda: asks(1, "a")) == [1]
        for name in "bc":
            client = world.host(f"to-{name}", lambda name=name: asks(1, name))
            world.partition(client, "c")
            await asyncio.sleep(10)
            assert client.is_running == (name == "c")

    hoop.sim.run(main)


def test_a_link_that_is_held_and_released():
    async def main(world):
        world.host("db", count)
        link = world.link("db", world.host("api", lambda: asks(1)))
        assert link.hold() is link
        await asyncio.sleep(100)
        assert world.find("api").is_running
        link.release()
        await world.find("api")

    hoop.sim.explore(main, seeds=4)


def test_a_link_has_a_latency_and_a_bandwidth():
    async def client(times):
        began = hoop.sim.now()
        reader, writer = await connect()
        times.append(hoop.sim.now() - began)
        began = hoop.sim.now()
        writer.write(b"x" * 9_999 + b"\n")
        await reader.readline()
        times.append(hoop.sim.now() - began)
        writer.close()

    async def main(world):
        times = []
        world.host("db", count)
        await asyncio.sleep(1)
        api = world.host("api", lambda: client(times))
        world.link("db", api).latency(0.5, 0.6).bandwidth(1000)
        await api
        assert 1 <= times[0] < 1.8
        assert 10.99 <= times[1] < 12.5

    quiet = hoop.sim.Faults(pieces=0, spikes=0, partial=0)
    for seed in range(4):
        hoop.sim.run(main, seed=seed, faults=quiet)
