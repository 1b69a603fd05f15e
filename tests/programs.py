"""Random small asyncio programs, and the record of what happened when one ran.

A program is made from a seed: a few futures, a few tasks with a script each, some callbacks and timers.
Running it writes a list of events, each with the number of the turn in which it happened. Two loops that
schedule alike write the same list. Nothing depends on the clock: all timers are due already, with
deadlines that differ.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import random
import re
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

FUTURES = 5
TASKS = 4
STEPS = 7
ROUNDS = 12  # of cancelling everything, until the program has ended

where = contextvars.ContextVar("where", default="outside")


class Failure(Exception):
    """The exception that programs raise."""


class YieldsNone:
    """Awaits a number of bare yields, and says what was thrown into it."""

    def __init__(self, program: Program, n: int) -> None:
        self.program = program
        self.n = n

    def __await__(self):
        for i in range(self.n):
            try:
                yield
            except BaseException as exc:
                self.program.note("thrown at a bare yield", i, describe(exc))
                raise
        return self.n


class Inside:
    """Awaits a future by a generator of its own."""

    def __init__(self, program: Program, future: asyncio.Future) -> None:
        self.program = program
        self.future = future

    def __await__(self):
        try:
            return (yield from self.future)
        except BaseException as exc:
            self.program.note("thrown at the yield", describe(exc))
            raise


class BadYield:
    """Yields something that no task can wait for."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __await__(self):
        return (yield self.what)


def by_number(name: str) -> tuple[str, int]:
    """A sort key for names such as "task 10" and "Task-9"."""
    return name[:4], int(re.sub(r"\D+", "", name) or 0)


def describe(outcome: Any) -> Any:
    """A result or an exception without addresses and without the names of classes that may differ."""
    if isinstance(outcome, BaseExceptionGroup):
        return (type(outcome).__name__, [describe(exc) for exc in outcome.exceptions])
    if isinstance(outcome, RuntimeError):
        return ("RuntimeError", str(outcome).split(" in task")[0].split(" <")[0])
    if isinstance(outcome, BaseException):
        return (type(outcome).__name__, outcome.args)
    if isinstance(outcome, (str, int, type(None), bool)):
        return outcome
    if isinstance(outcome, (list, tuple)):
        return [describe(one) for one in outcome]
    return "something"


class Script(NamedTuple):
    """Which script is running: numbers grow, so that scripts only wait for later ones."""

    number: int
    depth: int


class Program:
    """One program on one loop."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.create_task: Callable[..., asyncio.Task] = loop.create_task
        self.dice = random.Random(seed)
        self.events: list[Any] = []
        self.turn = 0
        self.over = False
        self.scripts = 0
        self.futures = [loop.create_future() for _ in range(FUTURES)]
        self.tasks: dict[str, asyncio.Task] = {}
        self.callbacks: list[Callable[[Any], None]] = []
        self.handles: list[asyncio.Handle] = []
        self.lock, self.event = asyncio.Lock(), asyncio.Event()
        self.condition, self.semaphore = asyncio.Condition(), asyncio.Semaphore(2)
        self.queue: asyncio.Queue = asyncio.Queue(2)
        self.start = loop.time() - 1.0
        self.steps = [
            step for name, step in sorted(vars(Program).items()) if name.startswith("do_")
        ]

    def note(self, *event: Any) -> None:
        """Write an event down, with who is running."""
        current = asyncio.current_task(self.loop)
        name = None if current is None else current.get_name().split("-")[0].replace("None", "Task")
        self.events.append((self.turn, name, where.get(), *event))

    def tick(self) -> None:
        """Count the turns."""
        self.turn += 1
        if not self.over:
            self.loop.call_soon(self.tick)

    # ---- what a task's script is made of ----

    async def script(self, dice: random.Random, me: Script) -> Any:
        """Take some random steps, and note what comes of each."""
        self.note("began")
        for _ in range(dice.randrange(1, STEPS)):
            step = dice.choice(self.steps)
            name = step.__name__[3:]
            try:
                self.note(name, "...")
                self.note(name, describe(await step(self, dice, me)))
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                self.note(name, describe(exc), task.cancelling())
                if dice.random() < 0.6:
                    raise
                if dice.random() < 0.5:
                    self.note("uncancelled", task.uncancel())
            except (Exception, BaseExceptionGroup) as exc:
                self.note(name, describe(exc))
                if dice.random() < 0.2:
                    raise
        return dice.randrange(100)

    def child(self, dice: random.Random, me: Script) -> Coroutine[Any, Any, Any]:
        """A coroutine for one more task."""
        self.scripts += 1
        if me.depth >= 2 or self.scripts > 16:
            return asyncio.sleep(0, "leaf")
        return self.script(random.Random(dice.randrange(10**9)), Script(self.scripts, me.depth + 1))

    def spawn(self, dice: random.Random, me: Script) -> asyncio.Task:
        """One more task, known by name."""
        coro = self.child(dice, me)
        name = f"task {self.scripts}"
        task = self.tasks[name] = self.create_task(coro, name=name)
        return task

    def any_task(self, dice: random.Random) -> asyncio.Task | None:
        """Some task of the program."""
        return dice.choice(list(self.tasks.values())) if self.tasks else None

    def later_task(self, dice: random.Random, me: Script) -> asyncio.Task | None:
        """Some task made after this script: so no two tasks ever wait for each other."""
        later = [task for name, task in self.tasks.items() if int(name.split()[1]) > me.number]
        return dice.choice(later) if later else None

    async def do_sleep(self, dice, me):
        return await asyncio.sleep(0, "slept")

    async def do_sleep_twice(self, dice, me):
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def do_bare_yields(self, dice, me):
        return await YieldsNone(self, dice.randrange(4))

    async def do_await_future(self, dice, me):
        return await dice.choice(self.futures)

    async def do_await_inside(self, dice, me):
        return await Inside(self, dice.choice(self.futures))

    async def do_bad_yield(self, dice, me):
        return await BadYield(dice.choice([1, "text", self.futures[0]]))

    async def do_new_future(self, dice, me):
        self.futures[dice.randrange(FUTURES)] = self.loop.create_future()

    async def do_set_result(self, dice, me):
        dice.choice(self.futures).set_result(dice.choice([None, 1, "two", (3, 4)]))

    async def do_set_exception(self, dice, me):
        dice.choice(self.futures).set_exception(
            dice.choice([Failure("set"), KeyError, ValueError(1, 2)])
        )

    async def do_cancel_future(self, dice, me):
        return dice.choice(self.futures).cancel(*dice.choice([(), ("future's",)]))

    async def do_cancel_task(self, dice, me):
        task = self.any_task(dice)
        if task is not None:
            return [task.cancel(*dice.choice([(), ("because",)])), task.cancelling()]

    async def do_cancel_self(self, dice, me):
        return asyncio.current_task().cancel("myself")

    async def do_uncancel(self, dice, me):
        return asyncio.current_task().uncancel()

    async def do_spawn(self, dice, me):
        self.spawn(dice, me)

    async def do_spawn_and_await(self, dice, me):
        return await self.spawn(dice, me)

    async def do_spawn_in_context(self, dice, me):
        context = contextvars.copy_context()
        context.run(where.set, f"context {dice.randrange(9)}")
        coro = self.child(dice, me)
        name = f"task {self.scripts}"
        self.tasks[name] = self.create_task(coro, name=name, context=context)

    async def do_await_task(self, dice, me):
        task = self.later_task(dice, me)
        if task is not None:
            return await task

    async def do_await_self(self, dice, me):
        return await asyncio.current_task()

    async def do_shield(self, dice, me):
        task = self.later_task(dice, me)
        if task is not None:
            return await asyncio.shield(task)

    async def do_gather(self, dice, me):
        some = [self.spawn(dice, me), dice.choice(self.futures), self.child(dice, me)]
        return await asyncio.gather(*some, return_exceptions=dice.random() < 0.5)

    async def do_wait(self, dice, me):
        some = [self.spawn(dice, me), self.spawn(dice, me), dice.choice(self.futures)]
        when = dice.choice(
            [asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED]
        )
        done, pending = await asyncio.wait(some, return_when=when)
        return [len(done), len(pending)]

    async def do_wait_for(self, dice, me):
        return await asyncio.wait_for(self.child(dice, me), dice.choice([None, 0, -1]))

    async def do_timeout(self, dice, me):
        async with asyncio.timeout(dice.choice([None, 0, -1])):
            await self.child(dice, me)

    async def do_group(self, dice, me):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.child(dice, me))  # two would be cancelled in any order
            await asyncio.sleep(0)
            await dice.choice(self.futures)

    async def do_lock(self, dice, me):
        async with self.lock:
            await asyncio.sleep(0)
            return "held"

    async def do_semaphore(self, dice, me):
        async with self.semaphore:
            await dice.choice(self.futures)

    async def do_event_wait(self, dice, me):
        return await self.event.wait()

    async def do_event_set(self, dice, me):
        (self.event.set if dice.random() < 0.6 else self.event.clear)()

    async def do_condition_wait(self, dice, me):
        async with self.condition:
            return await self.condition.wait()

    async def do_condition_notify(self, dice, me):
        async with self.condition:
            self.condition.notify(dice.randrange(3))

    async def do_put(self, dice, me):
        await self.queue.put(dice.randrange(9))

    async def do_get(self, dice, me):
        return await self.queue.get()

    async def do_raise(self, dice, me):
        raise dice.choice([Failure("raised"), asyncio.CancelledError("raised"), TimeoutError()])

    async def do_look(self, dice, me):
        task = self.any_task(dice)
        if task is not None:
            state = [task.done(), task.cancelled(), task.cancelling(), task._state]
            if task.done() and not task.cancelled():
                state.append(describe(task.exception()))
            return state

    async def do_read_twice(self, dice, me):
        outcomes = []
        for future in (self.any_task(dice), dice.choice(self.futures)):
            for _ in range(2 if future is not None and future.done() else 0):
                try:
                    outcomes.append(future.result())
                except BaseException as exc:
                    outcomes.append(exc)
        return outcomes

    async def do_set_variable(self, dice, me):
        where.set(f"place {dice.randrange(9)}")

    async def do_call_soon(self, dice, me):
        number = len(self.handles)
        self.handles.append(
            self.loop.call_soon(self.callback, "soon", number, dice.randrange(10**9))
        )

    async def do_call_soon_threadsafe(self, dice, me):
        self.loop.call_soon_threadsafe(self.callback, "threadsafe", -1, dice.randrange(10**9))

    async def do_timers(self, dice, me):
        for offset in dice.sample(range(1000), 3):
            number = len(self.handles)
            deadline = self.start + offset / 1000 + number * 1e-6
            arguments = ("timer", number, dice.randrange(10**9))
            self.handles.append(self.loop.call_at(deadline, self.callback, *arguments))

    async def do_cancel_handle(self, dice, me):
        if self.handles:
            dice.choice(self.handles).cancel()

    async def do_add_callback(self, dice, me):
        future = dice.choice([self.any_task(dice), *self.futures])
        number = len(self.callbacks)
        if future is not None:
            self.callbacks.append(
                lambda done: self.note("told", number, done.done(), done.cancelled())
            )
            future.add_done_callback(self.callbacks[-1])

    async def do_remove_callback(self, dice, me):
        future = dice.choice([self.any_task(dice), *self.futures])
        if self.callbacks and future is not None:
            return future.remove_done_callback(dice.choice(self.callbacks))

    def callback(self, kind: str, number: int, seed: int) -> None:
        """The callback of call_soon and timers: note it, then do one thing that needs no task."""
        self.note(kind, number)
        dice = random.Random(seed)
        what = dice.randrange(7)
        if what == 0:
            self.spawn(dice, Script(0, 1))
        elif what == 1 and self.any_task(dice) is not None:
            self.note("cancels", self.any_task(dice).cancel("by a callback"))
        elif what == 2 and not self.futures[0].done():
            self.futures[0].set_result("by a callback")
        elif what == 3:
            raise Failure("in a callback")
        elif what == 4:
            self.loop.call_soon(self.note, "by a callback", number)

    # ---- from beginning to end ----

    async def main(self) -> list[Any]:
        """Run the program; cancel what is left until nothing is."""
        self.loop.set_exception_handler(self.report)
        self.tick()
        for _ in range(TASKS):
            self.spawn(self.dice, Script(0, 0))
        for _ in range(6):
            await asyncio.sleep(0)
        for i in range(ROUNDS):
            self.note("round", i)
            left = [task for task in self.everything() if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel("the end")
            for _ in range(5):
                await asyncio.sleep(0)
        for name, task in self.tasks.items():
            self.note("end of", name, task.done(), task.cancelled(), task.cancelling())
        for future in self.futures:
            self.note("future", future._state)
        self.over = True
        await asyncio.sleep(0)
        return self.events

    def everything(self) -> list[asyncio.Task]:
        """All tasks but this one, in an order that does not depend on the loop."""
        me = asyncio.current_task()
        found = [task for task in asyncio.all_tasks() if task is not me]
        return sorted(found, key=lambda t: (getattr(t, "born", 0), by_number(t.get_name())))

    def report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler. A message at an object's death is not an event."""
        message = context["message"]
        if "never retrieved" not in message and "destroyed" not in message:
            self.note(
                "reported", message.split(" in callback")[0], describe(context.get("exception"))
            )


def with_tasks(task_class: type, *, eager: bool = False) -> Callable[[Program], None]:
    """A change to a program: all its tasks are of a class, and perhaps start eagerly."""
    options = {"eager_start": True} if eager else {}

    count = itertools.count()

    def factory(loop, coro, **keywords):
        born = next(count)
        task = task_class(coro, loop=loop, **options, **keywords)
        task.born = born  # Python 3.13.0 names tasks of a factory "None"
        return task

    def prepare(program: Program) -> None:
        # The program names its tasks itself: old create_task()s do it only after the eager start.
        program.create_task = functools.partial(factory, program.loop)
        program.loop.set_task_factory(factory)

    return prepare


def run_program(
    seed: int, loop: asyncio.AbstractEventLoop, prepare: Callable[[Program], None] | None = None
) -> list[Any]:
    """Run the program of a seed on a loop, which is closed afterwards; returns its events."""

    async def main():
        program = Program(seed, loop)
        if prepare is not None:
            prepare(program)
        return await program.main()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())
