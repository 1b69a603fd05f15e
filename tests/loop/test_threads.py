"""Other threads: call_soon_threadsafe is the one door, and it wakes a sleeping loop once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

import hoop

THREADS = 8
CALLS = 2000


def in_thread(function, *args) -> threading.Thread:
    """A started thread."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_callbacks_of_each_thread_run_in_order(loop):
    seen = [[] for _ in range(THREADS)]
    left = THREADS

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def calls(i):
        for n in range(CALLS):
            loop.call_soon_threadsafe(seen[i].append, n)
        loop.call_soon_threadsafe(ended)

    threads = [in_thread(calls, i) for i in range(THREADS)]
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert seen == [list(range(CALLS))] * THREADS


def test_wakes_at_most_once_for_each_sleep(loop):
    left = THREADS

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def calls():
        for _ in range(CALLS):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(ended)

    threads = [in_thread(calls) for _ in range(THREADS)]
    loop.run_forever()
    for thread in threads:
        thread.join()
    counters = loop.counters()
    assert counters["wakes"] <= counters["sleeps"]


def test_does_not_wake_a_loop_that_is_awake(loop):
    def calls():
        for _ in range(100):
            loop.call_soon_threadsafe(int)

    def busy():
        in_thread(calls).join()
        loop.stop()

    loop.call_soon(busy)
    loop.run_forever()
    assert loop.counters()["wakes"] == 0


def test_does_not_wake_a_loop_that_does_not_run(loop):
    in_thread(loop.call_soon_threadsafe, loop.stop).join()
    assert loop.counters()["wakes"] == 0
    loop.run_forever()


def test_wakes_a_sleeping_loop_every_time(loop):
    # The thread calls again only when its last call has run: the loop sleeps before most of them.
    ran = threading.Semaphore(0)

    def calls():
        for _ in range(500):
            loop.call_soon_threadsafe(ran.release)
            ran.acquire()
        loop.call_soon_threadsafe(loop.stop)

    thread = in_thread(calls)
    loop.run_forever()
    thread.join()
    assert 1 <= loop.counters()["wakes"] <= loop.counters()["sleeps"]


def test_wakes_a_loop_that_sleeps_for_a_timer(loop):
    handle = loop.call_later(1000, int)
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop])
    thread.start()
    loop.run_forever()
    thread.join()
    handle.cancel()


def test_from_the_loops_own_thread(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, 1)
    loop.call_soon(seen.append, 2)
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


def test_handle_can_be_cancelled(loop):
    loop.call_soon_threadsafe(pytest.fail, "was called").cancel()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()


def test_context_is_the_callers(loop):
    import contextvars

    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    def calls():
        variable.set("in the thread")
        loop.call_soon_threadsafe(lambda: seen.append(variable.get()))
        loop.call_soon_threadsafe(loop.stop)

    in_thread(calls).join()
    loop.run_forever()
    assert seen == ["in the thread"]


def test_on_a_loop_that_is_closed_meanwhile(new_loop):
    errors = []
    loop = new_loop()
    started = threading.Event()

    def calls():
        try:
            while True:
                loop.call_soon_threadsafe(int)
                started.set()
        except RuntimeError as exc:
            errors.append(str(exc))

    thread = in_thread(calls)
    started.wait()
    loop.close()
    thread.join()
    assert errors == ["Event loop is closed"]


def test_loop_made_in_one_thread_runs_in_another(loop):
    seen = []

    def runs():
        asyncio.set_event_loop(loop)
        loop.run_forever()
        seen.append(loop.run_until_complete(asyncio.sleep(0.001, "x")))

    thread = in_thread(runs)
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, "from outside"), loop)
    assert future.result(10) == "from outside"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert seen == ["x"]


def test_loop_runs_in_one_thread_after_another(loop):
    for i in range(5):
        seen = []
        thread = in_thread(
            lambda i=i, seen=seen: seen.append(loop.run_until_complete(asyncio.sleep(0, i)))
        )
        thread.join()
        assert seen == [i]


def test_loops_in_many_threads_do_not_disturb_each_other(new_loop):
    results = []

    async def main(i):
        assert asyncio.current_task() in asyncio.all_tasks()
        tasks = [asyncio.create_task(asyncio.sleep(0.0001 * n, (i, n))) for n in range(20)]
        assert len(asyncio.all_tasks()) == 21
        return await asyncio.gather(*tasks)

    def runs(i):
        loop = new_loop()
        results.append(loop.run_until_complete(main(i)))

    threads = [in_thread(runs, i) for i in range(THREADS)]
    for thread in threads:
        thread.join()
    assert sorted(results) == [[(i, n) for n in range(20)] for i in range(THREADS)]


def test_all_tasks_from_another_thread(loop):
    seen = []

    def looks():
        seen.append({task.get_name() for task in asyncio.all_tasks(loop)})
        loop.call_soon_threadsafe(waiting.cancel)

    waiting = loop.create_task(asyncio.sleep(1000), name="waiting")
    loop.call_soon(in_thread, looks)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    assert seen == [{"waiting"}]


def test_all_tasks_from_another_thread_while_tasks_come_and_go(loop):
    stop = threading.Event()
    looked = threading.Event()

    def looks():
        while not stop.is_set():
            for task in asyncio.all_tasks(loop):
                assert isinstance(task, hoop.Task)
            looked.set()

    async def main():
        while not looked.is_set():
            await asyncio.sleep(0)
        for _ in range(300):
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(10)])
        stop.set()

    thread = in_thread(looks)
    loop.run_until_complete(main())
    thread.join()


def test_current_task_from_another_thread(loop):
    seen = []

    async def main():
        done = asyncio.get_running_loop().create_future()

        def looks():
            seen.append(asyncio.current_task(loop))
            loop.call_soon_threadsafe(done.set_result, None)

        in_thread(looks)
        await done

    loop.run_until_complete(main())
    assert seen in ([None], [seen[0]])


def test_run_in_executor(run):
    async def main():
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            mine = [loop.run_in_executor(pool, int, str(i)) for i in range(20)]
            assert await asyncio.gather(*mine) == list(range(20))
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()

    run(main())


def test_eager_task_is_not_eager_in_a_foreign_thread(loop):
    # Only the loop's own thread may take steps.
    steps = []

    async def child():
        steps.append(threading.get_ident())

    def makes():
        tasks.append(hoop.Task(child(), loop=loop, eager_start=True))
        loop.call_soon_threadsafe(loop.stop)

    tasks = []
    loop.call_soon(in_thread, makes)
    loop.run_forever()
    loop.run_until_complete(tasks[0])
    assert steps == [threading.get_ident()]
