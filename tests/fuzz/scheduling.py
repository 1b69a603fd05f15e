"""Actions on callbacks, timers, futures, tasks, locks and queues."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import hostile
from hostile import Actor, Callback, HCoroutine, HError, Ordered, hostile_float, hostile_str
from world import BaseBoom, Boom, World, action

import hoop

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
DELAYS = (0, 0, 0.0, -1.0, 0.0001, 0.0005, 0.002, 10.0, float("nan"), float("inf"), 1e18)


# ---- callbacks and timers ----


@action(4)
def call_soon(world: World) -> None:
    world.add("handles", world.loop.call_soon(Callback(world), *range(world.dice.randrange(3))))


@action(3)
def call_in_order(world: World) -> None:
    if world.chance(0.5):
        world.loop.call_soon(Ordered(world))
    else:
        world.add("handles", world.loop.call_soon(Ordered(world)))


@action(2)
def call_in_context(world: World) -> None:
    context = world.get("contexts")
    expected = context[variable]

    def check() -> None:
        if variable.get(None) != expected:
            world.wrong(f"a callback saw {variable.get(None)} instead of {expected}")
        world.act("callback in a context")

    world.add("handles", world.loop.call_soon(check, context=context))


@action(2)
def make_context(world: World) -> None:
    context = contextvars.copy_context()
    context.run(variable.set, world.dice.randrange(1000))
    world.add("contexts", context)


@action(3)
def call_later(world: World) -> None:
    delay = hostile_float(world, world.dice.choice(DELAYS))
    world.add("handles", world.loop.call_later(delay, Callback(world)))


@action(2)
def call_at(world: World) -> None:
    loop = world.loop
    when = loop.time() + world.dice.choice((0.0, 0.001, 0.003))

    def check() -> None:
        if loop.time() + 1e-6 < when:
            world.wrong(f"a timer ran {when - loop.time()} s early")
        world.act("timer")
        world.may_raise()

    world.add("handles", loop.call_at(when, check))


@action(3)
def cancel_handle(world: World) -> None:
    handle = world.get("handles")
    handle.cancel()
    if not handle.cancelled():
        world.wrong("a cancelled handle is not")


@action()
def look_at_handles(world: World) -> None:
    one, other = world.get("handles"), world.get("handles")
    repr(one)
    hash(one)
    _ = one == other
    if hasattr(one, "when") and hasattr(other, "when"):
        _ = one < other
    _ = one._callback, one._args, one.get_context()


@action()
def many_timers(world: World) -> None:
    """Timers enough for the heap to be swept."""
    timers = [world.loop.call_later(5 + n * 0.01, Actor, world) for n in range(200)]
    world.dice.shuffle(timers)
    for timer in timers:
        timer.cancel()


@action()
def stop(world: World) -> None:
    world.loop.stop()


@action()
def misuse_the_loop(world: World) -> None:
    loop = world.loop
    call = world.dice.choice(
        (loop.close, loop.run_forever, loop._run_once, loop.counters, loop.__repr__)
    )
    if loop.is_running():
        call()


# ---- futures ----


@action(3)
def make_future(world: World) -> None:
    world.add("futures", world.loop.create_future())


@action(3)
def add_done_callback(world: World) -> None:
    future = world.get(world.dice.choice(("futures", "tasks")))
    callback = Callback(world)
    future.add_done_callback(callback)
    world.add("callbacks", callback)


@action(2)
def remove_done_callback(world: World) -> None:
    future = world.get(world.dice.choice(("futures", "tasks")))
    future.remove_done_callback(world.get("callbacks"))


@action(3)
def finish_future(world: World) -> None:
    future = world.get("futures")
    kind = world.dice.randrange(6)
    if kind < 3:
        future.set_result(world.dice.choice((None, 1, (), (1, 2), Boom("value"), Actor(world))))
    elif kind == 3:
        future.set_exception(Boom("in a future"))
    elif kind == 4:
        HError.world = world
        future.set_exception(HError)
    else:
        future.cancel(Actor(world))


@action(2)
def look_at_future(world: World) -> None:
    future = world.get(world.dice.choice(("futures", "tasks")))
    repr(future)
    if future.done() and not future.cancelled() and future.exception() is None:
        future.result()
    future.attribute = Actor(world)
    _ = future.__dict__, future._callbacks, future._state


@action()
def step_future_by_hand(world: World) -> None:
    future = world.get("futures")
    iterator = iter(future)
    step = world.dice.randrange(4)
    try:
        if step == 0:
            next(iterator)
        elif step == 1:
            iterator.send(Actor(world))
        elif step == 2:
            iterator.throw(Boom("thrown"))
        else:
            iterator.close()
    except StopIteration as stop:
        world.add("stops", stop)


@action()
def weak_references(world: World) -> None:
    thing = world.get(world.dice.choice(("futures", "tasks", "handles", "transports")))
    world.add("weak", weakref.ref(thing, lambda _: world.act("weak reference")))


@action(2)
def forget(world: World) -> None:
    world.drop(world.dice.choice(list(world.pools) or ["handles"]))


@action()
def make_cycle(world: World) -> None:
    """Garbage that only a collection finds, and that acts then."""
    future, actor = world.loop.create_future(), Actor(world)
    actor.future, actor.me = future, actor  # type: ignore[attr-defined]
    future.add_done_callback(lambda _: actor)


@action()
def collect(world: World) -> None:
    gc.collect(world.dice.randrange(2))


@action()
def collect_often(world: World) -> None:
    gc.set_threshold(world.dice.choice((1, 7, 50, 700)))


# ---- tasks ----


async def steps(world: World) -> Any:
    """A task that waits for anything, acts, and ends somehow."""
    for _ in range(world.dice.randrange(6)):
        try:
            await something(world)
        except asyncio.CancelledError:
            world.act("cancelled task")
            if world.ending or world.chance(0.7):
                raise
            if world.chance(0.5):
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
        except (Boom, asyncio.InvalidStateError, RuntimeError, TypeError, HError):
            pass
        world.act("task step")
        world.may_raise()
    return world.dice.choice((None, 1, (), (1,), Actor(world)))


async def something(world: World) -> None:
    kind = world.dice.randrange(12)
    if kind < 2:
        await asyncio.sleep(world.dice.choice((0, 0, 0.0005)))
    elif kind == 2:
        await hoop.sleep(hostile_float(world, world.dice.choice((0, 0.0005))), Actor(world))
    elif kind == 3:
        await world.get("futures")
    elif kind == 4:
        await world.get_task()
    elif kind == 5:
        await asyncio.shield(world.get_task())
    elif kind == 6:
        await asyncio.wait_for(world.get("futures"), 0.001)
    elif kind == 7:
        await asyncio.gather(world.get_task(), world.get("futures"), return_exceptions=True)
    elif kind == 8:
        await asyncio.wait([world.get_task(), world.get("futures")], timeout=0.001)
    elif kind == 9:
        async with asyncio.timeout(0.001):
            await world.loop.create_future()
    elif kind == 10:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            group.create_task(steps(world))
    else:
        await Odd(world)


class Odd:
    """Awaiting it yields what it should not."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __await__(self) -> Any:
        yield hostile.odd_yield(self.world)
        self.world.act("__await__")


@action(5)
def make_task(world: World) -> None:
    world.spawn(steps(world))


@action()
def make_odd_task(world: World) -> None:
    options: dict[str, Any] = {"name": hostile_str(world, "odd")}
    if world.chance(0.3):
        options["context"] = world.get("contexts").copy()  # nobody has entered it
    world.add("tasks", world.loop.create_task(HCoroutine(world), **options))


@action()
def make_eager_task(world: World) -> None:
    if hasattr(asyncio, "eager_task_factory") and world.loop.is_running():
        coro = steps(world)
        try:
            world.add("tasks", hoop.Task(coro, loop=world.loop, eager_start=True))
        finally:
            coro.close() if coro.cr_frame and not coro.cr_running and coro.cr_await is None else None


@action(3)
def cancel_task(world: World) -> None:
    world.get("tasks").cancel(*[Actor(world)] * world.dice.randrange(2))


@action()
def look_at_task(world: World) -> None:
    task = world.get("tasks")
    repr(task)
    task.get_stack()
    task.set_name(hostile_str(world, "name"))
    _ = task.get_name(), task.cancelling(), task.uncancel(), task.get_coro(), task._fut_waiter
    asyncio.all_tasks(world.loop)


# ---- locks and queues ----


class Item(Actor):
    """Items that priority queues have to compare."""


@action(2)
def make_sync(world: World) -> None:
    library = hoop if world.chance(0.8) else asyncio
    kind = world.dice.randrange(5)
    if kind == 0:
        world.add("locks", library.Lock())
    elif kind == 1:
        world.add("locks", library.Semaphore(world.dice.randrange(3)))
    elif kind == 2:
        world.add("events", library.Event())
    elif kind == 3:
        world.add("conditions", library.Condition())
    else:
        name = world.dice.choice(("Queue", "LifoQueue", "PriorityQueue"))
        queue = getattr(library, name)(hostile.hostile_int(world, world.dice.randrange(3)))
        world.add("queues", queue)


async def use_sync(world: World) -> None:
    for _ in range(world.dice.randrange(1, 5)):
        kind = world.dice.randrange(6)
        if kind == 0:
            async with world.get("locks"):
                world.act("lock held")
                await asyncio.sleep(0)
        elif kind == 1:
            await world.get("events").wait()
        elif kind == 2:
            condition = world.get("conditions")
            async with condition:
                world.act("condition held")
                if world.chance(0.5):
                    condition.notify(world.dice.randrange(3))
                else:
                    await condition.wait()
        elif kind == 3:
            await world.get("queues").put(Item(world))
        elif kind == 4:
            await world.get("queues").get()
        else:
            async with asyncio.timeout(0.001):
                await world.get("queues").join()
        world.act("after waiting")
        world.may_raise()


@action(3)
def make_sync_task(world: World) -> None:
    world.spawn(use_sync(world))


@action(3)
def sync_at_once(world: World) -> None:
    kind = world.dice.randrange(7)
    if kind == 0:
        world.get("locks").release()
    elif kind == 1:
        event = world.get("events")
        event.clear() if event.is_set() else event.set()
    elif kind == 2:
        world.get("queues").put_nowait(Item(world))
    elif kind == 3:
        world.get("queues").get_nowait()
    elif kind == 4:
        world.get("queues").task_done()
    elif kind == 5:
        repr(world.get(world.dice.choice(("locks", "events", "conditions", "queues"))))
    elif hasattr(asyncio.Queue, "shutdown"):
        world.get("queues").shutdown(world.chance(0.5))


@action()
def step_coroutine_by_hand(world: World) -> None:
    """A coroutine in C, driven by nobody, somebody, or twice."""
    coro = world.get("queues").get() if world.chance(0.5) else world.get("events").wait()
    world.add("coroutines", coro)
    other = world.get("coroutines")
    try:
        step = world.dice.randrange(3)
        if step == 0:
            world.add("futures", other.send(None))
        elif step == 1:
            other.throw(world.dice.choice((Boom("thrown"), asyncio.CancelledError())))
        else:
            other.close()
    except StopIteration as stop:
        world.add("stops", stop)


@action()
def keep_stop_iteration(world: World) -> None:
    """Exceptions that end awaits, kept and copied."""
    import copy

    stop = world.get("stops")
    repr(stop)
    world.add("stops", copy.copy(stop))


@action()
def async_generator(world: World) -> None:
    async def numbers() -> Any:
        try:
            for n in range(3):
                await asyncio.sleep(0)
                yield n
        finally:
            world.act("end of an asynchronous generator")

    async def use() -> None:
        async for n in numbers():
            world.act("asynchronous generator")
            if n == world.dice.randrange(3):
                break

    world.spawn(use())


@action()
def raise_base(world: World) -> None:
    if world.chance(0.1):
        raise BaseBoom("on purpose")
