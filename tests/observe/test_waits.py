"""Locks with their owners, and all things that a task may wait for."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import weakref

import pytest
from lookers import cancel, port_of, turns, until, waits_of

import hoop
from hoop.observe import resources, snapshot

# ---- locks, queues and the like ----------------------------------------------------------------------


async def take(lock):
    async with lock:
        pass


@pytest.mark.parametrize("library", [hoop, asyncio], ids=["hoop", "asyncio"])
def test_a_lock_with_its_owner_and_its_waiters(run, library):
    async def hold(lock, go_on):
        async with lock:
            await go_on.wait()

    async def main():
        lock, go_on = library.Lock(), asyncio.Event()
        holder = asyncio.create_task(hold(lock, go_on))
        await turns()
        waiters = []
        for _ in range(3):
            waiters.append(asyncio.create_task(take(lock)))
            await asyncio.sleep(0.002)
        rows = resources.locks()
        again = resources.locks()
        waits = waits_of(*waiters)
        ids = holder._serial, tuple(task._serial for task in waiters)
        go_on.set()
        await asyncio.gather(holder, *waiters)
        return rows, again, waits, ids

    rows, again, waits, (holder, waiters) = run(main())
    (lock,) = [row for row in rows if row.kind == "lock"]
    assert lock.waiters == waiters
    assert lock.where == f"take {__file__}:{take.__code__.co_firstlineno + 1}"
    assert lock.since >= 0.005
    assert lock.id == next(row.id for row in again if row.kind == "lock")
    assert {wait.resource for wait in waits} == {lock.id}
    assert {wait.kind for wait in waits} == {"lock"}
    if library is hoop:
        assert lock.owner == holder
        assert {wait.owner for wait in waits} == {holder}
        assert waits[0].text == f"Lock held by {holder} (3 wait)"
    else:
        assert lock.owner is None
        assert "asyncio.Lock does not note by whom" in waits[0].text


def test_the_owner_of_a_lock_changes_hands(run):
    async def main():
        lock = hoop.Lock()
        assert lock._taken_by == 0
        await lock.acquire()
        me = asyncio.current_task()._serial
        assert lock._taken_by == me

        async def second():
            async with lock:
                return lock._taken_by

        task = asyncio.create_task(second())
        await turns()
        lock.release()
        assert lock._taken_by == 0
        assert await task == task._serial
        assert lock._taken_by == 0
        async with lock:
            assert lock._taken_by == me
        eager = hoop.Task(second(), loop=asyncio.get_running_loop(), eager_start=True)
        assert await eager == eager._serial

    run(main())


def test_owners_with_several_loops(new_loop):
    """Each loop's own task is the owner, in whichever thread."""
    barrier = threading.Barrier(2)

    async def main():
        for _ in range(50):
            lock = hoop.Lock()
            async with lock:
                assert lock._taken_by == asyncio.current_task()._serial
                await asyncio.sleep(0)
        barrier.wait()

    loops = [new_loop(), new_loop()]
    errors = []

    def work(loop):
        try:
            loop.run_until_complete(main())
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    loops[0].run_until_complete(asyncio.sleep(0))


def test_a_task_of_asyncio_in_another_thread_is_no_owner(run):
    """The loop of hoop is in the middle of a task's step meanwhile."""

    async def take_it(lock):
        async with lock:
            return lock._taken_by

    async def main():
        lock = hoop.Lock()
        found = []

        def other():
            loop = asyncio.SelectorEventLoop()
            found.append(loop.run_until_complete(take_it(lock)))
            loop.close()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return found

    assert run(main()) == [0]


def test_an_owner_is_not_kept_alive(run):
    async def main():
        lock = hoop.Lock()

        async def take_and_end():
            await lock.acquire()

        task = asyncio.create_task(take_and_end())
        await task
        gone = weakref.ref(task)
        number = task._serial
        del task
        gc.collect()
        return gone(), number == lock._taken_by

    assert run(main()) == (None, True)


@pytest.mark.parametrize("library", [hoop, asyncio], ids=["hoop", "asyncio"])
def test_all_kinds_of_things_to_wait_for(run, library):
    async def in_condition(condition):
        async with condition:
            await condition.wait()

    async def get(queue):
        await queue.get()

    async def put(queue):
        await queue.put(1)

    async def join(queue):
        await queue.join()

    async def wait(o):
        await o.wait()

    async def main():
        full, empty = library.Queue(3), library.Queue()
        unfinished = library.Queue()
        unfinished.put_nowait(1)
        for _ in range(3):
            full.put_nowait(1)
        semaphore = library.Semaphore(0)
        tasks = [
            asyncio.create_task(coro)
            for coro in (
                get(empty),
                put(full),
                join(unfinished),
                wait(library.Event()),
                in_condition(library.Condition()),
                take(semaphore),
                wait(library.Barrier(3)),
            )
        ]
        await turns(6)
        rows, waits = resources.locks(), waits_of(*tasks)
        serials = [task._serial for task in tasks]
        await cancel(*tasks)
        return rows, waits, serials

    rows, waits, serials = run(main())
    kinds = ["queue", "queue", "queue", "event", "condition", "semaphore", "barrier"]
    assert [wait.kind for wait in waits] == kinds
    texts = {row.waiters[0]: row.text for row in rows}
    assert [texts[serial] for serial in serials] == [
        "0 items",
        "3 of 3",
        "1 items",
        "not set",
        "",
        "0 free",
        "1 of 3",
    ]
    assert {row.kind for row in rows} == set(kinds)


def test_a_lock_of_a_subclass_runs_no_code(run):
    class Odd(asyncio.Lock):
        @property
        def _waiters(self):
            if sys._getframe(1).f_globals["__name__"].startswith("hoop."):
                raise AssertionError("a property was read")
            return self.__dict__["own"]

        @_waiters.setter
        def _waiters(self, value):
            self.__dict__["own"] = value

        def __repr__(self):
            raise AssertionError("repr was called")

    async def main():
        lock = Odd()
        await lock.acquire()
        task = asyncio.create_task(take(lock))
        await turns()
        rows, (wait,) = resources.locks(), waits_of(task)
        lock.release()
        await task
        return rows, wait

    (row,), wait = run(main())
    assert (row.kind, wait.kind) == ("lock", "lock")


def test_no_reference_to_a_lock_outlives_a_look(run):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        task = asyncio.create_task(take(lock))
        await turns()
        resources.locks()
        snapshot()
        gone = weakref.ref(lock)
        await cancel(task)
        lock.release()
        del lock, task
        await turns()
        gc.collect()
        return gone()

    assert run(main()) is None


# ---- what tasks wait for besides -----------------------------------------------------------------------


def test_a_name(run, monkeypatch):
    asked, go_on = threading.Event(), threading.Event()

    def look_up(host, *args):
        asked.set()
        go_on.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    async def main():
        task = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("db.example", 80))
        await until(asked.is_set)
        try:
            (wait,) = waits_of(task)
            (pool,) = [pool for pool in resources.pools() if pool.kind == "names"]
        finally:
            go_on.set()
        await task
        return wait, pool

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    wait, pool = run(main())
    assert (wait.kind, wait.text) == ("name", "the name db.example")
    assert [(job.text, job.state) for job in pool.jobs] == [("db.example", "running")]
    assert (pool.busy, pool.queued, pool.threads) == (1, 0, 1)


def test_functions_in_the_executor(run):
    began, go_on = threading.Event(), threading.Event()

    def work():
        began.set()
        go_on.wait()

    def later():
        pass

    async def main():
        loop = asyncio.get_running_loop()
        from concurrent.futures import ThreadPoolExecutor

        loop.set_default_executor(ThreadPoolExecutor(1, "mine"))

        async def run_it(function):
            await loop.run_in_executor(None, function)

        tasks = [asyncio.create_task(run_it(f)) for f in (work, later)]
        await until(began.is_set)
        try:
            waits = waits_of(*tasks)
            (pool,) = [pool for pool in resources.pools() if pool.kind == "executor"]
        finally:
            go_on.set()
        await asyncio.gather(*tasks)
        await loop.shutdown_default_executor()
        return waits, pool

    waits, pool = run(main())
    places = [f"{f.__qualname__} {__file__}:{f.__code__.co_firstlineno}" for f in (work, later)]
    assert [wait.text for wait in waits] == [f"{place} in an executor" for place in places]
    assert {wait.kind for wait in waits} == {"executor"}
    assert [(job.text, job.state) for job in pool.jobs] == [
        (places[0], "running"),
        (places[1], "queued"),
    ]
    assert (pool.name, pool.threads, pool.threads_max, pool.busy, pool.queued) == (
        "mine",
        1,
        1,
        1,
        1,
    )


def test_a_file(run, tmp_path):
    """A task that opens a pipe waits for its other end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def read():
        async with hoop.open(path, "rb") as file:
            return await file.read()

    async def main():
        task = asyncio.create_task(read())

        def reads():
            (wait,) = waits_of(task)
            return wait is not None and wait.text.startswith("read ")

        await until(reads)
        await asyncio.sleep(0.01)
        (wait,) = waits_of(task)
        pools = [pool for pool in resources.pools() if pool.kind == "files"]
        fd = await asyncio.get_running_loop().run_in_executor(None, os.open, path, os.O_WRONLY)
        os.write(fd, b"x")
        os.close(fd)
        assert await task == b"x"
        return wait, pools

    wait, (pool,) = run(main())
    assert wait.kind == "file"
    assert wait.text.endswith(str(path))
    (job,) = pool.jobs
    assert job.text == wait.text
    assert job.since >= 0.005


def test_a_child(run):
    async def wait_for(process):
        await process.wait()

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
        )
        task = asyncio.create_task(wait_for(process))
        await turns()
        (wait,) = waits_of(task)
        children = resources.children()
        process.stdin.close()
        await task
        return wait, children, process.pid, resources.children(), task._serial

    wait, (child,), pid, later, waiter = run(main())
    assert (wait.kind, wait.text) == ("child", f"the child {pid} {sys.executable}")
    assert (child.pid, child.program, child.status) == (pid, sys.executable, None)
    assert child.age > 0
    assert child.waiters == (waiter,)
    assert later == ()


def test_a_connection_and_a_socket(run):
    async def main():
        loop = asyncio.get_running_loop()

        async def serve(reader, writer):
            await reader.read(100)
            writer.close()

        server = await hoop.start_server(serve, "127.0.0.1", 0)
        port = port_of(server)
        reader, writer = await hoop.open_connection("127.0.0.1", port)

        async def read():
            await reader.readline()

        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        async def receive():
            await loop.sock_recv(ours, 100)

        tasks = [asyncio.create_task(read()), asyncio.create_task(receive())]
        await turns()
        waits = waits_of(*tasks)
        fds = writer.get_extra_info("socket").fileno(), ours.fileno()
        await cancel(*tasks)
        ours.close()
        theirs.close()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await until(lambda: not resources.connections())
        return waits, fds, port

    (connection, sock), fds, port = run(main())
    assert (connection.kind, connection.peer) == ("connection", f"127.0.0.1:{port}")
    assert connection.text == f"StreamReader.readline of 127.0.0.1:{port}"
    assert (sock.kind, sock.text) == ("socket", "sock_recv")
    assert (connection.fd, sock.fd) == fds


def test_both_kinds_of_sleep(run):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(100)), asyncio.create_task(hoop.sleep(200))]
        await turns()
        waits = waits_of(*tasks)
        await cancel(*tasks)
        return waits

    waits = run(main())
    assert [wait.kind for wait in waits] == ["sleep", "sleep"]
    assert [round(wait.left) for wait in waits] == [100, 200]


def test_asyncios_own_are_known_after_install_too(python):
    """hoop.observe may come after hoop.install(), and a lock may have been made before that."""
    code = """
        import asyncio
        stock = asyncio.Lock(), asyncio.sleep
        import hoop
        hoop.install()
        import hoop.observe
        async def take(lock):
            async with lock:
                pass
        async def main():
            locks = stock[0], asyncio.Lock()
            for lock in locks:
                await lock.acquire()
            tasks = [asyncio.create_task(take(lock)) for lock in locks]
            tasks += [asyncio.create_task(sleep(10)) for sleep in (stock[1], asyncio.sleep)]
            await asyncio.sleep(0)
            ids = [task._serial for task in tasks]
            waits = {task.id: task.waits_for for task in hoop.observe.snapshot().tasks}
            print([waits[number].kind for number in ids])
            for task in tasks:
                task.cancel()
        hoop.run(main())
        """
    assert python(code) == "['lock', 'lock', 'sleep', 'sleep']\n"
