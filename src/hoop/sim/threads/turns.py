"""The threads of a world: real ones, of which one has the turn. The seed decides which, and where it changes.

The thread of the loop has the turn until it has nothing to do. A thread gives it back when it would have to
wait, or ends. Before and after operations of locks and queues the seed may give it to another one.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import queue
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import thread as executors
from typing import Any

from hoop.sim import graph
from hoop.sim.driver import RAN, Choices
from hoop.sim.errors import SimError
from hoop.sim.storage.mounting import mounted_disk, use
from hoop.sim.stuck import Interruption
from hoop.sim.threads.blocking import Gate, give, owner_of, really_acquire, really_join

SHARES = (0.02, 0.2, 0.5, 0.9)  # of the places at which the turn changes: each thread draws one
PASSED_MAX = 1000  # places in a row at which it did not, for programs that ask again and again
STILL_MAX = 100_000  # turns of threads without time moving; then it is a Livelock
EXIT_TIME = 60.0  # virtual seconds for threads to end, after the program
ENDINGS_MAX = 1000  # exceptions that a thread may catch before it is left alone
LOOK = 0.1  # seconds of real time between two looks of the loop's thread
_OF_THREADING = ("Condition.", "Event.", "Semaphore.", "BoundedSemaphore.", "Barrier.")
_STARTS = ("Thread.run", "Thread._")  # what runs a thread
_BETWEEN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep + "event_loop"
_OF_EXECUTORS = os.path.dirname(executors.__file__) + os.sep
_LIBRARY = tuple({os.path.dirname(os.__file__) + os.sep, sysconfig.get_path("stdlib") + os.sep})
_SITE = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})
_libraries = (
    *graph.LIBRARIES,
    *(module.__file__ for module in (threading, queue)),
    _OF_EXECUTORS,
    "<frozen ",
)
_joinable: Any = getattr(_thread, "start_joinable_thread", None)
_real_start: Any = _thread.start_new_thread
_set_sentinel: Any = getattr(_thread, "_set_sentinel", None)


@functools.cache
def _is_place(file: str, function: str) -> bool:
    """Whether the turn may change where a function of this file calls a lock or queue.

    In Python's library it may do so in that for threads only. Other locks there often guard a thing that
    is done once in a process, such as an import. So only the first run would have these calls.
    """
    if file == threading.__file__:
        return function.startswith(_OF_THREADING)
    if file == queue.__file__ or file.startswith(_OF_EXECUTORS):
        return True
    return not file.startswith(("<frozen ", *_LIBRARY)) or file.startswith(_SITE)


class Ending(SystemExit):
    """Ends a thread that is left when its program has ended."""


class Turn:
    """A thread that takes turns."""

    def __init__(self, number: int, python: Any, place: Any, disk: Any) -> None:
        self.number = number
        self.python: threading.Thread | None = python
        self.gate = Gate()
        self.ident = 0
        self.handle: Any = None  # from Python 3.13 on
        self.sentinel: Any = None  # before: a lock that is free when the thread has ended
        self.place = place  # the host that it belongs to
        self.loop = place.loop
        self.here, self.disk = place, disk  # what its code has when it goes on
        self.share = 0.0  # of the places at which it gives the turn to another thread
        self.ran = 0  # the number of its last turn
        self.ended = False
        self.doomed = False  # what it waits for raises an exception
        # The call in which it waits.
        self.waits_for = ""
        self.frame: Any = None
        self.target: Any = None  # a lock, for example
        self.test: Callable[[], Any] | None = None  # whether it can go on
        self.deadline = -1  # in nanoseconds

    @property
    def name(self) -> str:
        """The name of the thread."""
        if self.python is not None:
            return self.python.name
        return f"thread {self.number}"

    def can_run(self, now: int) -> bool:
        """Whether it need not wait."""
        if self.ended:
            return False
        if self.test is None or (0 <= self.deadline <= now):
            return True
        return bool(self.test())


class Threads:
    """The threads of one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.loop = world.loop
        self.driver = self.loop.sim_driver
        self.network = world.network
        self.main = Turn(0, threading.current_thread(), self.network.home, None)
        self.main.ident = threading.get_ident()
        self.current = self.main
        self.all = [self.main]
        self.switches = 0
        self.started = 0
        self.error: SimError | None = None  # why no thread can go on
        self.recalled = False  # the watcher has interrupted the run
        self.abandoned = False  # and the thread with the turn does not give it back
        self.closing = False
        self._leaving: Turn | None = None  # has given up its turn, and may not have ended yet
        self._passed = 0
        self._still = (0, 0)  # turns, at this time
        self._mixes = False
        self._shares: Choices | None = None
        self._picks: Choices | None = None
        self._holds: Choices | None = None

    # ---- starting and ending ----

    def start(self, function: Any, args: Any, kwargs: Any = None, handle: Any = None) -> Any:
        """Start a thread. Returns its handle, or its number before Python 3.13."""
        if self._holds is None:
            self._begin()
        python = getattr(function, "__self__", None)
        if not isinstance(python, threading.Thread):
            python = None
        self.started += 1
        turn = Turn(self.started, python, self.network.here, mounted_disk())
        turn.share = self._new_share()
        run = functools.partial(self._run, turn, function, args, kwargs or {})
        if _joinable is None:
            turn.ident = _real_start(run, ())
        else:
            # As a daemon, or a thread that hangs would hold up the end of the process.
            turn.handle = _joinable(
                run, daemon=True, **({} if handle is None else {"handle": handle})
            )
            turn.ident = turn.handle.ident
        self.all.append(turn)
        give(self.current.ident, True)
        self.pause()
        return turn.ident if _joinable is None else turn.handle

    def start_new(self, function: Any, args: Any, kwargs: Any = None, /) -> int:
        """_thread.start_new_thread()"""
        started = self.start(function, args, kwargs)
        ident: int = started if _joinable is None else started.ident
        return ident

    def start_joinable(self, function: Any, handle: Any = None, daemon: bool = True) -> Any:
        """_thread.start_joinable_thread()"""
        return self.start(function, (), None, handle)

    def _begin(self) -> None:
        """The first thread is about to start."""
        script = self.loop.script
        self._picks = script.stream("order of threads")
        self._holds = script.stream("order of turns")
        self._mixes = self.loop.parameters["order"] != "fifo"
        self._shares = script.stream("share of threads")
        self.main.share = self._new_share()
        self.world.lead()

    def _new_share(self) -> float:
        assert self._shares is not None
        return SHARES[self._shares.choose(len(SHARES))] if self._mixes else 0.0

    def _run(self, turn: Turn, function: Any, args: Any, kwargs: Any) -> None:
        """Run the function of a thread, in its turns."""
        turn.gate.wait(-1)
        try:
            self._go_on(turn)
            if _set_sentinel is not None:
                turn.sentinel = _set_sentinel()
            if not turn.doomed:
                function(*args, **kwargs)
            elif turn.python is not None:
                threading._limbo.pop(turn.python, None)  # type: ignore[attr-defined]
        finally:
            self._finish(turn)

    def _finish(self, turn: Turn) -> None:
        """A thread has ended. The next one sees to it that nothing of it is left."""
        if turn is not self.current:
            return  # it was left alone
        turn.ended = True
        lock = getattr(turn.python, "_tstate_lock", None)
        turn.sentinel = turn.sentinel if lock is None else lock
        self._leaving = turn
        chosen = self._next() or self._advance()
        self._pass_to(chosen)

    def _reap(self) -> None:
        turn, self._leaving = self._leaving, None
        assert turn is not None
        if turn.handle is not None:
            really_join(turn.handle)
        elif turn.sentinel is not None:
            really_acquire(turn.sentinel)
            turn.sentinel.release()
        self.all.remove(turn)

    # ---- turns ----

    def _lives(self, turn: Turn) -> bool:
        """Whether the process of a thread goes on."""
        if turn is self.main or turn.place is self.network.home:
            return True
        host = self.world.hosts.get(turn.place.name)
        return host is not None and host._loop is turn.loop and host._state == "running"

    def _ready(self) -> list[Turn]:
        """The threads that could go on. That which has run last is the last one."""
        now = self.driver.now
        ready = [
            turn
            for turn in self.all
            if (turn.can_run(now) or self._joins_leaving(turn)) and self._lives(turn)
        ]
        ready.sort(key=lambda turn: turn.ran)
        return ready

    def _joins_leaving(self, turn: Turn) -> bool:
        """Whether a thread waits for the end of the one that has just given up its turn."""
        leaving = self._leaving
        if leaving is None or turn.target is None or turn.ended:
            return False
        return turn.target is leaving.sentinel or turn.target is leaving.handle

    def _next(self) -> Turn | None:
        """The thread that goes on, or None."""
        if self.closing or self.recalled or self.error is not None:
            return self.main
        ready = self._ready()
        return self._pick(ready) if ready else None

    def _pick(self, ready: list[Turn]) -> Turn:
        if len(ready) == 1 or not self._mixes:
            return ready[0]
        assert self._picks is not None
        chosen = ready[self._picks.choose(len(ready))]
        if chosen is not ready[0] and self.loop.script.explains:
            self.loop.script.say(
                f"{self._whereabouts(chosen)}  ran before  {self._whereabouts(ready[0])}"
            )
        return chosen

    def _pass_to(self, turn: Turn) -> None:
        self.switches += 1
        still, at = self._still
        self._still = (still + 1 if at == self.driver.now else 0, self.driver.now)
        if still > STILL_MAX and self.error is None:
            self.error = self.loop._why("livelock")
            turn = self.main
        turn.ran = self.switches
        self.current = turn
        self.driver.note(f"thread {turn.name}")
        give(turn.ident, len(self.all) > 1)
        turn.gate.open()

    def _hand_over(self, turn: Turn) -> None:
        """Give the turn to another thread, and wait until it comes back."""
        me = self.current
        if turn is me:
            self._check(me)
            return
        me.here, me.disk = self.network.here, mounted_disk()
        self._pass_to(turn)
        if me is not self.main:
            me.gate.wait(-1)
        else:
            while not me.gate.wait(LOOK):
                if self.abandoned:
                    self._take_over()
                    break
        self._go_on(me)

    def _go_on(self, me: Turn) -> None:
        """A thread has got the turn."""
        if self._leaving is not None:
            self._reap()
            give(me.ident, len(self.all) > 1)
        self.network.here = me.here
        if me.disk is not None:
            use(me.disk)
        self._check(me)

    def _check(self, me: Turn) -> None:
        """Raise what ends a thread."""
        if me is self.main:
            if self.error is not None or self.recalled:
                raise Interruption
        elif me.doomed and me.test is not None and not me.test():
            raise Ending

    def _take_over(self) -> None:
        """A thread does not give the turn back. It is never to have another one."""
        lost = self.current
        lost.ended = True
        self.all.remove(lost)
        lock = getattr(lost.python, "_tstate_lock", None)
        if lock is not None:  # before Python 3.13: the end of the process would wait for it
            threading._shutdown_locks.discard(lock)  # type: ignore[attr-defined]
        self.current = self.main
        give(self.main.ident, len(self.all) > 1)

    def pause(self, at_once: bool = False) -> None:
        """A place at which another thread may get the turn."""
        me = self.current
        if self.closing or self.error is not None or self.recalled:
            self._passed += 1
            if me.doomed and self._passed > PASSED_MAX:
                self._passed = 0
                raise Ending  # it asks again and again
            return
        code = sys._getframe(1).f_code
        # Not by the code itself: the same lines in two files are equal.
        if not (at_once or _is_place(code.co_filename, code.co_qualname)):
            return
        others = [turn for turn in self._ready() if turn is not me]
        if not others:
            return
        me.frame = sys._getframe(1)
        self._passed += 1
        assert self._holds is not None
        if not at_once and self._passed < PASSED_MAX:
            if not self._mixes or not self._holds.rarely(me.share):
                me.frame = None
                return
            if self.loop.script.explains:
                self.loop.script.say(f"{self._whereabouts(me)}  is held up")
        self._passed = 0
        self._hand_over(self._pick(others))
        me.frame = None

    def wait(
        self, waits_for: str, target: Any, test: Callable[[], Any], seconds: float = -1.0
    ) -> bool:
        """Let others go on until test() holds. Returns False if that is not within so many seconds."""
        me = self.current
        me.waits_for, me.target, me.test, me.frame = waits_for, target, test, sys._getframe(1)
        me.deadline = -1 if seconds < 0 else self.driver.now + int(seconds * 1e9) + 1
        try:
            self._check(me)
            self._hand_over(self._next() or self._advance())
            return bool(test())
        finally:
            me.test = me.target = me.frame = None
            me.deadline = -1

    def sleep(self, seconds: float) -> None:
        """time.sleep()"""
        if seconds:
            self.wait("time.sleep()", None, lambda: False, seconds)
        else:
            self.pause(at_once=True)  # for programs that ask again and again

    def runs(self, handle: Any) -> bool:
        """Whether another thread of the world has this handle."""
        return any(turn.handle is handle for turn in self.all if turn is not self.current)

    def has_others(self) -> bool:
        """Whether there is another thread than the loop's."""
        return len(self.all) > 1

    def is_elsewhere(self) -> bool:
        """Whether another thread than the loop's has the turn."""
        return self.current is not self.main

    # ---- time ----

    def _due(self) -> int:
        """When the first of the threads need not wait any more, or -1."""
        waiting = [turn.deadline for turn in self.all if not turn.ended and self._lives(turn)]
        return min((deadline for deadline in waiting if deadline >= 0), default=-1)

    def _advance(self) -> Turn:
        """Let time pass until a thread can go on, while the loop's thread is in a call that blocks."""
        while True:
            is_open = not self.loop.is_closed()
            event = self.network.turn(self.driver.now, True) if is_open else -1
            chosen = self._next()
            if chosen is not None:
                return chosen
            due = self._due()
            if due < 0 or 0 <= event < due:
                due = event
            if due < 0:
                if self._may_be_helped():
                    continue
                self.error = self.loop._why("threads")
            elif not self.driver.pass_time(max(0, due - self.driver.now)):
                self.error = self.loop._why("limit")

    def _may_be_helped(self) -> bool:
        """Wait in real time for threads from outside of the world, which could end a wait."""
        ours = {turn.ident for turn in self.all}
        outside = [
            ident
            for ident in sys._current_frames()
            if ident not in ours and "hoop.sim watcher" not in str(threading._active.get(ident))  # type: ignore[attr-defined]
        ]
        gate = Gate()
        for _ in range(200 if outside else 0):
            gate.wait(0.001)
            if self._ready():
                return True
        return False

    def step(self, ran: int) -> int:
        """The loop has asked for news. Returns RAN if a thread has run, or when one will, or -1.

        `ran` is what the hosts of the world have answered.
        """
        if self.error is not None or self.recalled or len(self.all) == 1:
            return ran
        ready = [turn for turn in self._ready() if turn is not self.main]
        if ready:
            assert self._holds is not None
            if not self._mixes or not self._holds.rarely(self.main.share / 2):
                self._hand_over(self._pick(ready))
            elif self.loop.script.explains:
                self.loop.script.say(f"{self._whereabouts(ready[0])}  is held up")
            return RAN
        due = self._due()
        return due if ran == -1 or (ran != RAN and 0 <= due < ran) else ran

    # ---- the end ----

    def wait_for_exit(self) -> None:
        """The program has ended. Its process does when all threads have that are no daemons."""
        if not self.has_others():
            return
        with self._executors_end():
            self.wait("the exit of the process", None, lambda: not self._lasting(), EXIT_TIME)
        if self._lasting():
            self.error = self.loop._why("exit")
            raise Interruption

    def _lasting(self) -> list[Turn]:
        """Threads that hold up the exit of the process."""
        return [
            turn
            for turn in self.all
            if turn is not self.main
            and turn.python is not None
            and not (turn.python.daemon or turn.ended)
            and turn.place is self.network.home
        ]

    @contextlib.contextmanager
    def _executors_end(self) -> Iterator[None]:
        """Have idle threads of executors end, as they do at the exit of the interpreter."""
        ours = {id(turn.python) for turn in self.all}
        before = executors._shutdown
        executors._shutdown = True
        try:
            for thread, work in list(executors._threads_queues.items()):
                if id(thread) in ours:
                    work.put(None)
            yield
        finally:
            executors._shutdown = before

    def close(self) -> None:
        """End the threads that are left: what they wait for raises SystemExit in them."""
        if not self.has_others():
            return
        self.closing = True
        if self.current is not self.main:
            self._take_over()
        with self._executors_end():
            for turn in self.all[1:]:
                turn.doomed = True
                self._passed = 0
                for _ in range(ENDINGS_MAX):
                    if turn.ended:
                        break
                    self._force(turn)
        if self._leaving is not None:
            self._reap()
        give(self.main.ident, False)

    def _force(self, turn: Turn) -> None:
        """Have a thread run on, whatever it waits for."""
        with contextlib.suppress(Interruption):
            self._hand_over(turn)

    # ---- words ----

    def _whereabouts(self, turn: Turn) -> str:
        return f"{turn.name} [{_where(turn)[0]}]"

    def lines(self) -> list[str]:
        """A line for each thread: its name, where it is, and what it waits for."""
        shown = self.all if self.main.test is not None else self.all[1:]
        owners: dict[Turn, Any] = {}
        lines = []
        for turn in shown:
            place, call = _where(turn)
            if turn.test is None:
                call = "is ready"
            if not call:
                owners[turn] = None if turn.target is None else owner_of(turn.target)
            owner = owners.get(turn)
            held = "" if owner is None else f", held by {owner.name}"
            lines.append(f"  {turn.name:<12} {place:<20} {call or turn.waits_for}{held}")
        return [*(f"a cycle: {' -> '.join(cycle)}" for cycle in _cycles(owners)), *lines]


def _where(turn: Turn) -> tuple[str, str]:
    """The innermost line of a thread that is the program's own, and its call of Python's library."""
    frame = turn.frame
    called = None
    while frame is not None and frame.f_code.co_filename.startswith(_libraries):
        if frame.f_code.co_filename.startswith(_BETWEEN):
            frame = None  # the loop calls a function of the library, as if in an executor
            break
        name = frame.f_code.co_qualname
        if frame.f_code.co_filename != __file__ and not name.startswith(_STARTS):
            called = frame
        frame = frame.f_back
    call = "" if called is None else f"{called.f_code.co_qualname}()"
    shown = called if frame is None else frame
    if shown is None:
        return "-", call
    return f"{os.path.basename(shown.f_code.co_filename)}:{shown.f_lineno}", call


def _cycles(owners: dict[Turn, Any]) -> list[list[str]]:
    """Threads that wait for locks of one another, by their names."""
    found: list[list[str]] = []
    seen: set[Turn] = set()
    for turn in owners:
        path: list[Turn] = []
        one: Any = turn
        while one is not None and one not in seen:
            seen.add(one)
            path.append(one)
            one = owners.get(one)
        if one in path:
            found.append([each.name for each in [*path[path.index(one) :], one]])
    return found
