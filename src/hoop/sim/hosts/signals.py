"""The signals of a program: it has handlers, and sends signals to itself. None of them is real."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from hoop.sim.calls import real
from hoop.sim.errors import SimError, Unsimulated
from hoop.sim.event_loop import SimEventLoop, handled_by_loop
from hoop.sim.net.failures import os_error

# Signals that do not end a program without a handler.
HARMLESS = {
    *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGSTOP, signal.SIGCONT),
}
_signal: Any = importlib.import_module("_signal")  # typeshed has no stub of it
ADVICE = "call the handler in the test, or Host.signal()"


def name_of(number: int) -> str:
    """The name of a signal. Real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def deliver(loop: SimEventLoop, number: int, *, at_once: bool = False) -> bool:
    """Have a program handle a signal. Returns False if it does nothing about it, so that the default holds.

    A handler of the loop is called in the loop's next turn. One of signal.signal() is called there, too, or
    at once, as for a signal that the program sends to itself.
    """
    action = loop.actions.get(number)
    if action is None or number in (signal.SIGKILL, signal.SIGSTOP):
        return False
    if number in loop.handlers and action != signal.SIG_IGN:
        callback, args = loop.handlers[number]
        loop.call_soon(callback, *args)
    if callable(action) and action is not handled_by_loop:
        if at_once:
            action(number, sys._getframe(2))
        else:
            loop.call_soon(action, number, None)
    return True


class Functions:
    """The functions of `signal`, and os.kill(), in one world."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def table(self) -> dict[Any, Callable[..., Any]]:
        """The methods, each by the builtin function in whose place it is called."""
        return {
            os.kill: self.kill,
            _signal.raise_signal: self.raise_signal,
            _signal.pthread_kill: self.pthread_kill,
            _signal.signal: self.signal,
            _signal.getsignal: self.getsignal,
        }

    # ---- sending ----

    def kill(self, pid: int, number: int, /) -> None:
        if pid != os.getpid():
            raise Unsimulated("os.kill() of another process", ADVICE)
        if number:
            self.raise_signal(number)

    def pthread_kill(self, thread: int, number: int, /) -> None:
        if thread != threading.get_ident():
            raise Unsimulated("signal.pthread_kill() of another thread", ADVICE)
        if number:
            self.raise_signal(number)

    def raise_signal(self, number: int, /) -> None:
        if number not in signal.valid_signals():
            raise os_error(errno.EINVAL)
        world = self._world
        if world.has_ended:
            return  # the program is dead, and its code runs for the last time
        host = world.hosts.get(world.network.here.name)
        if host is not None:
            host._receive(number, at_once=True)
            return
        world.note(f"signal {name_of(number)}")
        if deliver(world.loop, number, at_once=True) or number in HARMLESS - {signal.SIGSTOP}:
            return
        if number != signal.SIGINT:
            raise SimError(f"{name_of(number)} has no handler, and ends the program")
        for task in asyncio.all_tasks(world.loop):
            if task.get_coro() is world.program:
                world.loop.call_soon(task.cancel)

    # ---- handlers ----

    def _is_real(self) -> bool:
        """Whether it is asyncio.Runner that calls, for Ctrl-C."""
        return not self._world.has_ended and not self._world.loop.is_running()

    def signal(self, number: int, action: Any, /) -> Any:
        if self._is_real():
            return real(_signal.signal, number, action)
        before = self.getsignal(number)
        if number in (signal.SIGKILL, signal.SIGSTOP):
            raise os_error(errno.EINVAL)
        if not callable(action) and action not in (signal.SIG_DFL, signal.SIG_IGN):
            raise TypeError(
                "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
            )
        if asyncio._get_running_loop() is None and not self._world.has_ended:
            raise ValueError("signal only works in main thread of the main interpreter")
        actions = self._world.network.here.loop.actions
        if action in (signal.SIG_DFL, signal.default_int_handler):
            actions.pop(number, None)
        else:
            actions[number] = action
        return before

    def getsignal(self, number: int, /) -> Any:
        if self._is_real():
            return real(_signal.getsignal, number)
        if not 0 < number < signal.NSIG:
            raise ValueError("signal number out of range")
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        return self._world.network.here.loop.actions.get(number, usual)
