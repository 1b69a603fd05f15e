"""Cancels a task at each of its awaits in turn, and looks at what is left open then."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import socket
import warnings
from collections import Counter
from typing import Any

from hoop.files.file import AsyncFile
from hoop.observe.reading import is_done, task_name, type_name
from hoop.observe.waits import holder_of
from hoop.sim import graph
from hoop.sim.driver import Script
from hoop.sim.errors import LeftOpen, SimError
from hoop.sim.net.weather import Faults, Names
from hoop.sim.running import Main, check_outside, simulate
from hoop.sim.search.exploring import Summary
from hoop.sim.search.heap import freezing
from hoop.sim.settings import LIMIT, STUCK, Settings, check_count, check_main, check_seed
from hoop.sim.storage.disks import Disk
from hoop.sim.stuck import Watcher
from hoop.sync.locks import Lock

MAX_RUNS = 1000
LOCKS = (Lock, asyncio.Lock)
OPENED = (*LOCKS, io.FileIO, AsyncFile, socket.socket)
SETTLING = 1.0  # virtual seconds for transports to close, and for tasks to end
SHOWN = 8  # awaits in a report
SHOWN_EACH = 4  # things that are left open after one
TEXT_MAX = 160


def cancel_each(
    main: Main[Any],
    *,
    seed: int = 0,
    order: str = "wakes",
    limit: float = LIMIT,
    stuck: float | None = STUCK,
    every_task: bool = True,
    max_runs: int = MAX_RUNS,
    disk: Disk | None = None,
    faults: Faults | None = None,
    names: Names | None = None,
) -> Summary:
    """Run a coroutine function again and again, and cancel its task at another await in each run.

    With `every_task`, each other task is cancelled likewise afterwards. There are at most `max_runs` runs.
    The program must pass when nothing is cancelled.

    Raises LeftOpen if, a virtual second after the end, tasks are pending, transports, files or sockets are
    open, or locks are held. It says after which awaits. If that is so without the cancelling, too, it does
    not count. Exceptions of the main task other than CancelledError count as well, and so does Deadlock.

        hoop.sim.cancel_each(main)
    """
    check_outside()
    check_main(main)
    check_seed(seed)
    check_count("max_runs", max_runs)
    settings = Settings(
        order=order, limit=limit, stuck=stuck, disk=disk, faults=faults, names=names
    ).of_seed(seed)
    return _Cancelling(main, settings, seed).run(every_task, max_runs)


class _Cancelling:
    """The runs of one program, each with a task that is cancelled."""

    def __init__(self, main: Main[Any], settings: Settings, seed: int) -> None:
        self.main = main
        self.settings = settings
        self.seed = seed
        self.watcher = Watcher(settings.stuck)
        self.older: list[Any] = []  # locks that are older than the runs
        self.kept: list[Any] = []  # all that could be left open by the task that is cancelled
        self.steps: dict[int, int] = {}  # of each task, by its number, when nothing is cancelled
        self.usual: Counter[str] = Counter()  # what is open at the end then
        self.found: list[str] = []  # lines of the report, a text for each await

    def run(self, every_task: bool, max_runs: int) -> Summary:
        """Cancel at each await. Raises LeftOpen if something was left open."""
        gc.collect(1)
        self.older = [o for o in gc.get_objects() if issubclass(type(o), LOCKS)]
        runs = 0
        with freezing(), self.watcher:
            gc.freeze()  # so that each look of the collector is at the objects of one run
            self._first()
            places = [
                (task, steps)
                for task, count in sorted(self.steps.items())
                for steps in range(1, count)
                if every_task or task == 1
            ]
            for task, steps in places[:max_runs]:
                self._cancelled(task, steps)
                runs += 1
        if self.found:
            shown = self.found[:SHOWN]
            if len(self.found) > SHOWN:
                shown.append(f"  and at {len(self.found) - SHOWN} more")
            heading = f"after {len(self.found)} of {runs} cancelled awaits something was wrong"
            raise LeftOpen("\n".join([f"{heading} (seed {self.seed})", *shown]))
        complete = runs == len(places)
        rest = "" if complete else f", of {len(places)}: max_runs ended it"
        return Summary(runs, complete, f"nothing was left open after {runs} cancelled awaits{rest}")

    def _first(self) -> None:
        """Run without cancelling. Raises what the program raises."""
        steps: dict[int, int] = {}

        def end(loop: Any, error: BaseException | None) -> None:
            self.steps = dict(steps)
            self.usual = Counter(self._left(loop, []))

        self._simulate(lambda loop: loop.sim_driver.count_steps(steps), end)

    def _cancelled(self, number: int, steps: int) -> None:
        """Cancel the task of this number after so many steps, and note what is left open."""
        place = ""
        left: list[str] = []

        def strike(task: Any) -> None:
            nonlocal place
            if not is_done(task):
                at = task.get_loop().now()
                self.kept = [o for o in gc.get_objects() if can_be_open(o)]
                host = getattr(task.get_loop(), "host", "")
                name = f"{host}/{task_name(task)}" if host else task_name(task)
                place = f"  {name}, cancelled at {at:.3f} s [{graph.awaiting(task)}]"
                task.cancel()

        def end(loop: Any, error: BaseException | None) -> None:
            left.extend(self._left(loop, caught))

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ResourceWarning)
            try:
                self._simulate(lambda loop: loop.sim_driver.strike_at(number, steps, strike), end)
            except asyncio.CancelledError:
                pass
            except (Exception, BaseExceptionGroup) as exc:
                if number == 1 or isinstance(exc, SimError):
                    left.insert(0, f"{type(exc).__name__}: {exc}".splitlines()[0][:TEXT_MAX])
            self.kept.clear()
            gc.collect()  # files that are forgotten warn here
        more = list((Counter(left) - self.usual).elements())
        if place and more:
            lines = more[:SHOWN_EACH]
            if len(more) > SHOWN_EACH:
                lines.append(f"and {len(more) - SHOWN_EACH} more")
            self.found.append("\n".join([place, *(f"    {line}" for line in lines)]))

    def _simulate(self, begin: Any, end: Any) -> None:
        gc.collect()
        gc.freeze()  # so that the collector knows the objects of this run only

        def begin_quietly(loop: Any) -> None:
            loop.set_exception_handler(lambda *_: None)
            begin(loop)

        script = Script(self.seed)
        simulate(
            self.main,
            self.settings.with_copy_of_disk(),
            script,
            watcher=self.watcher,
            begin=begin_quietly,
            end=end,
        )

    def _left(self, loop: Any, caught: list[warnings.WarningMessage]) -> list[str]:
        """All that is still open when the main task has ended, in words."""
        loop.run_until_complete(asyncio.sleep(SETTLING))
        tasks = sorted(asyncio.all_tasks(loop), key=task_name)
        names = {getattr(task, "_serial", 0): task_name(task) for task in tasks}
        words = [
            f"the task {task_name(task)} is pending [{graph.awaiting(task)}]" for task in tasks
        ]
        gc.collect()
        objects = [o for o in gc.get_objects() if can_be_open(o)]
        all_of_them = {id(o): o for o in [*self.older, *self.kept, *objects]}
        found = (text_of(o, names) for o in all_of_them.values())
        words += sorted(text for text in found if text)
        words += [f"{w.category.__name__}: {w.message}"[:TEXT_MAX] for w in caught]
        return words


_known: dict[Any, bool] = {}


def can_be_open(o: Any) -> bool:
    """Whether objects of its class can be open, or held."""
    kind = type(o)
    found = _known.get(kind)
    if found is None:
        found = _known[kind] = issubclass(kind, OPENED) or all(
            hasattr(kind, name) for name in ("is_closing", "set_protocol", "get_extra_info")
        )
    return found


def text_of(o: Any, names: dict[int, str]) -> str:
    """An object that is open or held, in words; "" if it is neither. `names` are those of pending tasks."""
    kind = type(o)
    if issubclass(kind, LOCKS):
        if not o.locked():
            return ""
        holder = holder_of(o)
        by = f" by {names.get(holder, 'a task that has ended')}" if holder else ""
        return f"a {kind.__name__} is held{by}"
    if issubclass(kind, io.FileIO | AsyncFile):
        return "" if o.closed else f"the file {_name_of(o)} is open"
    if issubclass(kind, socket.socket):
        return "" if o.fileno() == -1 else "a socket is open"
    return "" if o.is_closing() else f"a {type_name(o)} is open"


def _name_of(file: Any) -> str:
    name = getattr(file, "name", "")
    return os.path.basename(name) if isinstance(name, str) else str(name)


__all__ = ["cancel_each"]
