"""Threads in a simulation: they take turns in an order that the seed decides, and wait in virtual time."""

from __future__ import annotations

import _thread
import asyncio
import functools
import os
import queue
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import hoop.sim

SEEDS = 10


def start(function, *args, **options):
    """Start a thread."""
    thread = threading.Thread(target=function, args=args, **options)
    thread.start()
    return thread


def join(threads):
    for thread in threads:
        thread.join()


def passes(main, seeds=SEEDS):
    """Run a program with some seeds. Returns the result of the last."""
    hoop.sim.explore(main, seeds=seeds, order="mix")
    return hoop.sim.run(main, seed=1)


# ---- waiting for each other --------------------------------------------------------------------------


def test_a_worker_gets_work_and_answers_to_the_loop():
    async def main():
        work = queue.Queue()

        def serve():
            while (item := work.get()) is not None:
                future, number = item
                time.sleep(0.5)
                loop.call_soon_threadsafe(future.set_result, 2 * number)

        loop = asyncio.get_running_loop()
        worker = start(serve)
        futures = [loop.create_future() for _ in range(3)]
        for number, future in enumerate(futures):
            work.put((future, number))
        assert await asyncio.gather(*futures) == [0, 2, 4]
        work.put(None)
        worker.join()
        assert not worker.is_alive()
        return hoop.sim.now()

    assert passes(main) == pytest.approx(1.5)


def test_a_thread_waits_for_a_coroutine():
    async def answer(number):
        await asyncio.sleep(number)
        return number

    async def main():
        def ask(number):
            found.append(asyncio.run_coroutine_threadsafe(answer(number), loop).result())

        loop, found = asyncio.get_running_loop(), []
        threads = [start(ask, number) for number in range(3)]
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.1)
        return found

    assert passes(main) == [0, 1, 2]


@pytest.mark.parametrize("shuts_down", [True, False])
def test_an_executor_of_the_program(shuts_down):
    async def main():
        def slow(number):
            time.sleep(number)
            return number

        executor = ThreadPoolExecutor(3)
        futures = [executor.submit(slow, number) for number in range(5)]
        found = [
            await asyncio.wrap_future(futures[0]),
            *(future.result() for future in futures[1:]),
        ]
        if shuts_down:
            executor.shutdown()
        return found, round(hoop.sim.now(), 6)

    assert passes(main) == (list(range(5)), 5.0)


def test_locks_conditions_and_their_like_wait_in_virtual_time():
    async def main():
        barrier, changed, event = threading.Barrier(3), threading.Condition(), threading.Event()
        few, done = threading.Semaphore(2), []

        def work(number):
            barrier.wait()
            with few:
                time.sleep(1)
            with changed:
                done.append(number)
                changed.notify_all()
            assert event.wait(timeout=5)

        threads = [start(work, number) for number in range(3)]
        with changed:
            assert changed.wait_for(lambda: len(done) == 3, timeout=3)
        assert not event.wait(1.5)
        event.set()
        join(threads)
        lock = threading.Lock()
        assert lock.acquire(timeout=2)
        assert not lock.acquire(timeout=2)
        assert not lock.acquire(False)
        for empty in (queue.Queue(), queue.SimpleQueue()):
            with pytest.raises(queue.Empty):
                empty.get(timeout=1)
        sleeping = start(time.sleep, 3)
        sleeping.join(timeout=1)
        assert sleeping.is_alive()
        return round(hoop.sim.now(), 6)

    assert passes(main) == 8.5


def test_an_rlock_is_for_one_thread():
    async def main():
        lock, inside = threading.RLock(), []

        def work():
            with lock, lock:
                inside.append(1)
                time.sleep(1)
                assert len(inside) == 1
                inside.clear()
            condition = threading.Condition(lock)
            with condition:
                condition.wait(1)

        join([start(work) for _ in range(3)])

    passes(main)


def test_a_low_thread():
    async def main():
        def work():
            time.sleep(1)
            done.append(1)
            lock.release()

        lock, done = _thread.allocate_lock(), []
        lock.acquire()
        assert isinstance(_thread.start_new_thread(work, ()), int)
        with lock:
            return done

    assert passes(main) == [1]


def test_sockets_of_threads_reach_tasks():
    async def main():
        async def serve(reader, writer):
            data = await reader.readline()
            await asyncio.sleep(1)
            writer.write(data.upper())
            writer.close()

        def ask(number):
            with socket.create_connection(("127.0.0.1", 80)) as sock:
                sock.sendall(b"hello %d\n" % number)
                found.append(sock.recv(100))

        found = []
        server = await asyncio.start_server(serve, "127.0.0.1", 80)
        threads = [start(ask, number) for number in range(3)]
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.1)
        server.close()
        return sorted(found)

    assert passes(main) == [b"HELLO 0\n", b"HELLO 1\n", b"HELLO 2\n"]


def test_calls_that_are_wrong_fail_as_always():
    wrong = [
        lambda: threading.Lock().acquire(False, 5),
        lambda: threading.Lock().acquire(timeout=-3),
        lambda: threading.Lock().acquire(timeout=1e300),
        lambda: threading.Lock().acquire(1, 2, 3),
        lambda: threading.RLock().acquire("x", "y"),
        lambda: threading.Lock().release(),
        lambda: threading.RLock().release(),
        lambda: queue.SimpleQueue().get(timeout=-1),
        lambda: queue.SimpleQueue().get(block=False),
        lambda: threading.current_thread().join(),
    ]

    async def main():
        found = []
        for call in wrong:
            with pytest.raises(
                (ValueError, OverflowError, TypeError, RuntimeError, queue.Empty)
            ) as error:
                call()
            found.append(repr(error.value))
        return found

    assert hoop.sim.run(main) == asyncio.run(main())


# ---- what seeds find ---------------------------------------------------------------------------------


def test_a_lost_update_is_found():
    async def main():
        def add():
            nonlocal total
            with lock:
                seen = total
            with lock:
                total = seen + 1

        total, lock = 0, threading.Lock()
        join([start(add) for _ in range(2)])
        assert total == 2

    with pytest.raises(AssertionError) as error:
        hoop.sim.explore(main, seeds=50)
    assert "test_simulated_threads.py" in error.value.__notes__[0]


def test_a_lost_notify_is_found():
    async def main():
        def wait():
            if not ready:
                with changed:
                    changed.wait()

        ready, changed = [], threading.Condition()
        waiter = start(wait, name="waiter")
        ready.append(1)
        with changed:
            changed.notify()
        waiter.join()

    with pytest.raises(
        hoop.sim.Deadlock, match=r"waiter +test_simulated_threads.py:\d+ +Condition.wait\(\)"
    ):
        hoop.sim.explore(main, seeds=100, shrink_seconds=0)


def test_a_deadlock_of_two_locks_is_found():
    async def main():
        def take(first, second):
            with first, second:
                pass

        a, b = threading.Lock(), threading.Lock()
        join([start(take, a, b, name="left"), start(take, b, a, name="right")])

    with pytest.raises(hoop.sim.Deadlock) as error:
        hoop.sim.explore(main, seeds=100, shrink_seconds=0)
    text = str(error.value)
    assert "a cycle: left -> right -> left" in text
    assert "Lock.acquire(), held by right" in text
    assert "Thread.join()" in text  # of the loop's thread


def test_a_task_that_waits_for_ever_shows_the_threads():
    async def main():
        start(queue.Queue().get, name="worker", daemon=True)
        await asyncio.Event().wait()

    with pytest.raises(hoop.sim.Deadlock, match=r"worker +queue.py:\d+ +Queue.get\(\)"):
        hoop.sim.run(main)


def take_twice():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.mark.parametrize(
    ("wait", "call"),
    [
        (take_twice, r"Lock.acquire\(\), held by MainThread"),
        (lambda: threading.Event().wait(), r"Event.wait\(\)"),
        (lambda: Future().result(), r"Future.result\(\)"),
    ],
)
def test_a_wait_that_nobody_can_end_is_a_deadlock(wait, call):
    async def main():
        wait()

    async def in_executor():
        await asyncio.gather(*(asyncio.to_thread(wait) for _ in range(3)))

    for body in (main, in_executor):
        with pytest.raises(
            hoop.sim.Deadlock, match=r"MainThread +test_simulated_threads.py:\d+ +" + call
        ):
            hoop.sim.run(body)


def test_threads_that_ask_again_and_again_are_a_livelock(monkeypatch):
    monkeypatch.setattr("hoop.sim.threads.turns.STILL_MAX", 1000)

    async def main():
        def spin():
            while True:
                time.sleep(0)

        start(spin, name="spinner", daemon=True)
        await asyncio.sleep(1)

    with pytest.raises(hoop.sim.Livelock, match="spinner"):
        hoop.sim.run(main)


def test_time_has_its_limit_for_threads():
    async def main():
        def tick():
            while True:
                time.sleep(60)

        start(tick, daemon=True).join()

    with pytest.raises(hoop.sim.TimeLimit, match=r"Thread.join\(\)"):
        hoop.sim.run(main, limit=600)


SOURCE = """
def note(lock, found, n):
    for _ in range(5):
        with lock:
            found.append(n)
"""


def test_the_same_lines_in_two_files_are_two_places():
    """In a library the turn changes at fewer places, whichever of the files comes first."""
    runs = {}
    for file in ("<frozen library>", "program.py"):
        exec(compile(SOURCE, file, "exec"), names := {})

        async def main(note=names["note"]):
            lock, found = threading.Lock(), []
            join([start(note, lock, found, n) for n in range(3)])
            return found

        runs[file] = [hoop.sim.run(functools.partial(main), seed=seed) for seed in range(SEEDS)]
    assert runs["<frozen library>"] != runs["program.py"]


# ---- the end -----------------------------------------------------------------------------------------


def test_daemons_end_with_the_program():
    found = []

    async def main():
        def work():
            try:
                while True:
                    found.append(work_for.get())
            finally:
                found.append("end")

        work_for = queue.Queue()
        start(work, daemon=True)
        start(time.sleep, 1e6, daemon=True)
        work_for.put(1)
        await asyncio.sleep(1)
        return hoop.sim.now()

    assert hoop.sim.run(main) == pytest.approx(1)
    assert found == [1, "end"]
    assert threading.active_count() == 1


def test_other_threads_are_waited_for():
    found = []

    async def main():
        def work():
            time.sleep(20)
            found.append(hoop.sim.now())

        start(work)

    hoop.sim.run(main)
    assert found == [pytest.approx(20)]


def test_threads_that_do_not_end_are_told():
    async def main():
        start(queue.Queue().get, name="worker")

    with pytest.raises(hoop.sim.Deadlock, match=r"the program has ended(?s:.*)worker"):
        hoop.sim.run(main)
    assert threading.active_count() == 1


def test_the_exception_of_the_program_comes_first():
    async def main():
        for _ in range(3):
            start(queue.Queue().get)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        hoop.sim.run(main)
    assert threading.active_count() == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_does_not_come_back_is_stuck():
    ours, theirs = os.pipe()

    async def main(function, *args):
        start(function, *args, daemon=True)
        await asyncio.sleep(1)

    def spin():
        while True:
            pass

    try:
        for body, place in (
            (lambda: main(spin), "in spin"),
            (lambda: main(os.read, ours, 1), "run"),
        ):
            with pytest.raises(hoop.sim.Stuck, match=place):
                hoop.sim.run(body, stuck=0.05)
    finally:
        os.write(theirs, b"x")
        while threading.active_count() > 1:
            time.sleep(0.001)
        os.close(ours)
        os.close(theirs)


def test_locks_are_real_again_after_a_run():
    async def main():
        join([start(time.sleep, 1)])

    hoop.sim.run(main)
    lock = threading.Lock()
    lock.acquire()
    timer = threading.Timer(0.01, lock.release)
    timer.start()
    assert lock.acquire(timeout=10)
    timer.join()


# ---- worlds ------------------------------------------------------------------------------------------


def test_a_thread_ends_with_its_host():
    async def main(world):
        async def serve():
            def work():
                while True:
                    item = items.get()
                    time.sleep(0.5)
                    done.append(item)

            items = queue.Queue()
            start(work, daemon=True)
            for number in range(10):
                items.put(number)
                await asyncio.sleep(1)

        done = []
        host = world.host("db", serve)
        await asyncio.sleep(3.2)
        host.crash()
        await asyncio.sleep(5)
        before = list(done)
        host.restart()
        await asyncio.sleep(3.2)
        return before, done

    assert hoop.sim.run(main) == ([0, 1, 2], [0, 1, 2, 0, 1, 2])


def test_a_thread_has_the_disk_of_its_program():
    async def main():
        def write():
            with open("/made-by-a-thread", "w") as file:
                file.write("text")

        join([start(write)])
        with open("/made-by-a-thread") as file:
            return file.read()

    assert hoop.sim.run(main, disk=hoop.sim.Disk()) == "text"
    assert not os.path.exists("/made-by-a-thread")


def test_seeds_run_in_processes_and_twice():
    async def main():
        with ThreadPoolExecutor(2) as executor:
            list(executor.map(time.sleep, range(4)))

    hoop.sim.explore(main, seeds=4, workers=2)
    hoop.sim.explore(main, seeds=2, isolate=True)
    traces = [[], []]
    for trace in traces:
        hoop.sim.run(main, seed=5, trace=trace)
    assert traces[0] == traces[1]
    assert any(line.endswith("thread ThreadPoolExecutor-0_1") for line in traces[0])
