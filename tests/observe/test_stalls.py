"""A blocked loop is reported with its cause, file and line. An idle one is not."""

from __future__ import annotations

import _asyncio
import asyncio
import ctypes
import gc
import inspect
import io
import logging
import os
import re
import sys
import threading
import time
import warnings

import pytest
import watched

import hoop
from hoop.insight import watcher
from hoop.observe import stalls

C = ctypes.PyDLL(None)  # its functions keep the GIL


class Reports:
    """The reports of a watch, to be waited for."""

    def __init__(self) -> None:
        self.all: list[stalls.Stall] = []
        self.changed = threading.Condition()

    def __call__(self, stall: stalls.Stall) -> None:
        with self.changed:
            self.all.append(stall)
            self.changed.notify_all()

    def of(self, cause: str, over: bool = False) -> list[stalls.Stall]:
        return [stall for stall in self.all if stall.cause == cause and stall.over == over]

    def wait_for(self, cause: str, over: bool = False) -> stalls.Stall:
        """Wait until there is such a report."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.of(cause, over), 15), self.all
        return self.of(cause, over)[0]


@pytest.fixture
def reports():
    """Watch during the test, with a threshold of 50 ms."""
    found = Reports()
    thread = watched.start(0.05, hook=found)
    yield found
    thread.stop()


def line_of(function, text: str) -> int:
    """The number of the line of a function that has this text."""
    lines, first = inspect.getsourcelines(function)
    (found,) = [first + i for i, line in enumerate(lines) if text in line]
    return found


def check(stall: stalls.Stall, function, text: str) -> None:
    """Check where the stall was, and in which task."""
    assert (stall.file, stall.line) == (__file__, line_of(function, text)), stall
    assert stall.function.rpartition(".")[2] == function.__name__
    assert stall.stack[0].startswith(stall.file) or "lib/python" in stall.stack[0]
    assert stall.loop == "MainThread"
    assert re.fullmatch(r"Task-\d+ .*limited", stall.task)  # the task of the fixture `run`


def test_python_code(run, reports):
    async def main():
        await asyncio.sleep(0.01)
        while not reports.all:
            continue
        await asyncio.sleep(0.01)

    run(main())
    stall = reports.wait_for("python")
    assert stall.file == __file__
    assert stall.line in (line_of(main, "while not"), line_of(main, "continue"))
    assert stall.function == main.__qualname__
    assert any("main" in frame for frame in stall.await_stack)
    over = reports.wait_for("python", over=True)
    assert over.lasted >= stall.lasted - 0.05 > 0
    assert over.began == stall.began


def test_a_blocking_call(run, reports):
    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0.4)
        await asyncio.sleep(0.01)

    run(main())
    stall = reports.wait_for("blocking call")
    check(stall, main, "time.sleep")
    if os.access("/proc/self/syscall", os.R_OK):
        assert stall.call.split()[0] in ("clock_nanosleep", "select", "pselect6", "restart_syscall")
    over = reports.wait_for("blocking call", over=True)
    check(over, main, "time.sleep")
    assert 0.35 < over.lasted < 5


def test_c_code_with_the_gil(run, reports):
    """The stack is the one that the thread has dumped itself meanwhile."""

    async def main():
        while not reports.of("C code with the GIL"):
            await asyncio.sleep(0.01)
            any(map(after(0.2), iter(time.thread_time, None)))
            await asyncio.sleep(0.01)

    run(main())
    check(reports.wait_for("C code with the GIL"), main, "any(")


def after(seconds):
    """A method that is true once this thread has computed for so long. It is C code, and keeps the GIL."""
    return (time.thread_time() + seconds).__lt__


class Slow:
    """Waits in the kernel with the GIL. Python looks for other threads after calls, but not after `[]`."""

    __getitem__ = C.usleep


def test_a_system_call_with_the_gil(run, reports):
    """The line is that of the call, though the task has gone on when the GIL comes."""

    async def main():
        await asyncio.sleep(0.01)
        began = time.monotonic()
        Slow()[400_000]
        took = time.monotonic() - began
        await asyncio.sleep(0.03)
        assert took >= 0.4  # nothing has cut it short

    run(main())
    stall = reports.wait_for("system call with the GIL", over=True)
    check(stall, main, "Slow()")
    if os.access("/proc/self/syscall", os.R_OK):
        assert stall.call.split()[0] in ("clock_nanosleep", "nanosleep", "restart_syscall")


def test_a_long_system_call_with_the_gil_has_one_report(run):
    """It stands for those at 10 and 100 times the threshold, which could not be made meanwhile."""
    found = Reports()
    thread = watched.start(0.005, hook=found)

    async def main():
        await asyncio.sleep(0.01)
        C.usleep(600_000)
        time.sleep(0.02)
        await asyncio.sleep(0.01)

    run(main())
    over = found.wait_for("system call with the GIL", over=True)
    thread.stop()
    reports = [stall for stall in found.all if stall.number == over.number]
    assert [(stall.cause, stall.over) for stall in reports] == [
        ("system call with the GIL", False),
        ("system call with the GIL", True),
    ]
    check(over, main, "C.usleep")


def test_the_stack_of_a_system_call_is_in_the_memfd_meanwhile(run):
    """Another process can read it, though nothing in this one can speak."""
    thread = watched.start(0.02)
    text = []

    async def main():
        await asyncio.sleep(0.01)
        Slow()[300_000]
        text.append(os.pread(thread.watch.memfd, 10_000, 0).decode())
        await asyncio.sleep(0.01)

    run(main())
    thread.stop()
    assert f'File "{__file__}", line {line_of(main, "Slow()")} in ' in text[0]


def test_another_thread_with_the_gil(run, reports):
    def hog():
        while not reports.of("GIL held elsewhere"):
            C.usleep(300_000)
            time.sleep(0.02)

    async def main():
        thread = threading.Thread(target=hog, name="hog")
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.005)
        thread.join()

    run(main())
    stall = reports.of("GIL held elsewhere")[0]
    assert stall.loop == "MainThread"
    assert stall.elsewhere[0] == "hog"
    assert any("test_stalls.py" in frame and frame.endswith("hog") for frame in stall.elsewhere[1:])


def test_a_long_turn(run, reports):
    """Of many callbacks, the one that runs is named."""

    async def main():
        loop = asyncio.get_running_loop()

        def slow():
            time.sleep(0.01)

        await asyncio.sleep(0.01)
        while not reports.of("long turn"):
            for _ in range(30):
                loop.call_soon(slow)
            await asyncio.sleep(0.01)

    run(main())
    stall = reports.of("long turn")[0]
    assert (stall.file, stall.line) == (__file__, line_of(main, "time.sleep"))
    assert stall.function.endswith("slow")
    assert stall.task == f"callback {main.__qualname__}.<locals>.slow"


def test_a_long_turn_of_functions_in_c(loop, reports):
    while not reports.of("long turn"):
        for _ in range(30):
            loop.call_soon(time.sleep, 0.01)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    assert reports.of("long turn")[0].task == "callback time.sleep"


class Garbage:
    """Is slow to be collected."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        C.usleep(300_000)


def test_garbage_collection(run, reports):
    async def main():
        while not reports.of(
            "garbage collection"
        ):  # the watcher may be without a processor meanwhile
            await asyncio.sleep(0.01)
            Garbage()
            gc.collect()

    run(main())
    check(reports.wait_for("garbage collection"), main, "gc.collect")


def test_garbage_collection_by_itself(run, reports):
    """The line is the one that made the object too many, though the task has gone on since."""

    async def main():
        await asyncio.sleep(0.01)
        made = [Garbage()]
        made.clear()
        while not found:
            made.append([])
        for _ in range(3):
            made = [made]
        await asyncio.sleep(0.01)

    def noted(phase, info):
        if phase == "stop" and not found:
            found.append(info)

    found = []
    gc.collect()
    gc.callbacks.append(noted)
    try:
        run(main())
    finally:
        gc.callbacks.remove(noted)
    stall = reports.wait_for("garbage collection")
    assert stall.file == __file__
    assert stall.line in (line_of(main, "while not found"), line_of(main, "made.append"))
    assert stall.function == main.__qualname__


def test_a_callback_of_a_connection(loop, reports):
    """The peer is named."""

    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.3)
            received.set_result(None)

    received = loop.create_future()

    async def connect():
        server = await loop.create_server(Slow, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        transport.write(b"x")
        return server, transport

    server, transport = loop.run_until_complete(connect())
    loop.run_until_complete(received)
    host, port = transport.get_extra_info("sockname")
    transport.close()
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.run_until_complete(asyncio.sleep(0.01))  # until both ends have noticed
    stall = reports.wait_for("blocking call")
    assert stall.connection == f"{host}:{port}"
    assert stall.line == line_of(Slow.data_received, "time.sleep")
    assert f", of {host}:{port}" in str(stall)


@pytest.mark.parametrize("start_server", [hoop.start_server, asyncio.start_server])
def test_a_task_of_a_connection(run, reports, start_server):
    """The task that serves a connection is named with its peer, and so are those of asyncio's own class."""

    async def serve(reader, writer):
        await reader.read(1)
        time.sleep(0.2)
        writer.close()

    async def main():
        server = await start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.read() == b""
        host, port = writer.get_extra_info("sockname")
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return f"{host}:{port}"

    peer = run(main())
    stall = reports.wait_for("blocking call")
    assert stall.connection == peer
    assert stall.line == line_of(serve, "time.sleep")
    assert stall.task.endswith("serve")


def test_a_task_of_asyncios_own_class(run, reports):
    """Some libraries make those by name. A callback takes its steps."""

    async def slow():
        await asyncio.sleep(0)
        time.sleep(0.2)

    async def main():
        await asyncio.sleep(0.01)
        await _asyncio.Task(slow(), loop=asyncio.get_running_loop(), name="theirs")
        await asyncio.sleep(0.01)

    run(main())
    stall = reports.wait_for("blocking call")
    assert stall.task == f"theirs {slow.__qualname__}"
    assert (stall.file, stall.line) == (__file__, line_of(slow, "time.sleep"))


def test_one_long_callback_after_short_ones_is_no_long_turn(loop, reports):
    """It began when others had run in the same turn."""
    for _ in range(100):
        loop.call_soon(int)
    loop.call_soon(time.sleep, 0.3)
    loop.call_soon(int)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert reports.wait_for("blocking call").loop == "MainThread"


def test_c_code_that_computes_on_is_dumped(run, tmp_path):
    """After a second of processor time its stack is in a file, also if nobody looks into the process."""
    with open(tmp_path / "dump", "w") as file:
        thread = watched.WatchThread(stalls.Watch(0.05, dump=file))

        async def main():
            while not (tmp_path / "dump").read_text():
                await asyncio.sleep(0.01)
                any(map(after(1.2), iter(time.thread_time, None)))

        run(main())
        thread.stop()
    line = line_of(main, "any(")
    assert f'File "{__file__}", line {line} in main' in (tmp_path / "dump").read_text()


@pytest.mark.parametrize("timeout", [0.002, 0.02])
def test_a_wait_that_ends_in_the_middle_of_a_stall_loses_nothing(run, timeout):
    """The watcher then asks for the GIL, and gets it when the C code is done.

    It says nothing of a loop that hardly gets a processor. So a stall must be reported only if the loop had
    one for two thirds of the time.
    """
    found, sure = [], []
    thread = watched.start(0.05, found.append, timeout)

    async def main():
        while sum(sure) < 3 and len(sure) < 20:
            await asyncio.sleep(0.01)
            began = time.monotonic()
            any(map(after(0.3), iter(time.thread_time, None)))
            sure.append(time.monotonic() - began < 0.45)

    run(main())
    thread.stop()
    lines = [stall.line for stall in found if stall.over]
    assert set(lines) == {line_of(main, "any(")}
    assert sum(sure) <= len(lines) <= len(sure)


@pytest.mark.parametrize("dump", [io.StringIO(), 7_000_000])
def test_what_is_no_file_gets_no_dump(dump):
    watched.WatchThread(stalls.Watch(0.05, dump=dump)).stop()


# ---- no stalls ---------------------------------------------------------------------------------------


def test_an_idle_loop_is_not_blocked(run, reports):
    async def main():
        await asyncio.sleep(0.3)

    run(main())
    assert reports.all == []


# ---- the watch itself --------------------------------------------------------------------------------


def test_a_report_at_ten_times_the_threshold(loop):
    found = Reports()
    thread = watched.start(0.02, hook=found)
    loop.call_soon(time.sleep, 0.8)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    thread.stop()
    lasted = [stall.lasted for stall in found.of("blocking call")]
    assert len(lasted) == 2, found.all
    assert lasted[0] >= 0.02
    assert lasted[1] >= 0.2


def test_a_later_report_may_have_another_cause(loop, monkeypatch):
    """It tells what blocks the loop then, and not what has done so for longer."""
    signs = []
    cause_of = stalls.cause_of

    def noted(seen, switch_ns):
        signs.append(seen)
        return cause_of(seen, switch_ns)

    monkeypatch.setattr(stalls, "cause_of", noted)
    found = Reports()
    thread = watched.start(0.02, hook=found)
    loop.call_soon(time.sleep, 0.3)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    found.wait_for("blocking call", over=True)
    thread.stop()
    first, second = signs
    assert first["told"] == first["began"]
    assert second["told"] == first["now"]
    assert second["new_cpu"] == second["cpu"] - first["cpu"]
    ms = 1_000_000
    computed = second | {"cpu": 900 * ms, "told": second["now"] - 100 * ms, "state": "S"}
    assert cause_of(computed | {"new_cpu": 10 * ms, "new_delay": 0}, 5 * ms) == "blocking call"
    assert cause_of(computed | {"new_cpu": 90 * ms, "new_delay": 0}, 5 * ms) == "python"


def test_the_log(run, reports, caplog):
    """One record when it begins, one at the end, with the Stall in it."""

    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0.3)
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING, "hoop.watch"):
        run(main())
        reports.wait_for("blocking call", over=True)
    records = [record for record in caplog.records if record.name == "hoop.watch"]
    assert [record.hoop.over for record in records] == [False, True]
    assert {record.levelno for record in records} == {logging.WARNING}
    line = line_of(main, "time.sleep(0.3)")
    assert f"test_stalls.py:{line}" in records[0].getMessage()
    assert "by blocking call" in records[0].getMessage()
    assert {record.hoop.number for record in records} == {1}
    assert abs(records[0].hoop.at - time.time()) < 20


def test_throttling(tmp_path):
    """The time is told in microseconds, or in nanoseconds by the first version of control groups."""
    for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
        (tmp_path / "cpu.stat").write_text(f"nr_periods 7\n{name} {2 * unit:.0f}\n")
        throttling = stalls.Throttling(str(tmp_path / "cpu.stat"))
        assert throttling.seconds() == 0.0
        (tmp_path / "cpu.stat").write_text(f"nr_periods 9\n{name} {5 * unit:.0f}\n")
        assert throttling.seconds() == 3.0
    (tmp_path / "cpu.stat").unlink()
    assert throttling.seconds() == 0.0
    assert stalls.Throttling().seconds() >= 0.0


def test_throttling_is_named(tmp_path, caplog):
    (tmp_path / "cpu.stat").write_text("throttled_usec 0\n")
    watch = stalls.Watch()
    watch.throttling = stalls.Throttling(str(tmp_path / "cpu.stat"))
    (tmp_path / "cpu.stat").write_text("throttled_usec 1500000\n")
    with caplog.at_level(logging.INFO, "hoop.watch"):
        watch._count_starved(3)
    assert "3 times so far, and its control group was throttled for 1.5 s" in caplog.text


def test_limits_of_the_log():
    now = 0.0
    limits = stalls.Limits(lambda: now)
    places = [("a.py", n, "f") for n in range(12)]
    assert [limits.allow(place) for place in places] == [True] * 10 + [False] * 2
    assert limits.left_out == 2
    now = 59.0
    assert not limits.allow(places[0])
    now = 60.0
    assert limits.allow(places[11])
    now = 61.0
    assert limits.allow(places[0])
    assert not limits.allow(places[0])


def test_a_hook_that_raises(run, caplog):
    told = threading.Event()

    def hook(stall):
        told.set()
        raise ValueError("the hook")

    thread = watched.start(0.05, hook=hook)

    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0.2)
        await asyncio.sleep(0.01)

    run(main())
    assert told.wait(10)
    thread.stop()
    assert "the hook for stalls raised" in caplog.text
    assert thread.watch.counts == {"blocking call": 1}


def test_two_loops_in_two_threads(new_loop, reports):
    """Each is reported by the name of its thread."""
    loops = [new_loop(), new_loop()]

    def work(loop):
        loop.call_soon(time.sleep, 0.3)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()

    threads = [
        threading.Thread(target=work, args=(loop,), name=f"loop {n}")
        for n, loop in enumerate(loops)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reports.changed:
        assert reports.changed.wait_for(
            lambda: {s.loop for s in reports.all} == {"loop 0", "loop 1"}, 10
        ), reports.all


def test_loops_come_and_go_while_they_are_watched(driver, reports):
    """Closed or collected: the watcher forgets them."""
    before = watcher.count_watched()
    for n in range(10):
        loop = hoop.new_event_loop(driver)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert watcher.count_watched() == before + 1
        if n % 2:
            loop.close()
            assert watcher.count_watched() == before
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of a loop that is not closed
            del loop
            gc.collect()
        assert watcher.count_watched() == before


def test_the_stack_is_in_the_memfd_while_c_code_runs(run):
    """Another process can read it, though nothing in this one can speak."""
    thread = watched.start(0.02)
    text = ""

    async def main():
        nonlocal text
        while "in main" not in text:
            await asyncio.sleep(0.01)
            any(map(after(0.2), iter(time.thread_time, None)))
            text = os.pread(thread.watch.memfd, 10_000, 0).decode()

    run(main())
    thread.stop()
    assert text.startswith("loop ")
    assert "blocked since" in text
    assert f'test_stalls.py", line {line_of(main, "any(")} in main' in text


def test_the_stack_that_is_read_without_the_gil():
    """As Python tells it, with names in any script."""

    class Öl:
        def größe(self):
            return watcher.own_stack()

    def 名前():
        return Öl().größe()

    frame = sys._getframe()
    lines = 名前().splitlines()
    assert lines[0] == "Stack (most recent call first):"
    first = frame.f_code.co_firstlineno
    names = [f"{frame.f_code.co_name}.<locals>.{name}" for name in ("Öl.größe", "名前")]
    assert lines[1:4] == [
        f'  File "{__file__}", line {first + 5} in {names[0]}',
        f'  File "{__file__}", line {first + 8} in {names[1]}',
        f'  File "{__file__}", line {first + 11} in {frame.f_code.co_name}',
    ]
    rest = []
    while frame := frame.f_back:
        code = frame.f_code
        rest.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_qualname}')
    assert lines[4:] == rest[: len(lines) - 4]
    assert len(lines) > 10


def test_what_runs_later_is_not_to_blame(loop):
    """The GIL came when the loop had gone on, and no stack was dumped: no place is told then."""
    watch = stalls.Watch()
    told = []

    def innocent():
        names = ("running", "cpu", "gil_cpu", "gil_took", "delay", "tid", "told")
        seen = dict.fromkeys((*names, "new_cpu", "new_delay"), 0)
        seen |= {"turn": loop._turns, "began": 0, "now": 10**8, "state": "R", "own_delay": 0}
        seen |= {"collects": False, "waits_for_gil": False, "moved": False, "call": -1}
        told.append(watch._describe(loop, seen))
        told.append(watch._describe(loop, seen | {"running": id(loop._current_runnable)}))
        loop.stop()

    loop.call_soon(innocent)
    loop.run_forever()
    assert (told[0].file, told[0].stack, told[0].task) == ("", (), "")
    assert told[1].file == __file__
    assert told[1].task.endswith("innocent")


def test_nothing_is_in_the_memfd_when_the_stall_is_over(run):
    """Else a process that is stopped later, and does not answer, would seem blocked since then."""
    watch = stalls.Watch(0.05)
    thread = watched.WatchThread(watch)
    sizes = []

    async def main():
        await asyncio.sleep(0.01)
        while not watch.recent:
            time.sleep(0.2)
        sizes.append(os.fstat(watch.memfd).st_size)
        while watch.under_way or os.fstat(watch.memfd).st_size:
            await asyncio.sleep(0.01)

    run(asyncio.wait_for(main(), 15))
    thread.stop()
    assert sizes[0] > 0


def test_watch_and_fork(run, reports):
    """The child has no watch, and its watcher knows no loop of the parent."""

    async def main():
        pid = os.fork()
        if pid == 0:
            os._exit(watcher.count_watched())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    if sys.version_info >= (3, 12):
        pytest.skip("Python warns of a fork with threads")
    run(main())


def test_collections_are_measured():
    found = watcher.Collections()
    gc.callbacks.append(found)
    try:
        gc.collect(0)
        gc.collect()
    finally:
        gc.callbacks.remove(found)
    assert [pause[0] for pause in found.pauses] == [1, 0, 1]
    assert all(0 <= longest <= total for _, total, longest in found.pauses)


@pytest.mark.parametrize("threshold", [0, -1, float("nan")])
def test_a_threshold_is_positive(threshold):
    with pytest.raises(ValueError, match="must be positive"):
        watcher.Watcher(threshold)
