"""The observer: one daemon thread for all loops of the process, which watches them and serves clients.

    Watch      (stalls.py)  its turns are where the thread waits
    Server     (server.py)  the socket, whose clients it serves between them, as the Budget allows
    start(), stop()         make the one observer of this process, and end it

After a fork the child closes what it inherited. It has an observer of its own once a loop of its runs.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from hoop.insight import sites
from hoop.loop import registry
from hoop.loop.turn import Loop
from hoop.observe.model import ObserverView, Stall
from hoop.observe.resources import growth
from hoop.observe.server import Budget, Server
from hoop.observe.stalls import Watch
from hoop.observe.views import SAMPLE_EVERY, Views, greeting

logger = logging.getLogger("hoop.observe")

FAILURES_MAX = 10
THRESHOLD_MAX = 1_000_000  # seconds: 64 bits hold the nanoseconds of 100 times that
EXIT_MAX = 5.0  # seconds that the end of the process waits for a hook that still runs


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of start()."""

    threshold: float = 0.1
    hook: Callable[[Stall], object] | None = None
    path: str | None = None
    socket: bool = True
    dump: Any = None

    def __post_init__(self) -> None:
        """Raise what is wrong with them: later only the log would tell, or nobody."""
        if not isinstance(self.threshold, (int, float)):
            raise TypeError(f"the threshold must be a number of seconds, not {self.threshold!r}")
        if not 0 < self.threshold <= THRESHOLD_MAX:
            raise ValueError(
                f"the threshold must be positive, and {THRESHOLD_MAX} seconds at most, not {self.threshold}"
            )
        if self.hook is not None and not callable(self.hook):
            raise TypeError(f"the hook must be callable, not {self.hook!r}")
        if self.path is not None:
            if not isinstance(self.path, str):
                raise TypeError(f"the path must be a string, not {self.path!r}")
            if not self.path or "\0" in self.path:
                raise ValueError(f"the path must name a file, not {self.path!r}")
        if self.dump is not None:
            if not isinstance(self.dump, int) and not hasattr(self.dump, "fileno"):
                raise TypeError(f"the dump must be an open file, not {self.dump!r}")
            os.fstat(self.dump if isinstance(self.dump, int) else self.dump.fileno())


class Observer(threading.Thread):
    """The thread. begin() gets everything ready in the thread of the caller, and raises what prevents it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="hoop-observer", daemon=True)
        self.settings = settings
        self.watch = Watch(settings.threshold, settings.hook, dump=settings.dump)
        self.budget = Budget()
        self.views = Views(self.watch, self.about)
        self.server: Server | None = None
        self.measured: weakref.WeakSet[Any] = weakref.WeakSet()
        self.ends = self.tells = -1

    def begin(self) -> None:
        """Listen, watch and start the thread."""
        if self.settings.socket:
            self.server = Server(
                self.views.answer,
                greeting,
                self.views.news,
                self.views.table,
                self.budget,
                self.settings.path,
                lambda: self.measure(True),
            )
        try:
            self.ends, self.tells = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self.watch.start()
            sites.record(True)
            self.start()
        except BaseException:
            self.leave(forked=False)
            raise

    def end(self, timeout: float | None = None) -> None:
        """Have the thread end, and wait for that unless this is the thread."""
        os.write(self.tells, b"x")
        if threading.current_thread() is not self:
            self.join(timeout)

    def leave(self, forked: bool) -> None:
        """Give back everything. In a forked child the socket's file stays, as it is the parent's."""
        if forked:
            self.watch.watcher = None  # its timers are the parent's
        if self.server is not None:
            if forked:
                self.server.leave()
            else:
                self.server.close()
        self.watch.stop()
        sites.record(forked)  # the child's first task is made before its observer
        for fd in (self.ends, self.tells):
            if fd >= 0:
                os.close(fd)
        self.ends = self.tells = -1

    def about(self) -> ObserverView:
        """The observer itself, for the overview."""
        notes = []
        if not self.watch.signal:
            notes.append("no real-time signal is free: C code that holds the GIL shows no stack")
        return ObserverView(
            level=2 if self.measured else 1,
            threshold=self.settings.threshold,
            cpu=self.budget.spent,
            clients=len(self.server.clients) if self.server else 0,
            every=round(self.budget.longest, 1),
            path=self.server.path if self.server else "",
            notes=tuple(notes),
        )

    # ---- in the thread ----

    def run(self) -> None:
        """Take turns until end()."""
        self.budget.begin()
        failures = 0
        try:
            while failures < FAILURES_MAX:
                try:
                    if self.ends in self.turn():
                        break
                except Exception:  # a fault of hoop's own: the watch goes on
                    failures += 1
                    logger.exception("the observer failed")
                    if self.server is not None:
                        self.server.drop_all()
        finally:
            self.measure(False)
            self.leave(forked=False)

    def turn(self) -> list[int]:
        """Watch until there is something to do, and do it."""
        rest = self.budget.account()
        growth.take()
        if self.server is None:
            return self.watch.turn([self.ends], 1.0)
        waited = [self.ends, *self.server.descriptors(rest)]
        readable = self.watch.turn(waited, min(self.server.next_due(rest), SAMPLE_EVERY))
        self.views.history.take()
        self.server.serve(readable)
        self.measure(self.server.looks())
        return readable

    def measure(self, on: bool) -> None:
        """Have all loops measure while a client looks. A loop that does so already goes on afterwards."""
        if on:
            for loop in list(registry.loops):
                if loop not in self.measured:
                    Loop._measure(loop, True)
                    self.measured.add(loop)
        elif self.measured:
            for loop in list(self.measured):
                Loop._measure(loop, False)
            self.measured.clear()


# ---- the one of this process ---------------------------------------------------------------------------

_lock = threading.Lock()
_observer: Observer | None = None


def start(
    *,
    threshold: float = 0.1,
    hook: Callable[[Stall], object] | None = None,
    path: str | None = None,
    socket: bool = True,
    dump: Any = None,
) -> None:
    """Observe all loops of this process from now on, in a thread of its own, and answer the command `hoop`.

    A loop is reported as blocked if it runs something for `threshold` seconds. `hook(stall)` is called for
    each report, in the observer's thread. `path` is that of the Unix socket, if not the usual one. Without
    `socket` loops are only watched. If C code keeps the GIL for a second of computing, its stack is written
    to the open file `dump`, else to standard error.

    Raises RuntimeError if it is on already or Linux is not the system, and OSError if it cannot listen.
    A wrong argument raises a TypeError or ValueError, and a closed `dump` an OSError.

        hoop.observe.start(threshold=0.05, hook=lambda stall: print(stall))
    """
    global _observer
    if sys.platform != "linux":
        raise RuntimeError(f"hoop.observe needs Linux, and this is {sys.platform}")
    with _lock:
        if _observer is not None:
            raise RuntimeError("hoop.observe was started already")
        registry.on_run = None
        observer = Observer(Settings(threshold, hook, path, socket, dump))
        observer.begin()
        _observer = observer


def stop() -> None:
    """End what start() began: thread, socket and signal are gone then. Does nothing if it was not started.

    hoop.observe.stop()
    """
    _end(None)


def _end(timeout: float | None) -> None:
    global _observer
    with _lock:
        registry.on_run = None
        observer, _observer = _observer, None
    if observer is None:
        sites.record(False)
    else:
        observer.end(timeout)


def current() -> Observer | None:
    """The observer of this process, if it is on."""
    return _observer


def is_on() -> bool:
    """Whether start() was called, or a loop has started it because of HOOP_OBSERVE."""
    return _observer is not None


def begin(settings: Settings) -> None:
    """Start, for a loop that is about to run. If it cannot listen, that is logged, and it only watches."""
    global _observer
    with _lock:
        registry.on_run = None
        if _observer is not None:
            return
        observer = Observer(settings)
        try:
            observer.begin()
        except OSError as exc:
            logger.warning("nobody can look into this process: %s", exc)
            observer = Observer(dataclasses.replace(settings, socket=False))
            observer.begin()
        _observer = observer


def start_by_environment(value: str) -> None:
    """Start as HOOP_OBSERVE says: "watch" only watches."""
    if value not in ("1", "watch"):
        raise ValueError(f"HOOP_OBSERVE must be 1 or watch, not {value!r}")
    begin(Settings(socket=value != "watch"))


def _after_fork() -> None:
    """In the child: close what was inherited, and start anew with its first loop."""
    global _observer, _lock
    _lock = threading.Lock()
    observer, _observer = _observer, None
    if observer is not None:
        observer.leave(forked=True)
        registry.on_run = functools.partial(begin, observer.settings)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_end, EXIT_MAX)
