"""Stalls: a loop is blocked, and this says by what, while it lasts where that is possible.

    insight/watcher.py  sees without the GIL that a loop is blocked, and by which signs
    cause_of            makes a cause of the signs
    Watch               makes a Stall, logs it, and calls the program's hook

A Watch needs a thread that calls its turn() again and again: see thread.py. A stall is reported when it has
lasted 1, 10 and 100 times the threshold, and at its end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import functools
import gc
import inspect
import logging
import os
import re
import signal
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CodeType, FrameType, MethodType
from typing import Any

from hoop.drivers.op import Op
from hoop.insight import watcher
from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.observe import labels
from hoop.observe.model import Stall
from hoop.observe.reading import field, is_task, peer, raw, task_name, type_name
from hoop.observe.snapshot import thread_name
from hoop.observe.waits import callable_name, closed_over, end_of, frame_of, kept_by, title_of
from hoop.scheduling.handle import Handle

logger = logging.getLogger("hoop.watch")

LATE_NS = 50_000_000  # a GIL that comes later than this was held
WOKEN_NS = 1_000_000  # a thread may go on before the GIL that comes so late
LOG_PER_MINUTE = 10
WAITS = ("blocking call", "system call with the GIL")
ITS_OWN = ("python", "C code with the GIL", *WAITS)  # causes that lie in what the loop runs
MINUTE = 60.0
CODES_MAX = 1000  # places that the limits remember
STACK = "Stack (most recent call first):"  # the first line of one in the memfd
DUMPED = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
STANDARD = sysconfig.get_path("stdlib") + os.sep
PACKAGES = f"{os.sep}site-packages{os.sep}"
AWAITED = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


def cause_of(seen: dict[str, Any], switch_ns: float) -> str:
    """Return what blocks the loop, by the signs of Watcher.wait(). It may be another cause than before."""
    elapsed = seen["now"] - seen["told"]
    took = seen["gil_took"] - seen["own_delay"]
    if seen["collects"]:
        return "garbage collection"
    if seen["waits_for_gil"]:
        return "GIL held elsewhere"
    if took > max(LATE_NS, 4 * switch_ns):
        if 2 * (seen["gil_cpu"] + seen["gil_delay"]) > took:
            return "C code with the GIL"
        return "GIL held elsewhere" if seen["call"] == watcher.FUTEX else "system call with the GIL"
    if seen["moved"]:
        return "long turn"
    busy = (
        seen["new_cpu"] + seen["new_delay"]
    )  # it computed, or would have if it had had a processor
    if seen["state"] == "R" or 2 * busy >= elapsed:
        return "python"
    if seen["call"] == watcher.FUTEX and 10 * busy >= elapsed:
        return "GIL held elsewhere"  # other threads compute, and have it half of the time or more
    return "blocking call"


Place = tuple[str, int, str]
_callback: Any = Handle.__dict__["_callback"].__get__


def is_users(file: str) -> bool:
    """Whether the file is neither of the standard library nor of hoop."""
    if file.startswith((OURS, "<frozen")):
        return False
    return not file.startswith(STANDARD) or PACKAGES in file


def innermost(stack: list[Place]) -> Place:
    """Return the innermost frame outside the standard library, or else the innermost, or else nothing."""
    for place in stack:
        if is_users(place[0]):
            return place
    return stack[0] if stack else ("", 0, "")


def shown(places: Iterable[Place]) -> tuple[str, ...]:
    return tuple(f"{file}:{line} {function}" for file, line, function in places)


def stack_of(frame: FrameType | None) -> tuple[list[Place], list[Place]]:
    """Return the frames of a thread, innermost first, and those that are coroutines."""
    stack: list[Place] = []
    awaited: list[Place] = []
    while frame is not None:
        code: CodeType = frame.f_code
        place = (code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname)
        stack.append(place)
        if code.co_flags & AWAITED:
            awaited.append(place)
        frame = frame.f_back
    return stack, awaited


def corrected(places: list[Place], known: Iterable[Place]) -> list[Place]:
    """Put lines that are known into a stack that was taken later, as far as it still has the functions."""
    lines = {(file, function.rpartition(".")[2]): line for file, line, function in known}
    return [
        (file, lines.get((file, function.rpartition(".")[2]), line), function)
        for file, line, function in places
    ]


def find(loop: Any, address: int, known: list[Place]) -> Any:
    """The unfinished task that was at an address, if it has the outermost coroutine of a known stack.

    Its memory may be that of another task meanwhile. None if there is no such task.
    """
    task = next((one for one in Loop._unfinished_tasks(loop) if id(one) == address), None)
    first = None if task is None else frame_of(raw(task, "_coro"))
    functions = {(file, function.rpartition(".")[2]) for file, _, function in known}
    if first is None or (first.file, first.name.rpartition(".")[2]) not in functions:
        return None
    return task


def call_of(seen: dict[str, Any]) -> str:
    """Return the system call that the loop's thread waits in, and where in the kernel, as far as is known."""
    if seen["call"] < 0:
        return ""
    return watcher.call_name(seen["call"]) + (f" in {seen['wchan']}" if seen["wchan"] else "")


# ---- the thing that a loop runs ---------------------------------------------------------------------


def task_of(loop: Any, runnable: Any) -> Any:
    """The task that a loop runs, or None. Callbacks take the steps of tasks of asyncio's own class."""
    if runnable is None or is_task(runnable):
        return runnable
    return asyncio.current_task(loop) if issubclass(type(runnable), Handle) else None


def name_of(runnable: Any) -> str:
    """Return what the loop runs, in a word. Asks no object of the program's for its repr."""
    if runnable is None:
        return ""
    if is_task(runnable):
        return f"{task_name(runnable)} {title_of(raw(runnable, '_coro'))}"
    if issubclass(type(runnable), Op):
        what, fd, _ = runnable.about()
        return f"{what} of descriptor {fd}"
    callback = _callback(runnable) if issubclass(type(runnable), Handle) else None
    return f"callback {callable_name(callback)}" if callback is not None else type_name(runnable)


def peer_of(runnable: Any) -> str:
    """The address of the peer of the connection that an operation, a task or a callback serves.

    A task serves one if it is the callback of a server of streams, or a request of uvicorn or aiohttp. A
    method does if its object has a transport.
    """
    if issubclass(type(runnable), Op):
        return peer(runnable.about()[2])
    if is_task(runnable):
        for told, _ in raw(runnable, "_callbacks") or ():
            transport = kept_by(told)
            if transport is None:
                transport = closed_over(told, "transport")
            if transport is not None:
                return end_of(transport)[1]
        first = raw(runnable, "_coro")
        return labels.client_of([first] if first is not None else [])
    callback: Any = _callback(runnable) if issubclass(type(runnable), Handle) else None
    while type(callback) is functools.partial:
        callback = callback.func
    if type(callback) not in (MethodType, BuiltinFunctionType):
        return ""
    owner = callback.__self__
    for transport in (owner, field(owner, "transport"), field(owner, "_transport")):
        found = end_of(transport)[1]
        if found:
            return found
    return ""


# ---- what is counted and limited ---------------------------------------------------------------------


class Throttling:
    """The time for which the kernel kept the process's control group from its processors. 0.0 if none."""

    def __init__(self, file: str | None = None) -> None:
        self.file = file or self._find()
        self.before = self._read()

    @staticmethod
    def _find() -> str:
        try:
            with open("/proc/self/cgroup") as groups:
                names = [line.strip().split(":", 2) for line in groups]
        except OSError:
            names = []
        for number, kinds, name in names:
            if number == "0" or "cpu" in kinds.split(","):
                folder = "/sys/fs/cgroup" if number == "0" else "/sys/fs/cgroup/cpu"
                for file in (f"{folder}{name.rstrip('/')}/cpu.stat", f"{folder}/cpu.stat"):
                    if os.path.exists(file):
                        return file
        return ""

    def _read(self) -> float:
        try:
            with open(self.file) as file:
                lines = dict(line.split() for line in file)
            if "throttled_usec" in lines:
                return int(lines["throttled_usec"]) / 1e6
            return int(lines.get("throttled_time", 0)) / 1e9  # the first version of control groups
        except (OSError, ValueError):
            return 0.0

    def seconds(self) -> float:
        """The seconds since this was made."""
        return max(self._read() - self.before, 0.0)


class Limits:
    """How much is logged: one stall of a place in a minute, and ten stalls in a minute in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.places: dict[Place, float] = {}
        self.logged: deque[float] = deque()
        self.left_out = 0

    def allow(self, place: Place) -> bool:
        """Whether to log a stall at this place now. If not, it is counted in `left_out`."""
        now = self.clock()
        while self.logged and now - self.logged[0] >= MINUTE:
            self.logged.popleft()
        last = self.places.get(place)
        if len(self.logged) >= LOG_PER_MINUTE or (last is not None and now - last < MINUTE):
            self.left_out += 1
            return False
        if len(self.places) >= CODES_MAX:
            self.places.clear()
        self.places[place] = now
        self.logged.append(now)
        return True


class Watch:
    """Reports stalls of all loops of this process. `start` and `stop` are for the thread that owns it.

    `hook(stall)` is called for each report, in the thread that calls turn(). `label(runnable)` gives the
    label of what the loop runs. `counts` has the number of stalls by cause, and `seconds` how long they took.
    `lasted[cause][n]` counts those of less than 2**n nanoseconds, and not less than half of that.
    `starved` counts times without a processor, which are no stalls. `recent` has the last of the `reports`.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        hook: Callable[[Stall], object] | None = None,
        label: Callable[[Any], str] = labels.of_runnable,
        clock: Callable[[], float] = time.monotonic,
        dump: Any = None,
    ) -> None:
        self.threshold = threshold
        self.dump = dump
        self.hook = hook
        self.label = label
        self.limits = Limits(clock)
        self.collections = watcher.Collections()
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.lasted: dict[str, list[int]] = {}
        self.found = 0
        self.starved = 0
        self.starved_logged = -MINUTE
        self.recent: deque[Stall] = deque(maxlen=100)
        self.reports = 0
        self.under_way: dict[int, tuple[Stall, bool]] = {}
        self.threads: dict[int, float] = {}
        self.signal = self.dump_signal = 0
        self.memfd = -1
        self.throttling = Throttling()
        self.watcher: watcher.Watcher | None = None

    # ---- the beginning and the end ----

    def start(self) -> None:
        """Begin to watch. The signals are the highest that nobody uses. Without them no stack is dumped."""
        self.memfd = os.memfd_create("hoop-stall", os.MFD_CLOEXEC)
        free = (
            number
            for number in range(signal.SIGRTMAX, signal.SIGRTMIN, -1)
            if signal.getsignal(number) is signal.SIG_DFL
        )
        self.signal = next(free, 0)
        if self.signal:
            faulthandler.register(self.signal, file=self.memfd, all_threads=False)
        file = sys.stderr if self.dump is None else self.dump
        number = next(free, 0)
        if number and file is not None:
            try:
                faulthandler.register(number, file=file, all_threads=False)
                self.dump_signal = number
            except (OSError, ValueError, AttributeError):
                logger.debug("no stack of C code is dumped: %r is no open file", type(file))
        self.watcher = watcher.Watcher(self.threshold, self.signal, self.memfd, self.dump_signal)
        gc.callbacks.append(self.collections)
        watcher.set_watching(True)
        for loop in list(registry.loops):
            if not loop._is_inherited():
                loop._watch()

    def stop(self) -> None:
        """End. Nothing of start() is left, but that loops stay registered until they are closed."""
        watcher.set_watching(False)
        if self.collections in gc.callbacks:
            gc.callbacks.remove(self.collections)
        if self.watcher is not None:
            self.watcher.disarm()
        self._await_signals()
        for number in filter(None, (self.signal, self.dump_signal)):
            faulthandler.unregister(number)
        self.signal = self.dump_signal = 0
        if self.memfd >= 0:
            os.close(self.memfd)
            self.memfd = -1
        self.watcher = None

    def _await_signals(self) -> None:
        """Wait until no thread has the signal pending: without its handler it would end the process."""
        bits = sum(1 << (number - 1) for number in (self.signal, self.dump_signal) if number)
        for _ in range(100):
            pending = 0
            for tid in os.listdir("/proc/self/task"):
                try:
                    with open(f"/proc/self/task/{tid}/status") as status:
                        found = re.search(r"^SigPnd:\s*(\w+)", status.read(), re.MULTILINE)
                except OSError:
                    continue  # the thread has ended
                pending |= int(found[1], 16) if found else 0
            if not pending & bits:
                return
            time.sleep(0.01)

    def blocked_for(self, loop: Any) -> float:
        """For how long a loop is blocked already; 0.0 if it is not."""
        stall, _ = self.under_way.get(loop._watch_number, (None, False))
        return 0.0 if stall is None else time.monotonic() - stall.began

    # ---- one turn ----

    def turn(self, descriptors: Iterable[int] = (), timeout: float = 1.0) -> list[int]:
        """Watch until one of the descriptors is readable, a stall was reported, or the time is over.

        Returns the readable descriptors.
        """
        assert self.watcher is not None, "start() was not called"
        readable, found = self.watcher.wait(descriptors, timeout)
        for seen in found:
            self._take(seen)
        if self.watcher.starved != self.starved:
            self._count_starved(self.watcher.starved)
        if not self.under_way:
            # Else a process that is stopped later would seem blocked since then.
            os.ftruncate(self.memfd, 0)
        self._note_threads()
        return readable

    def _take(self, seen: dict[str, Any]) -> None:
        number = seen["loop"]
        if seen["kind"] == "over":
            stall, logged = self.under_way.pop(number, (None, False))
            if stall is None:
                return None
            lasted = (seen["now"] - seen["began"]) * 1e-9
            self.seconds[stall.cause] = self.seconds.get(stall.cause, 0.0) + lasted
            counts = self.lasted.setdefault(stall.cause, [0] * 64)
            counts[(seen["now"] - seen["began"]).bit_length()] += 1
            return self._report(dataclasses.replace(stall, lasted=lasted, over=True), logged)
        loop = next((a for a in list(registry.loops) if a._watch_number == number), None)
        if loop is None:
            return None  # it was freed meanwhile
        if seen["level"] and loop._turns != seen["turn"]:
            return None  # it went on while this waited for the GIL
        stall = self._describe(loop, seen)
        if number in self.under_way:
            before, logged = self.under_way[number]
            stall = dataclasses.replace(stall, number=before.number, at=before.at)
        else:
            self.found += 1
            stall = dataclasses.replace(stall, number=self.found, at=time.time() - stall.lasted)
            logged = self.limits.allow((stall.file, stall.line, stall.function))
            self.counts[stall.cause] = self.counts.get(stall.cause, 0) + 1
        self.under_way[number] = (stall, logged)
        return self._report(stall, logged)

    def _describe(self, loop: Any, seen: dict[str, Any]) -> Stall:
        """Make the Stall. While this has the GIL the loop's thread stands still, if it runs Python code."""
        cause = cause_of(seen, sys.getswitchinterval() * 1e9)
        runnable = loop._current_runnable
        ident = loop._thread_id
        stack, awaited = stack_of(sys._current_frames().get(ident))
        known = self._known(cause, seen)
        has_gone_on = id(runnable) != seen["running"] or loop._turns != seen["turn"]
        if has_gone_on and cause in ITS_OWN:
            runnable = find(loop, seen["running"], known)
            stack = awaited = []  # of what runs now, which is not to blame
        if known:
            stack = known
            awaited = corrected(awaited, known)
        place = innermost(stack)
        if cause == "garbage collection":
            place = self.collections.place() or place
            stack = corrected(stack, [place])
        task = task_of(loop, runnable) or runnable
        created = raw(task, "_created_at") if is_task(task) else None
        file, line, function = place
        return Stall(
            cause=cause,
            loop=thread_name(ident) or str(ident),
            began=seen["began"] * 1e-9,
            lasted=(seen["now"] + seen["gil_took"] - seen["began"]) * 1e-9,
            file=file,
            line=line,
            function=function,
            task=name_of(task),
            label=self.label(task),
            created_at="" if created is None else f"{created[0]}:{created[1]}",
            stack=shown(stack),
            await_stack=shown(awaited),
            over=False,
            cpu=(seen["cpu"] + seen["gil_cpu"]) * 1e-9,
            waited=seen["delay"] * 1e-9,
            elsewhere=self._busiest(seen["tid"]) if cause == "GIL held elsewhere" else (),
            connection=peer_of(task),
            call=call_of(seen) if cause in WAITS else "",
        )

    def _known(self, cause: str, seen: dict[str, Any]) -> list[Place]:
        """The stack of the loop's thread at the right moment, innermost first; [] if it is not known.

        If the GIL came late, the thread has gone on, and the memfd has the stack: see watcher.py. The first
        one is of a thread that slept when the stall was seen, the last one of C code that has computed since.
        """
        late = cause in WAITS and seen["gil_took"] > WOKEN_NS
        if not late and cause not in ("C code with the GIL", "garbage collection"):
            return []
        text = os.pread(self.memfd, 100_000, 0).decode(errors="replace")
        stacks = text.split(STACK)[1:]
        if not stacks:
            return []
        found = DUMPED.findall(stacks[0 if late else -1])
        return [(file, int(line), function) for file, line, function in found]

    # ---- other threads ----

    def _note_threads(self) -> None:
        """Note how much each thread has computed, to see later which one did most."""
        tids = [thread.native_id for thread in threading.enumerate() if thread.native_id]
        self.threads = {tid: watcher.thread_cpu(tid) for tid in tids}

    def _busiest(self, but: int) -> tuple[str, ...]:
        """The name and the stack of the thread that has computed most since the last turn."""
        most, found = -1.0, None
        for thread in threading.enumerate():
            tid = thread.native_id
            if tid is None or tid == but or thread is threading.current_thread():
                continue
            spent = watcher.thread_cpu(tid) - self.threads.get(tid, 0.0)
            if spent > most:
                most, found = spent, thread
        if found is None or found.ident is None:
            return ()
        return found.name, *shown(stack_of(sys._current_frames().get(found.ident))[0])

    # ---- telling ----

    def _report(self, stall: Stall, log: bool) -> None:
        self.recent.append(stall)
        self.reports += 1
        if log:
            left_out, self.limits.left_out = self.limits.left_out, 0
            more = f" ({left_out} others were not logged)" if left_out else ""
            logger.warning("%s%s", stall, more, extra={"hoop": stall})
        if self.hook is not None:
            try:
                self.hook(stall)
            except Exception:
                logger.exception("the hook for stalls raised")

    def _count_starved(self, times: int) -> None:
        self.starved = times
        now = self.limits.clock()
        if now - self.starved_logged >= MINUTE:
            self.starved_logged = now
            throttled = self.throttling.seconds()
            why = (
                f", and its control group was throttled for {throttled:.1f} s" if throttled else ""
            )
            logger.info("a loop had no processor for a while: %d times so far%s", times, why)
