"""hoop.observe.snapshot() shows loops and tasks, and runs no code of the program."""

from __future__ import annotations

import _asyncio
import asyncio
import gc
import json
import sys
import threading
import time
import weakref

import pytest

import hoop
import hoop.observe
from hoop.observe.snapshot import Cycles, cycles_of


async def turns(n=3):
    """Let the other tasks reach what they wait for."""
    for _ in range(n):
        await asyncio.sleep(0)


def by_name(snapshot):
    return {task.name: task for task in snapshot.tasks}


async def look_at(**coros):
    """Start tasks of these names, look at them while they wait, and cancel them."""
    tasks = [asyncio.get_running_loop().create_task(c, name=name) for name, c in coros.items()]
    await turns()
    found = hoop.observe.snapshot()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return by_name(found), found


def test_states_and_loop(run, driver):
    async def main():
        asyncio.current_task().set_name("main")
        waits = asyncio.create_task(asyncio.sleep(100), name="waits")
        await turns()
        ready = asyncio.create_task(turns(), name="ready")
        found = hoop.observe.snapshot()
        waits.cancel()
        await asyncio.gather(waits, ready, return_exceptions=True)
        return found

    found = run(main())
    states = {name: task.state for name, task in by_name(found).items()}
    assert states == {"main": "running", "waits": "waiting", "ready": "ready"}
    (loop,) = found.loops
    assert loop.driver == driver
    assert loop.thread == threading.current_thread().name
    assert loop.tasks == {"running": 1, "ready": 1, "waiting": 1}
    assert found.total == 3
    json.dumps(found.as_json())


def test_tasks_of_asyncios_own_class(run):
    """Some libraries make those by name. They are shown with all that such a task knows."""

    async def outer(lock, inner):
        async with lock:
            await inner

    async def sleeps():
        await asyncio.sleep(100)

    async def runs(found):
        found.append(hoop.observe.snapshot())

    async def main():
        loop = asyncio.get_running_loop()
        lock, found = asyncio.Lock(), []
        inner = _asyncio.Task(sleeps(), loop=loop, name="inner")
        tasks = [
            inner,
            _asyncio.Task(outer(lock, inner), loop=loop, name="first"),
            _asyncio.Task(outer(lock, inner), loop=loop, name="second"),
        ]
        hoops = asyncio.create_task(outer(asyncio.Lock(), inner), name="hoop's")
        await turns()
        await _asyncio.Task(runs(found), loop=loop, name="runs")
        found.append(hoop.observe.snapshot())
        hoops.cancel()
        tasks[2].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, hoops, return_exceptions=True)
        return found

    first, second = map(by_name, run(main()))
    assert {"inner", "first", "second", "hoop's"} < set(second)
    assert "runs" not in second
    assert first["runs"].state == "running"
    ids = [task.id for task in second.values()]
    assert len(set(ids)) == len(ids)
    assert {name: first[name].id for name in ("inner", "first")} == {
        name: second[name].id for name in ("inner", "first")
    }
    inner = second["inner"]
    assert (inner.state, inner.waits_for.kind) == ("waiting", "sleep")
    assert inner.coroutine == sleeps.__qualname__
    assert set(inner.awaited_by) == {second["first"].id, second["hoop's"].id}
    assert second["first"].waits_for.targets == (inner.id,)
    assert second["hoop's"].waits_for.targets == (inner.id,)
    assert second["second"].waits_for.kind == "lock"
    assert second["first"].stack[-1].line == outer.__code__.co_firstlineno + 2
    assert (inner.age, inner.since, inner.site) == (0, 0, None)  # those are not known


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has eager tasks from 3.12 on")
@pytest.mark.parametrize("cls", [_asyncio.Task, hoop.Task])
def test_eager_tasks(run, cls):
    """Such a task runs within the one that makes it."""

    async def steps(found):
        found.append(by_name(hoop.observe.snapshot()))
        await asyncio.sleep(0.01)
        found.append(by_name(hoop.observe.snapshot()))

    async def main():
        found = []
        await cls(steps(found), loop=asyncio.get_running_loop(), name="eager", eager_start=True)
        return found

    during, after = run(main())
    assert during["eager"].state == after["eager"].state == "running"


def test_tasks_of_another_loop_are_not_mixed_in(run):
    """asyncio keeps the tasks of all loops in one set."""

    async def sleeps():
        await asyncio.sleep(100)

    async def main():
        other = asyncio.SelectorEventLoop()
        theirs = _asyncio.Task(coro := sleeps(), loop=other, name="theirs")
        found = by_name(hoop.observe.snapshot())
        theirs._log_destroy_pending = False
        other.close()
        coro.close()
        return found

    assert "theirs" not in run(main())


def test_stack_ends_where_the_task_waits(run):
    async def inner(event):
        await event.wait()

    async def outer(event):
        await inner(event)

    async def main():
        return await look_at(t=outer(hoop.Event()))

    tasks, _ = run(main())
    names = [frame.name.rpartition(".")[2] for frame in tasks["t"].stack]
    lines = [frame.line for frame in tasks["t"].stack]
    assert names == ["outer", "inner"]
    assert lines == [outer.__code__.co_firstlineno + 1, inner.__code__.co_firstlineno + 1]
    assert {frame.file for frame in tasks["t"].stack} == {__file__}
    assert tasks["t"].coroutine == outer.__qualname__


async def take(lock):
    async with lock:
        pass


async def in_group(lock):
    async with asyncio.TaskGroup() as group:
        group.create_task(take(lock), name="member")


async def in_our_group(lock):
    async with hoop.TaskGroup() as group:
        group.create_task(take(lock), name="member")


async def wait_for_one(lock):
    task = asyncio.create_task(take(lock), name="member")
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()


async def gather_two(lock):
    await asyncio.gather(asyncio.create_task(take(lock), name="member"))


async def gather_two_by_ours(lock):
    await hoop.gather(asyncio.create_task(take(lock), name="member"))


async def wait_for_one_by_ours(lock):
    task = asyncio.create_task(take(lock), name="member")
    try:
        await hoop.wait([task])
    finally:
        task.cancel()


async def shielded_by_ours(lock):
    task = asyncio.create_task(take(lock), name="member")
    try:
        await hoop.shield(task)
    finally:
        task.cancel()


async def wait_for_task(lock):
    await asyncio.create_task(take(lock), name="member")


async def shielded(lock):
    task = asyncio.create_task(take(lock), name="member")
    try:
        await asyncio.shield(task)
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("waiter", "kind"),
    [
        (wait_for_task, "task"),
        (in_group, "tasks"),
        (in_our_group, "tasks"),
        (gather_two_by_ours, "tasks"),
        (shielded_by_ours, "tasks"),
        (wait_for_one_by_ours, "tasks"),
        (gather_two, "tasks"),
        (wait_for_one, "tasks"),
        (shielded, "tasks"),
    ],
)
def test_who_awaits_whom(run, waiter, kind):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        return await look_at(waiter=waiter(lock))

    tasks, _ = run(main())
    assert tasks["waiter"].waits_for.kind == kind
    assert tasks["waiter"].waits_for.targets == (tasks["member"].id,)
    assert tasks["member"].awaited_by == (tasks["waiter"].id,)
    assert tasks["member"].waits_for.kind == "lock"


def test_what_hoop_s_own_objects_are_called(run):
    async def main():
        lock = hoop.Lock()
        await lock.acquire()
        semaphore = hoop.Semaphore(0)
        queue = hoop.Queue()
        return await look_at(
            lock=take(lock),
            semaphore=semaphore.acquire(),
            queue=queue.get(),
            event=hoop.Event().wait(),
            sleep=hoop.sleep(100),
        )

    tasks, _ = run(main())
    for name in ("lock", "semaphore", "queue", "event", "sleep"):
        assert tasks[name].waits_for.kind == name
    assert tasks["queue"].waits_for.text == "Queue.get, 0 items"
    assert 99 < tasks["sleep"].waits_for.left <= 100


def test_a_timer_an_executor_and_a_future(run):
    release = threading.Event()

    async def in_executor():
        await asyncio.get_running_loop().run_in_executor(None, release.wait)

    async def on(future):
        await future

    async def main():
        loop = asyncio.get_running_loop()
        timed, alone = loop.create_future(), loop.create_future()
        timer = loop.call_later(100, asyncio.futures._set_result_unless_cancelled, timed, None)
        try:
            return await look_at(timer=on(timed), executor=in_executor(), future=on(alone))
        finally:
            timer.cancel()
            release.set()

    tasks, _ = run(main())
    assert {n: tasks[n].waits_for.kind for n in ("timer", "executor", "future")} == {
        "timer": "timer",
        "executor": "executor",
        "future": "future",
    }


@pytest.fixture
def clock(monkeypatch):
    """A clock for confirming cycles, which the test moves on."""
    now = [1]
    fresh = Cycles()
    confirm = fresh.confirm
    monkeypatch.setattr(fresh, "confirm", lambda graph, _: confirm(graph, now[0]))
    monkeypatch.setattr(sys.modules["hoop.observe.snapshot"], "cycles", fresh)

    def move(seconds):
        now[0] += int(seconds * 1e9)

    return move


async def stuck(tasks, clock):
    """Look at tasks that cannot go on: at once, and a second later. Then end them."""
    await turns(5)
    first = hoop.observe.snapshot()
    clock(0.9)
    soon = hoop.observe.snapshot()
    clock(0.2)
    later = hoop.observe.snapshot()
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert first.cycles == soon.cycles == ()
    return later


def test_a_cycle_of_tasks(run, clock):
    async def on(tasks, name):
        await tasks[name]

    async def on_any(tasks, name):
        await asyncio.wait([tasks[name]])

    async def main():
        tasks = {}
        tasks["a"] = asyncio.create_task(on(tasks, "b"), name="a")
        tasks["b"] = asyncio.create_task(on_any(tasks, "a"), name="b")
        await turns()
        first = hoop.observe.snapshot()
        clock(1.1)
        found = hoop.observe.snapshot()
        tasks["b"].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return first, found

    first, found = run(main())
    tasks = by_name(found)
    assert first.cycles == ()
    (cycle,) = found.cycles
    assert set(cycle.tasks) == {tasks["a"].id, tasks["b"].id}
    assert f"{tasks['a'].id} awaits {tasks['b'].id}" in cycle.text
    assert 1 < cycle.lasted < 1.2


def test_a_cycle_through_two_locks(run, clock):
    async def take_both(first, second, other):
        async with first:
            await other.wait()
            async with second:
                pass

    async def main():
        a, b, both = hoop.Lock(), hoop.Lock(), hoop.Event()
        tasks = {
            "x": asyncio.create_task(take_both(a, b, both), name="x"),
            "y": asyncio.create_task(take_both(b, a, both), name="y"),
        }
        await turns()
        both.set()
        return await stuck(tasks, clock)

    found = run(main())
    tasks = by_name(found)
    x, y = tasks["x"], tasks["y"]
    (cycle,) = found.cycles
    assert set(cycle.tasks) == {x.id, y.id}
    assert f"{x.id} waits for a lock held by {y.id}" in cycle.text
    assert (x.waits_for.owner, y.waits_for.owner) == (y.id, x.id)
    assert x.waits_for.text == f"Lock held by {y.id}"
    assert x.waits_for.resource != y.waits_for.resource


def test_a_cycle_of_a_group_and_its_member(run, clock):
    """The parent holds a lock that one of several members of its group wants."""

    async def member(lock):
        async with lock:
            pass

    async def parent(lock):
        async with lock, asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(member(lock), name="member")

    async def main():
        tasks = {"parent": asyncio.create_task(parent(hoop.Lock()), name="parent")}
        return await stuck(tasks, clock)

    found = run(main())
    tasks = by_name(found)
    (cycle,) = found.cycles
    assert set(cycle.tasks) == {tasks["parent"].id, tasks["member"].id}


def test_tasks_that_go_on_are_no_cycle(run, clock):
    """Two looks see the same tasks wait for each other's locks, but they took steps between them."""

    async def take_both(first, second, other):
        async with first:
            await other.wait()
            while True:
                try:
                    await asyncio.wait_for(second.acquire(), 0.001)
                except TimeoutError:
                    continue

    async def main():
        a, b, both = hoop.Lock(), hoop.Lock(), hoop.Event()
        tasks = [asyncio.create_task(take_both(*locks, both)) for locks in ((a, b), (b, a))]
        await turns()
        both.set()
        seen = []
        for _ in range(10):
            await asyncio.sleep(0.003)
            seen += hoop.observe.snapshot().cycles
            clock(1.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return seen

    assert run(main()) == []


def test_one_of_several_is_enough(run, clock):
    """A task that waits for the first of two is in no cycle with one of them."""

    async def on(tasks, name):
        await tasks[name]

    async def on_first(tasks, *names):
        await asyncio.wait([tasks[name] for name in names], return_when=asyncio.FIRST_COMPLETED)

    async def main():
        tasks = {}
        tasks["a"] = asyncio.create_task(on(tasks, "b"), name="a")
        tasks["c"] = asyncio.create_task(asyncio.sleep(100), name="c")
        tasks["b"] = asyncio.create_task(on_first(tasks, "a", "c"), name="b")
        return await stuck({"b": tasks["b"], "c": tasks["c"], "a": tasks["a"]}, clock)

    assert run(main()).cycles == ()


@pytest.mark.parametrize(
    ("needs", "cycles"),
    [
        ({1: (2,), 2: (1,), 3: (1,), 4: (5,)}, [(1, 2)]),
        ({1: (1,)}, [(1,)]),
        ({3: (1,), 1: (2,), 2: (1,)}, [(1, 2)]),
        ({1: (2, 3), 2: (1,), 3: ()}, [(1, 2)]),
        ({1: (2, 3), 2: (4,), 3: (4,), 4: ()}, []),
        ({1: (2,), 2: (3,), 3: (1, 4), 4: (5,), 5: (4,)}, [(1, 2, 3), (4, 5)]),
    ],
)
def test_cycles_are_told_from_what_leads_to_them(needs, cycles):
    assert cycles_of(needs) == cycles


def test_a_long_chain_is_no_cycle():
    assert cycles_of({n: (n + 1,) for n in range(100_000)}) == []


class Hostile:
    """An object that fails the test if anybody asks it anything."""

    def __getattribute__(self, name):
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise AssertionError(f"read {name}")

    def __repr__(self):
        raise AssertionError("repr was called")

    __str__ = __hash__ = __repr__

    def __eq__(self, other):
        raise AssertionError("compared")


class HostileTask(hoop.Task):
    """A task whose names mean something else."""

    @property
    def _coro(self):
        raise AssertionError("a property was read")

    _polls = _born = _serial = _busy_ns = _created_at = _fut_waiter = _callbacks = _since = _coro

    def get_name(self):
        raise AssertionError("a method was called")

    cancelling = __repr__ = get_name


class HostileAwaitable:
    def __await__(self):
        return HostileIterator()


class HostileIterator:
    """An iterator in place of a coroutine, which tells nothing about itself."""

    def __iter__(self):
        return self

    def __next__(self):
        return None

    @property
    def gi_yieldfrom(self):
        raise AssertionError("a property was read")

    cr_await = ag_await = cr_code = cr_frame = gi_yieldfrom


async def holds(hostile):
    await HostileAwaitable()


def test_no_code_of_the_program_runs(run):
    async def main():
        loop = asyncio.get_running_loop()
        task = HostileTask(holds(Hostile()), loop=loop)
        await turns()
        found = hoop.observe.snapshot()
        task.cancel()
        await turns()
        return found

    assert [t.coroutine for t in run(main()).tasks if t.coroutine == "holds"] == ["holds"]


class Thing:
    """The value of a variable of a coroutine."""


def test_no_reference_outlives_a_look(run):
    async def keep(thing, event):
        await event.wait()

    async def main():
        thing, event = Thing(), hoop.Event()
        gone = weakref.ref(thing)
        task = asyncio.create_task(keep(thing, event))
        del thing
        await turns()
        found = hoop.observe.snapshot()
        task_gone = weakref.ref(task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        await turns()
        gc.collect()
        return found, gone(), task_gone()

    found, thing, task = run(main())
    assert thing is None
    assert task is None
    assert found.total == 2


def test_top_and_sort(run):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(100), name=str(i)) for i in range(700)]
        await turns()
        found = hoop.observe.snapshot(top=5, sort="polls")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return found

    found = run(main())
    assert (found.total, len(found.tasks)) == (701, 5)
    polls = [task.polls for task in found.tasks]
    assert polls == sorted(polls, reverse=True)


@pytest.mark.parametrize("wrong", [{"sort": "colour"}, {"top": -1}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        hoop.observe.snapshot(**wrong)


def test_a_blocked_loop_is_seen_from_another_thread(loop):
    """The loop's thread stands still in a callback while this one looks at more tasks than a slice has."""
    blocked, go_on = threading.Event(), threading.Event()

    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(100)) for _ in range(1200)]
        await turns()
        blocked.set()
        go_on.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), name="blocked one")
    thread.start()
    blocked.wait()
    try:
        found = hoop.observe.snapshot(top=2000)
    finally:
        go_on.set()
        thread.join()
    (view,) = [view for view in found.loops if view.thread == "blocked one"]
    assert view.tasks == {"running": 1, "ready": 0, "waiting": 1200}
    (running,) = [task for task in found.tasks if task.state == "running"]
    assert running.stack[0].line == main.__code__.co_firstlineno + 4


def test_it_is_not_imported_with_hoop(python):
    assert python("import sys, hoop; print('hoop.observe' in sys.modules)") == "False\n"


def test_a_task_made_before_the_loop_runs_has_an_age(new_loop):
    loop = new_loop()
    time.sleep(0.01)

    async def main():
        (task,) = hoop.observe.snapshot().tasks
        return task.age

    assert 0.01 <= loop.run_until_complete(main()) < 10
