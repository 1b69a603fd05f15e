"""A host of a world: a program that can crash, stand still and start again."""

from __future__ import annotations

import asyncio
import signal as signals
import sys
import threading
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from hoop.sim.driver import due_of, has_work, swap_tasks_made, take_turn
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.hosts.holdings import Holdings
from hoop.sim.hosts.signals import HARMLESS, deliver, name_of
from hoop.sim.net.links import Place
from hoop.sim.storage.disks import Disk
from hoop.sim.storage.mounting import DiskPool, use

Program = Callable[[], Coroutine[Any, Any, Any]]


class Host:
    """A host of a world. World.host() makes it, and its program begins to run.

    `await host` waits for the end of the program, and returns its result or raises its exception. Wait for a
    program that is to fail: an exception for which nobody waits ends the run.
    """

    def __init__(
        self, world: Any, name: str, main: Program, number: int, disk: Disk | None
    ) -> None:
        self.name = name
        self.address = f"10.0.{number // 250}.{number % 250 + 1}"
        self.address6 = f"fd00::{number + 1:x}"
        self.disk = disk  # None is the real one
        if disk is not None:
            disk.mount(self._lose_power, world.script, world.loop.injected, name)
        self._world = world
        self._main = main
        self._state = "crashed"
        # Each who waits for the end, of whichever program, has one on the loop of that program.
        self._waiters: dict[asyncio.Future[None], SimEventLoop] = {}
        self._result: Any = None
        self._error: BaseException | None = None
        self._loop: SimEventLoop = self._new_loop()
        self._place = Place(name, self.address, self.address6, self._loop)
        self._task: asyncio.Task[Any] | None = None  # the main one
        self.main_tasks: tuple[asyncio.Task[Any], ...] = ()  # this, and one that ends the program
        self._starts = 0

    def __repr__(self) -> str:
        return f"<hoop.sim.Host {self.name} {self.address} {self._state}>"

    @property
    def state(self) -> str:
        """How the host is: "running", "paused", "crashed" or "ended"."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether its program runs, or stands still and would go on."""
        return self._state in ("running", "paused")

    # ---- control ----

    def crash(self, *, silent: bool | None = None) -> None:
        """Stop the program where it is: no `finally` runs, and what its tasks know is lost.

        The machine goes on, and resets or ends the connections. With `silent` it is down, too: the other
        sides hear nothing, and its disk loses what no sync has made durable. With None the seed decides. Does
        nothing if the program does not run.
        """
        if not self.is_running:
            return
        world = self._world
        if silent is None:
            silent = world.choices.choose(2) == 1
            world.script.say(f"{self.name} crashes{' with its machine' if silent else ''}")
        world.network.count("crashes")
        world.note(f"crash {self.name}{' silent' if silent else ''}")
        self._place.down = silent
        self._stop("crashed")
        if silent and self.disk is not None and not self.disk.without_power:
            self.disk.go_dark(f"the crash of {self.name}")

    def power_loss(self) -> None:
        """Let the power of the machine go, until restart(): as crash(silent=True), even if nothing runs.

        Raises RuntimeError if the run has no disk.
        """
        if self.disk is None:
            raise RuntimeError("the run has no disk: hoop.sim.run(main, disk=hoop.sim.Disk())")
        self.crash(silent=True)
        self._place.down = True
        if not self.disk.without_power:
            self.disk.go_dark(f"power_loss() of {self.name}")

    def _lose_power(self) -> None:
        self.crash(silent=True)

    def restart(self) -> None:
        """Start the program again, from its beginning. If it runs it crashes before."""
        self.crash(silent=False)
        program = self._main()
        if not asyncio.iscoroutine(program):
            raise TypeError(f"main must be a coroutine function, and returned {program!r}")
        self._world.note(f"start {self.name}")
        if self._starts:
            self._loop = self._new_loop()
            self._place.has_loop(self._loop)
        self._place.holdings = Holdings()
        self._starts += 1
        self._result = self._error = None
        self._place.down = False
        if self.disk is not None and self.disk.without_power:
            self.disk.boot()
        network = self._world.network
        network.add(self._place)
        network.resume()
        self._state = "running"
        before = swap_tasks_made(0)
        try:
            self._task = self._loop.create_task(program)
        finally:
            self._loop.tasks_made = swap_tasks_made(before)
        self.main_tasks = (self._task,)
        self._task.add_done_callback(self._main_ended)

    def give_up(self) -> None:
        """Let go of the loop and of the disk: the program could not begin."""
        self._loop.close()
        if self.disk is not None:
            self.disk.unmount()

    def pause(self) -> None:
        """Let the program stand still, as SIGSTOP does. Its kernel still accepts and receives."""
        if self._state == "running":
            self._world.note(f"pause {self.name}")
            self._state = "paused"

    def resume(self) -> None:
        """Let the program go on after pause()."""
        if self._state == "paused":
            self._world.note(f"resume {self.name}")
            self._state = "running"

    def signal(self, number: int) -> None:
        """Send a signal to the program. Without a handler SIGINT cancels its main task, and others end it.

        db.signal(signal.SIGTERM)
        """
        self._receive(signals.Signals(number))

    def _receive(self, number: int, *, at_once: bool = False) -> None:
        """A signal reaches the program. With `at_once` the program sends it to itself."""
        if not self.is_running:
            return
        self._world.note(f"signal {self.name} {name_of(number)}")
        if number in (signals.SIGSTOP, signals.SIGCONT):
            self.pause() if number == signals.SIGSTOP else self.resume()
        if deliver(self._loop, number, at_once=at_once):
            return
        if number == signals.SIGINT:
            assert self._task is not None
            self._loop.call_soon(self._task.cancel)
        elif number not in HARMLESS:
            self.crash(silent=False)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end of the program."""
        return self._wait().__await__()

    async def _wait(self) -> Any:
        while self._state != "ended":
            loop: Any = asyncio.get_running_loop()
            waiter = loop.create_future()
            self._waiters[waiter] = loop
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)
        if self._error is not None:
            raise self._error
        return self._result

    # ---- the program ----

    def _new_loop(self) -> SimEventLoop:
        loop: SimEventLoop = self._world.loop.of_host(self.name)
        loop.network = self._world.network
        if self.disk is not None:
            loop._file_pool = DiskPool(loop, self.disk, loop.network)
        return loop

    def _main_ended(self, main: asyncio.Task[Any]) -> None:
        """The main task has ended. Others end as in asyncio.run(), and then the process does."""
        if main is not self._task or not self.is_running:  # a task of this host has made it crash
            return
        cleaning = self._loop.create_task(self._clean(main), name="end")
        self.main_tasks = (main, cleaning)
        cleaning.add_done_callback(lambda _: self._ended(main))

    async def _clean(self, main: asyncio.Task[Any]) -> None:
        loop = self._loop
        others = asyncio.all_tasks() - {asyncio.current_task(), main}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for task in others:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "unhandled exception at the end", "exception": error, "task": task}
                )
        await loop.shutdown_asyncgens()

    def _ended(self, main: asyncio.Task[Any]) -> None:
        if main is not self._task or not self.is_running:
            return
        self._world.note(f"end {self.name}")
        self._error = asyncio.CancelledError() if main.cancelled() else main.exception()
        self._result = None if self._error is not None else main.result()
        self._stop("ended")
        gone = self._world.gone  # a program that has crashed waits for nothing any more
        waiters = [w for w, loop in self._waiters.items() if not w.done() and loop not in gone]
        for waiter in waiters:
            waiter.set_result(None)
        if waiters or self._error is None or isinstance(self._error, asyncio.CancelledError):
            return
        self._error.add_note(f"in the program of the host {self.name}")
        self._world.failed = self._world.failed or self._error

    def _stop(self, state: str, *, world_goes_on: bool = True) -> None:
        """The process is gone. Its loop and its tasks are kept until the world ends."""
        was_there, self._state = self.is_running, state
        if not was_there:
            return
        loop, holdings = self._loop, self._place.holdings
        self._world.network.vacate(self._place)
        loop.set_exception_handler(_say_nothing)
        self._world.gone[loop] = holdings
        # The code that runs now goes on until its next await: see _turn().
        if world_goes_on and loop._thread_id is None:
            holdings.give_back(loop)

    # ---- turns ----

    def _enter(self) -> None:
        """The code of this host runs from now on."""
        loop = self._loop
        self._world.network.here = self._place
        if self.disk is not None:
            use(self.disk)
        events._set_running_loop(loop)
        loop._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook
        )

    def _has_work(self) -> bool:
        """Whether the program has something to do now."""
        self._enter()
        loop = self._loop
        try:
            return has_work(loop)
        finally:
            loop._thread_id = None

    def _turn(self) -> None:
        """Take a turn."""
        self._enter()
        loop = self._loop
        before = swap_tasks_made(loop.tasks_made)
        try:
            take_turn(loop)
        finally:
            loop.tasks_made = swap_tasks_made(before)
            loop._thread_id = None
            if loop in self._world.gone:
                self._world.gone[loop].give_back(loop)

    def _due(self) -> int:
        return due_of(self._loop)


def _say_nothing(loop: object, context: object) -> None:
    """Drop the news of the tasks of a process that is gone."""


__all__ = ["Host", "Program"]
