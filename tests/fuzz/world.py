"""The state of a run of the fuzzer: dice, fuel, the objects made so far, and the findings.

Everything that hoop calls ends up in `World.act`, which takes a few random actions, and in `World.may_raise`.
Actions may fail in every way that asyncio documents: what a program gets for a wrong call is for other
tests to say. Wrong is what no call may do, and what a checked invariant forbids.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoop

PATTERN = random.Random(0).randbytes(1 << 18)
DEPTH_MAX = 4
POOL_MAX = 24
RUN_SECONDS = 4.0  # a run that has fuel left after this is ended all the same


class Boom(Exception):
    """Raised on purpose."""


class BaseBoom(SystemExit):
    """Raised on purpose, and let through by the loop."""


# Exceptions that a call may raise at an inappropriate time or for a hostile argument.
MAY_BE_RAISED = (
    Boom,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    BufferError,
    OverflowError,
    EOFError,
    AssertionError,  # asyncio's way to refuse some calls, and hoop's therefore
    GeneratorExit,
    asyncio.InvalidStateError,
    asyncio.CancelledError,
    asyncio.QueueEmpty,
    asyncio.QueueFull,
    asyncio.LimitOverrunError,
    asyncio.BrokenBarrierError,
    hoop.QueueShutDown,
)
MAY_LEAVE = (*MAY_BE_RAISED, BaseBoom, KeyboardInterrupt)
# The compiler's own checks: their texts tell that the core met what it did not expect.
COMPILERS = ("Cannot convert ", "Expected ", "'NoneType' object ")


def is_innocent(exc: BaseException | None) -> bool:
    """Whether a program may get this exception."""
    if exc is None or isinstance(exc, BaseBoom | KeyboardInterrupt):
        return True
    if isinstance(exc, BaseExceptionGroup):
        return all(is_innocent(one) for one in exc.exceptions)
    if not isinstance(exc, MAY_BE_RAISED):
        return False
    return not (isinstance(exc, TypeError) and str(exc).startswith(COMPILERS))


def payload(position: int, size: int) -> bytes:
    """So many bytes of an endless pattern."""
    start = position % len(PATTERN)
    repeats = (start + size) // len(PATTERN) + 1
    return (PATTERN * repeats)[start : start + size]


# The number of the task that runs: tasks wait for older ones only. A circle could not be cancelled.
born: contextvars.ContextVar[int] = contextvars.ContextVar("born", default=0)

Action = Callable[["World"], Any]
ACTIONS: list[Action] = []


def action(weight: int = 1) -> Callable[[Action], Action]:
    """Make a function one of what `World.act` chooses from, so many times as likely."""

    def register(function: Action) -> Action:
        ACTIONS.extend([function] * weight)
        return function

    return register


class World:
    """One run: one loop and everything random on it."""

    def __init__(self, seed: int, driver: str, folder: Path, fuel: int, trail: bool) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.folder = folder
        self.fuel = fuel
        self.trail = trail
        self.depth = 0
        self.ending = False
        self.disturbed = False  # a KeyboardInterrupt may have hit this file's own lines
        self.thread = threading.get_ident()
        self.pools: dict[str, list[Any]] = {}
        self.cleanups: list[Callable[[], Any]] = []
        self.wrongs: list[str] = []
        self.children = self.tasks = 0
        self.threads: list[threading.Thread] = []
        self.next_number = self.last_number = 0
        self.loop = hoop.new_event_loop(driver)
        self.loop.set_exception_handler(self.on_exception)
        if self.dice.random() < 0.15:
            self.loop.set_debug(True)
            self.loop.slow_callback_duration = 30.0

    # ---- chance ----

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def act(self, where: str) -> None:
        """Do a few random things. Called from inside everything that hoop calls."""
        if self.ending or self.fuel <= 0 or self.depth >= DEPTH_MAX:
            return
        if threading.get_ident() != self.thread:
            self.call_from_thread()  # a finaliser that a thread's garbage collection ran
            return
        self.depth += 1
        try:
            for _ in range(self.dice.choice((0, 1, 1, 2, 3))):
                self.one(where)
        finally:
            self.depth -= 1

    def one(self, where: str) -> None:
        """Do one random thing."""
        self.fuel -= 1
        chosen = self.dice.choice(ACTIONS)
        if self.trail:
            print(f"{'  ' * self.depth}{where}: {chosen.__name__}", file=sys.stderr, flush=True)
        try:
            chosen(self)
        except BaseException as exc:
            if not is_innocent(exc):
                self.wrong(f"{chosen.__name__} in {where}", exc)
            if isinstance(exc, BaseBoom | KeyboardInterrupt) and self.chance(0.5):
                raise

    def may_raise(self) -> None:
        """Raise now and then."""
        if self.ending or self.fuel <= 0:
            return
        if self.chance(0.03):
            raise Boom("on purpose")
        if self.chance(0.003):
            raise BaseBoom("on purpose")

    def call_from_thread(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.act, "call_soon_threadsafe")
        except RuntimeError:
            pass  # closed

    # ---- what was made ----

    def add(self, kind: str, thing: Any) -> Any:
        """Keep a thing for actions to come; somebody else's place may be taken for it."""
        pool = self.pools.setdefault(kind, [])
        if len(pool) < POOL_MAX:
            pool.append(thing)
        else:
            pool[self.dice.randrange(POOL_MAX)] = thing
        return thing

    def get(self, kind: str) -> Any:
        """One of a kind, or Boom."""
        pool = self.pools.get(kind)
        if not pool:
            raise Boom(f"no {kind}")
        return self.dice.choice(pool)

    def drop(self, kind: str) -> None:
        """Forget one of a kind."""
        pool = self.pools.get(kind)
        if pool:
            pool.pop(self.dice.randrange(len(pool)))

    def spawn(self, coro: Any) -> Any:
        """A task that reports what it may not end with."""
        self.tasks += 1
        guarded = self.guarded(coro, self.tasks)
        try:
            task = self.loop.create_task(guarded)
        except BaseException:
            guarded.close()
            coro.close()
            raise
        task.born = self.tasks
        return self.add("tasks", task)

    def get_task(self) -> Any:
        """A task for which the one that runs may wait, or Boom."""
        task = self.get("tasks")
        if getattr(task, "born", 0) >= born.get():
            raise Boom("too young")
        return task

    async def guarded(self, coro: Any, number: int = 0) -> Any:
        born.set(number)
        try:
            return await coro
        except BaseException as exc:
            if not is_innocent(exc):
                self.wrong(f"task of {coro.__qualname__}", exc)
            raise

    # ---- what is wrong ----

    def wrong(self, what: str, exc: BaseException | None = None) -> None:
        """Note what may not be."""
        if self.disturbed and exc is None:
            return
        text = f"{what} (debug)" if self.loop.get_debug() else what
        if exc is not None:
            lines, tb = [], exc.__traceback__
            while tb is not None:
                code = tb.tb_frame.f_code
                lines.append(f"{os.path.basename(code.co_filename)}:{tb.tb_lineno} {code.co_name}")
                tb = tb.tb_next
            text += f": {exc!r} ({', '.join(lines)})"
        self.wrongs.append(text)

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        exc = context.get("exception")
        if not is_innocent(exc):
            self.wrong(f"reported {context.get('message')!r}", exc)
        self.act("exception handler")
        self.may_raise()

    def on_unraisable(self, unraisable: Any) -> None:
        """sys.unraisablehook: what a finaliser raised, but never what a C function of ours could not."""
        if isinstance(unraisable.object, str) or not is_innocent(unraisable.exc_value):
            self.wrong(f"unraisable in {unraisable.object!r}", unraisable.exc_value)

    # ---- the run ----

    def run_some(self) -> None:
        """Run the loop for a little while, in one of the ways to do so."""
        loop = self.loop
        way = self.dice.randrange(8)
        if way < 4:
            stopper = loop.call_later(self.dice.choice((0, 0.001, 0.01)), loop.stop)
            try:
                loop.run_forever()
            finally:
                stopper.cancel()
        elif way < 6:
            loop.run_until_complete(self.guarded(self.sleep_a_little()))
        elif way == 6:
            loop.call_soon(loop.stop)
            self.get("contexts").run(loop.run_forever)
        else:
            loop.call_soon(self.act, "before _run_once")
            asyncio._set_running_loop(loop)
            try:
                loop._run_once()
            finally:
                asyncio._set_running_loop(None)

    async def sleep_a_little(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(self.dice.choice((0, 0, 0.0005)))
        self.act("main task")

    def run(self, begin: Callable[[World], None]) -> None:
        """Run until the fuel is used up, then end everything and look what is left."""
        deadline = time.monotonic() + RUN_SECONDS
        self.loop.call_soon(begin, self)
        while self.fuel > 0 and time.monotonic() < deadline:
            if self.trail:
                print("run", file=sys.stderr, flush=True)
            try:
                self.run_some()
                self.loop.call_soon(self.act, "between runs")
            except MAY_LEAVE:
                pass
        self.end()

    def until(
        self, condition: Callable[[], bool], what: Callable[[], str], seconds: float = 20.0
    ) -> None:
        """Run the loop until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.wrong(f"not within {seconds:.0f} s: {what()}")
                return
            try:
                self.loop.run_until_complete(asyncio.sleep(0.001))
            except MAY_LEAVE:
                pass

    def clean_up(self) -> None:
        """Undo what actions have noted to be undone."""
        while self.cleanups:
            try:
                self.cleanups.pop()()
            except MAY_LEAVE:
                pass

    def end_tasks(self) -> bool:
        """Cancel all tasks and wake what they wait for. Whether none was left."""
        self.clean_up()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            try:
                task.cancel()
            except MAY_LEAVE:
                pass
        return not tasks

    def end(self) -> None:
        """Let go of everything, close the loop, and check that nothing of it is left."""
        if self.trail:
            print("end", file=sys.stderr, flush=True)
        loop = self.loop
        self.ending = True
        self.fuel = 0
        for thread in self.threads:
            thread.join()
        self.clean_up()
        for transport in loop._open_transports():
            transport.abort()
        self.until(self.end_tasks, lambda: f"{asyncio.all_tasks(loop)}")
        self.pools.clear()
        gc.collect()
        for transport in loop._open_transports():
            transport.abort()
        self.until(lambda: not loop.counters()["transports"], lambda: f"{loop._open_transports()}")
        for closing in (loop.shutdown_asyncgens, loop.shutdown_default_executor):
            try:
                loop.run_until_complete(closing())
            except MAY_LEAVE:
                pass  # kept by something that was only dropped now
        loop.close()
        counters = loop.counters()
        left = {name: counters[name] for name in ("ready", "timers", "transports")}
        if any(left.values()):
            self.wrong(f"left in the closed loop: {left}")
