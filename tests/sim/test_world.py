"""A program in a simulation meets virtual time, seeded numbers, calls at a virtual time, and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import functools
import multiprocessing
import os
import queue
import random
import secrets
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import types
import uuid
from random import random as draw
from time import monotonic
from time import time as wall

import pytest

import hoop
import hoop.sim


def in_world(function, **options):
    """Run a function of Python inside of a world."""

    async def main():
        return function()

    return hoop.sim.run(main, **options)


# ---- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clock",
    [wall, monotonic, time.perf_counter, lambda: asyncio.get_running_loop().time(), hoop.sim.now],
    ids=["time", "monotonic", "perf_counter", "loop", "now"],
)
def test_a_sleep_takes_virtual_time_only(clock):
    async def main():
        before = clock()
        await asyncio.sleep(3000)
        return clock() - before

    began = time.perf_counter()
    assert hoop.sim.run(main) == pytest.approx(3000, abs=1e-6)
    assert time.perf_counter() - began < 30


def test_clocks_in_nanoseconds_agree_with_the_others():
    def read():
        return (
            time.time_ns() / 1e9 - time.time(),
            time.monotonic_ns() / 1e9 - time.monotonic(),
            time.perf_counter_ns() / 1e9 - time.perf_counter(),
        )

    assert in_world(read) == pytest.approx((0, 0, 0), abs=1e-6)


def test_dates_follow_virtual_time():
    async def main():
        await asyncio.sleep(86400.5)
        utc = datetime.UTC
        return (
            datetime.datetime.now(utc),
            datetime.datetime.now(tz=None),
            datetime.datetime.today(),
            datetime.date.today(),
            time.gmtime()[:6],
            time.strftime("%S", time.gmtime(None)),
            time.localtime()[:6],
            time.ctime(),
            time.strftime("%Y"),
        )

    at = datetime.datetime(2025, 1, 2, 0, 0, 0, 500000, datetime.UTC)
    local = at.astimezone().replace(tzinfo=None)
    now, naive, today, date, gm, seconds, localtime, ctime, year = hoop.sim.run(main, limit=1e6)
    assert (now, naive, today, date) == (at, local, local, local.date())
    assert (gm, seconds) == ((2025, 1, 2, 0, 0, 0), "00")
    assert localtime == local.timetuple()[:6]
    assert (ctime, year) == (local.ctime(), str(local.year))


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_utcnow_follows_virtual_time():
    assert in_world(datetime.datetime.utcnow) == datetime.datetime(2025, 1, 1)


def test_a_subclass_of_datetime_gets_its_own_objects():
    class Date(datetime.datetime):
        pass

    assert type(in_world(Date.now)) is Date


def test_a_blocking_sleep_lets_time_pass_while_no_task_runs():
    async def main():
        task = asyncio.create_task(asyncio.sleep(1))
        await asyncio.sleep(0)
        time.sleep(10)
        assert not task.done()
        await task
        return hoop.sim.now()

    assert hoop.sim.run(main) == pytest.approx(10)


def test_what_waits_for_threads_or_descriptors_takes_virtual_time():
    left, right = socket.socketpair()

    def main():
        assert not threading.Event().wait(30)
        with pytest.raises(queue.Empty):
            queue.Queue().get(timeout=30)
        assert select.select([left], [], [], 30) == ([], [], [])
        assert select.select([left], [left], [], 30) == ([], [left], [])
        with pytest.raises(hoop.sim.Unsimulated, match="select"):
            select.select([left], [], [])
        assert 90 <= hoop.sim.now() < 90.1

    began = monotonic()
    with left, right:
        in_world(main)
    assert monotonic() - began < 30


def test_less_known_clocks_are_virtual():
    def main():
        time.sleep(100)
        assert time.asctime() == time.ctime()
        assert time.asctime(time.gmtime(0)) == "Thu Jan  1 00:00:00 1970"
        assert time.clock_gettime(time.CLOCK_REALTIME) == time.time()
        assert time.clock_gettime_ns(time.CLOCK_REALTIME) == time.time_ns()
        assert time.clock_gettime_ns(time.CLOCK_TAI) == time.time_ns()
        for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME):
            assert time.clock_gettime(clock) == time.monotonic()
            assert time.clock_gettime_ns(clock) == time.monotonic_ns()
        assert time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) < 1e6

    in_world(main)
    assert "2025" not in time.asctime()


@pytest.mark.parametrize("wrong", [-1, float("nan"), "1"])
def test_a_blocking_sleep_refuses_what_python_refuses(wrong):
    with pytest.raises((ValueError, TypeError)) as real:
        time.sleep(wrong)
    with pytest.raises(real.type) as ours:
        in_world(lambda: time.sleep(wrong))
    assert str(ours.value) == str(real.value)


def test_a_wait_ends_after_its_deadline_and_not_at_it():
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(2000):
            deadline = loop.time() + random.random()
            await asyncio.sleep(deadline - loop.time())
            future = loop.create_future()
            when = loop.time() + random.random()
            loop.call_at(when, future.set_result, None)
            await future
            assert when < loop.time() < when + 1e-8

    hoop.sim.run(main, limit=1e5)


def test_the_real_clocks_are_back_afterwards():
    before = time.time(), time.monotonic()
    in_world(time.time)
    assert time.time() >= before[0] > 1_735_689_600
    assert time.monotonic() >= before[1]
    assert abs(datetime.datetime.now().timestamp() - time.time()) < 60


def test_another_thread_keeps_the_real_clocks():
    begun, ended, seen = threading.Event(), threading.Event(), []

    def look():
        begun.wait()
        seen.extend((time.time(), os.urandom(4)))
        ended.set()

    thread = threading.Thread(target=look)
    thread.start()

    def block():
        begun.set()
        ended.wait()
        return time.time()

    virtual = in_world(block)
    thread.join()
    assert seen[0] > virtual == 1_735_689_600


# ---- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        draw,
        lambda: random.Random().random(),
        lambda: random.seed() or random.random(),
        random.SystemRandom().random,
        functools.partial(os.urandom, 9),
        secrets.token_hex,
        uuid.uuid4,
        lambda: os.getrandom(9),
        lambda: ssl.RAND_bytes(9),
        uuid.uuid1,
        *(getattr(uuid, name) for name in ("uuid6", "uuid7") if hasattr(uuid, name)),
    ],
)
def test_numbers_come_from_the_seed(source):
    first = in_world(source, seed=1)
    source()  # in real time, which is later
    assert first == in_world(source, seed=1)
    assert first != in_world(source, seed=2) or source is uuid.uuid1
    assert in_world(lambda: source() != source())


def test_what_python_looks_for_once_draws_no_numbers(monkeypatch):
    def look():
        return uuid.getnode(), tempfile.gettempdir(), random.random(), os.urandom(4)

    monkeypatch.setattr(uuid, "_node", None)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert in_world(look) == in_world(look)


def test_temporary_files_have_the_same_names_in_each_run_of_a_seed():
    async def main():
        with tempfile.NamedTemporaryFile() as file:
            return file.name

    first, again, other = (hoop.sim.run(main, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_program_s_own_random_numbers_go_on_afterwards():
    random.seed(5)
    expected = [random.random(), random.random()]
    random.seed(5)
    assert random.random() == expected[0]
    in_world(random.random)
    assert random.random() == expected[1]


def test_urandom_refuses_what_python_refuses():
    for wrong in (-1, "1"):
        with pytest.raises((ValueError, TypeError)) as real:
            os.urandom(wrong)
        with pytest.raises(real.type) as ours:
            in_world(functools.partial(os.urandom, wrong))
        assert str(ours.value) == str(real.value)


def test_names_of_tasks_begin_anew():
    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        return asyncio.current_task().get_name(), task.get_name()

    assert hoop.sim.run(main) == ("Task-1", "Task-2")
    assert hoop.sim.run(main) == ("Task-1", "Task-2")


# ---- executors and files ---------------------------------------------------------------------------


def test_a_function_in_an_executor_takes_virtual_time():
    async def main():
        began = hoop.sim.now()
        thread, value = await asyncio.to_thread(lambda: (threading.get_ident(), 7))
        assert thread == threading.get_ident()
        assert hoop.sim.now() > began
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 / 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.to_thread(next, iter(()))
        return value

    assert hoop.sim.run(main) == 7


def test_only_an_executor_is_one():
    async def main():
        with pytest.raises(AttributeError, match="submit"):
            await asyncio.get_running_loop().run_in_executor(5, print)

    hoop.sim.run(main)


def test_a_function_in_an_executor_has_no_running_loop_and_its_own_context():
    var = contextvars.ContextVar("var", default="none")

    def look():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return var.get()

    async def main():
        var.set("task")
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(look), await loop.run_in_executor(None, look)

    assert hoop.sim.run(main) == ("task", "none")


def test_a_cancelled_call_may_have_been_made_or_not():
    made = set()

    async def main():
        called = []
        task = asyncio.create_task(asyncio.to_thread(called.append, 1))
        await asyncio.sleep(0.01 * random.random())
        task.cancel()
        await asyncio.wait([task])
        made.add((bool(called), task.cancelled()))

    hoop.sim.explore(main, seeds=200)
    assert {(True, True), (False, True), (True, False)} <= made


def test_files_work_in_virtual_time(tmp_path):
    async def main():
        async with hoop.open(tmp_path / "file", "w") as file:
            await file.write("text")
        assert hoop.sim.now() > 0
        return await hoop.read_text(tmp_path / "file")

    assert hoop.sim.run(main, seed=3) == "text"


# ---- what is refused -------------------------------------------------------------------------------


async def use_add_reader():
    asyncio.get_running_loop().add_reader(0, print)


async def use_popen():
    subprocess.run(["true"], check=True)


async def use_blocking_socket():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 1))
        sock.listen()
        sock.accept()


async def use_datagram_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0hoop-sim")


async def use_blocking_datagrams():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.recvfrom(100)


async def use_sendmsg():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"text"], [], 0, ("127.0.0.1", 9))


async def use_system():
    os.system("true")


async def use_exec():
    os.execv("/bin/true", ["true"])


async def use_spawn():
    multiprocessing.get_context("spawn").Process(target=print).start()


async def use_kill():
    os.kill(os.getppid(), signal.SIGTERM)


async def use_sigwait():
    signal.sigwait([signal.SIGTERM])


async def use_alarm():
    signal.alarm(1)


async def use_other_loop(kind):
    def run_other():
        with contextlib.closing(kind()) as loop:
            loop.run_forever()

    await asyncio.to_thread(run_other)


async def use_datagrams():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, "\0hoop-sim", family=socket.AF_UNIX
    )


@pytest.mark.parametrize(
    ("program", "call", "advice"),
    [
        (lambda: asyncio.create_subprocess_exec("true"), "loop.subprocess_exec()", "process"),
        (lambda: asyncio.create_subprocess_shell("true"), "loop.subprocess_shell()", "process"),
        (use_add_reader, "loop.add_reader()", "descriptor"),
        (use_datagrams, "socket.socket.bind() of this kind of socket", "stream socket"),
        (use_blocking_datagrams, "a recvfrom() that blocks", "sock_recvfrom"),
        (use_datagram_socket, "socket.socket.bind() of this kind of socket", "stream socket"),
        (use_popen, "subprocess.Popen()", "process"),
        (
            use_blocking_socket,
            "accept() that blocks, and that only a task could end",
            "sock_connect",
        ),
        (use_sendmsg, "socket.socket.sendmsg() with an address", "stream socket"),
        (use_system, "os.system()", "process"),
        (use_exec, "os.execv()", "process"),
        (use_spawn, "the start of a process", "process"),
        (use_kill, "os.kill() of another process", "handler"),
        (use_sigwait, "signal.sigwait()", "handler"),
        (use_alarm, "signal.alarm()", "handler"),
        (lambda: use_other_loop(asyncio.SelectorEventLoop), "another event loop", "await"),
        (lambda: use_other_loop(hoop.EventLoop), "another event loop", "await"),
    ],
)
def test_what_is_not_simulated_is_refused_by_its_name(program, call, advice):
    async def main():
        await program()

    with pytest.raises(hoop.sim.Unsimulated, match=advice) as caught:
        hoop.sim.run(main)
    assert caught.value.call == call


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("aiodns", "DNSResolver"),
        ("grpc.aio._channel", "Channel"),
        ("grpc.aio._server", "Server"),
    ],
)
def test_libraries_that_use_the_network_in_c_are_refused(module, name, monkeypatch):
    made = []

    class Library:
        def __init__(self, *args):
            made.append(args)

    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: Library}))

    async def main():
        Library("db")

    with pytest.raises(hoop.sim.Unsimulated, match=r"instead|replace|resolve"):
        hoop.sim.run(main)
    assert made == []
    Library("db")
    assert made == [("db",)]


def test_everything_works_again_afterwards():
    before = dict(vars(socket.socket))
    in_world(lambda: None)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    subprocess.run(["true"], check=True)
    left, right = socket.socketpair()
    left.close()
    right.close()
    assert dict(vars(socket.socket)) == before


def test_a_call_from_another_thread_is_refused():
    begun, ended, errors = threading.Event(), threading.Event(), []
    loops = []

    def call():
        begun.wait()
        try:
            loops[0].call_soon_threadsafe(print)
        except hoop.sim.Unsimulated as exc:
            errors.append(exc)
        ended.set()

    thread = threading.Thread(target=call)
    thread.start()

    async def main():
        loops.append(asyncio.get_running_loop())
        begun.set()
        ended.wait()

    hoop.sim.run(main)
    thread.join()
    assert len(errors) == 1


# ---- one world at a time ---------------------------------------------------------------------------


def test_a_world_inside_of_a_loop_is_refused():
    async def main():
        hoop.sim.run(main)

    for run in (hoop.sim.run, lambda main: asyncio.run(main())):
        with pytest.raises(RuntimeError, match="running event loop"):
            run(main)


def test_now_needs_a_world():
    with pytest.raises(RuntimeError):
        hoop.sim.now()


def test_always_fails_a_run_and_does_nothing_outside():
    hoop.sim.always(False, "not here")

    with pytest.raises(AssertionError, match="two is not one"):
        in_world(lambda: hoop.sim.always(1 == 2, "two is not one"))


def test_sometimes_fails_an_exploration_in_which_it_never_held():
    hoop.sim.sometimes(False, "not here")

    async def main(limit):
        hoop.sim.sometimes(random.random() < limit, "a small number")

    hoop.sim.explore(functools.partial(main, 0.5), seeds=50)
    with pytest.raises(hoop.sim.NeverHappened, match="a small number"):
        hoop.sim.explore(functools.partial(main, -1), seeds=50)


@pytest.mark.parametrize("order", ["", "random"])
def test_an_unknown_order_is_refused(order):
    with pytest.raises(ValueError, match="order must be one of"):
        hoop.sim.run(asyncio.sleep, order=order)
    with pytest.raises(ValueError, match="order must be one of"):
        hoop.sim.explore(asyncio.sleep, order=order)
    with pytest.raises(ValueError, match="order must be one of"):
        hoop.sim.SimEventLoop(order=order)


def test_a_program_that_does_not_simulate_has_nothing_of_it():
    program = "import hoop, sys; sys.exit(any(name.startswith('hoop.sim') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
