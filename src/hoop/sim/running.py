"""Runs a program once, in a world that a seed decides."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from hoop.sim import points, swaps
from hoop.sim.driver import Choices, Script, swap_tasks_made
from hoop.sim.errors import Deadlock, Livelock, SimError, TimeLimit
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.hosts import signals
from hoop.sim.hosts.world import World, takes_world
from hoop.sim.net.network import Network
from hoop.sim.net.weather import Faults, Names
from hoop.sim.patches import patched
from hoop.sim.search.heap import hash_classes
from hoop.sim.settings import (
    DEPTH,
    LIMIT,
    STUCK,
    Settings,
    check_choices,
    check_main,
    check_seed,
    check_trace,
)
from hoop.sim.storage.disks import Disk
from hoop.sim.storage.mounting import mounted
from hoop.sim.stuck import Interruption, Watcher
from hoop.sim.threads import blocking
from hoop.sim.tracing import TraceFile, read_choices

__tracebackhide__ = True  # pytest leaves the frames of this module out

_T = TypeVar("_T")

# A coroutine function without arguments, or with one that gets the World.
Main = Callable[..., Coroutine[Any, Any, _T]]
Choice = tuple[str, int, int]

CLEANING = 60.0  # virtual seconds for tasks to clean up in, after the limit
# The streams of numbers, beside those of the script.
OF_OCTETS, OF_HASHES, OF_RANDOM = 2, 3, 4


def run(
    main: Main[_T],
    *,
    seed: int = 0,
    order: str = "wakes",
    depth: int = DEPTH,
    limit: float = LIMIT,
    step_us: tuple[int, int] = (0, 0),
    stuck: float | None = STUCK,
    trace: list[str] | str | os.PathLike[str] | None = None,
    choices: Sequence[Choice] | str | os.PathLike[str] | None = None,
    disk: Disk | None = None,
    faults: Faults | None = None,
    names: Names | None = None,
) -> _T:
    """Run a coroutine function in a world that a seed decides, and return its result.

    If `main` takes an argument, that is a World, which can have several hosts.

    `order` is "fifo", "wakes", "starts", "single", "pct" or "mix". Of "pct" `depth` is how often a task loses
    its priority, and one more. `limit` are the virtual seconds that the run may take. A turn of the loop
    takes no virtual time, or as many microseconds as `step_us` says, from and to. A turn may take `stuck`
    seconds of real time. `trace` is a list that gets a line for each thing that the loop runs, or a file that
    gets these as JSON lines. `choices` are those that a report has shown, or a file with a trace: what the
    seed would choose is then taken from there. Files are on `disk`, or else on the real one. `faults` says
    how often the network fails, and `names` has the addresses of hosts, such as {"db": "10.0.0.2"}.

    Raises what `main` raises, and Deadlock, Livelock, TimeLimit, Stuck or Unsimulated. Raises RuntimeError
    inside of a running event loop.

        hoop.sim.run(main, seed=7)
    """
    check_outside()
    check_main(main)
    check_seed(seed)
    if not hasattr(trace, "append"):
        check_trace(trace)
    settings = Settings(order, limit, depth, step_us, stuck, disk, faults, names).of_seed(seed)
    if isinstance(choices, str | os.PathLike):
        choices = read_choices(choices, seed, settings)
    elif choices is not None:
        check_choices(choices)
    script = Script(seed, choices)
    with Watcher(settings.stuck) as watcher:
        if not isinstance(trace, str | os.PathLike):
            return simulate(main, settings, script, trace=trace, watcher=watcher)
        with TraceFile(trace, seed, settings) as file:
            return simulate(main, settings, script, trace=file, watcher=watcher)


def check_outside() -> None:
    """Raise RuntimeError inside of a running event loop."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("a simulation cannot begin in a running event loop")


def simulate(
    main: Main[_T],
    settings: Settings,
    script: Script,
    *,
    watcher: Watcher,
    trace: Any = None,
    happened: dict[str, bool] | None = None,
    begin: Callable[[SimEventLoop], object] | None = None,
    end: Callable[[SimEventLoop, BaseException | None], object] | None = None,
) -> _T:
    """Run once. `settings.order` is no mix here. `begin` is called before, and `end` before the cleaning."""
    hash_classes()
    find_temporary_folder()
    with collecting_nothing():
        loop = SimEventLoop(
            script.seed,
            settings.order,
            limit=settings.limit,
            depth=settings.depth,
            step_us=settings.step_us,
            trace=trace,
            script=script,
        )
        try:
            if begin is not None:
                begin(loop)
        except BaseException:
            loop.close()
            raise
        disk = settings.disk
        pattern = None if disk is None or takes_world(main) is None else disk.copy()
        with (
            ruling(loop, settings, script),
            made(loop, settings, script, pattern) as world,
            entered(world, settings, watcher, happened),
        ):
            try:
                result = _drive(main, world, end)
                world.threads.wait_for_exit()
                return result
            finally:
                world.threads.close()
                world.close()


@contextlib.contextmanager
def ruling(loop: SimEventLoop, settings: Settings, script: Script) -> Iterator[None]:
    """Have a loop's world decide about this process until the block ends. No other world may do so."""
    try:
        # Sets of tasks have another order in each seed; that of creation is the plain choice.
        mixed = settings.order != "fifo" and script.stream("sets").rarely(1.0)
        hashes = Choices(script.seed, OF_HASHES) if mixed else None
        swaps.begin(loop.sim_driver, Choices(script.seed, OF_OCTETS), hashes)
    except BaseException:
        loop.close()
        raise
    tasks_made = swap_tasks_made(0)
    try:
        yield
    finally:
        swap_tasks_made(max(tasks_made, swap_tasks_made(0)))
        swaps.end()


@contextlib.contextmanager
def made(
    loop: SimEventLoop, settings: Settings, script: Script, pattern: Disk | None = None
) -> Iterator[World]:
    """A world around a loop, with a network until the block ends."""
    network = Network(loop, settings.faults, settings.names)
    try:
        loop.network = network
        yield World(loop, network, script, settings.disk, pattern)
    finally:
        network.close()


@contextlib.contextmanager
def entered(
    world: World, settings: Settings, watcher: Watcher, happened: dict[str, bool] | None = None
) -> Iterator[None]:
    """Have the code of this thread run in a world until the block ends."""
    loop, script, threads = world.loop, world.script, world.threads
    points.enter(points.World(loop, {} if happened is None else happened))
    watcher.begin(loop.sim_driver, threads)
    functions = signals.Functions(world).table()
    try:
        with (
            patched(Choices(script.seed, OF_RANDOM), world.network),
            mounted(settings.disk, loop, script, world.network, functions),
            blocking.blocked(threads),
        ):
            yield
    except Interruption:
        watcher.end()
        if threads.error is not None:
            raise threads.error from None
        raise
    finally:
        points.enter(None)
        watcher.end()


def _begin(main: Main[_T], world: World) -> Coroutine[Any, Any, _T]:
    """The coroutine of a main function."""
    name = takes_world(main)
    if name is None:
        return main()
    return main(**{name: world}) if name else main(world)


def _drive(
    main: Main[_T], world: World, end: Callable[[Any, BaseException | None], object] | None
) -> _T:
    """Run to the end, and clean up as asyncio.run() does."""
    loop = world.loop
    runner = asyncio.Runner(loop_factory=lambda: loop)
    try:
        world.program = _begin(main, world)
        result = runner.run(world.program)
    except BaseException as exc:
        if isinstance(exc, Deadlock | Livelock | TimeLimit):
            exc.__traceback__ = None  # its frames are those of every loop
        world.stop()
        loop.sim_driver.grant(CLEANING)
        if isinstance(exc, Interruption):  # it goes through other tasks, too
            loop.set_exception_handler(lambda *_: None)
        with contextlib.suppress(SimError):  # what cannot end is the reason for the first error
            try:
                if end is not None and not isinstance(exc, KeyboardInterrupt | SystemExit):
                    end(loop, exc)
            finally:
                runner.close()
        raise
    world.stop()
    try:
        if end is not None:
            end(loop, None)
    finally:
        runner.close()
    return result


def find_temporary_folder() -> None:
    """Have Python look for the folder now. It does so once in a process, and draws names for that."""
    with contextlib.suppress(FileNotFoundError):
        tempfile.gettempdir()


@contextlib.contextmanager
def collecting_nothing() -> Iterator[None]:
    """Keep the garbage collector out of a run: it would run finalisers at any moment."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
