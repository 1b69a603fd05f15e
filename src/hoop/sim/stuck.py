"""Ends a run whose code does not come back to the loop, which virtual time cannot see."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import traceback
from typing import Any

from hoop.sim.errors import Stuck

LOOK = 0.25  # seconds between two looks
PATIENCE = 2.0  # seconds for the code to end, then all stacks go to stderr
FRAMES = 12  # of the stack that is shown


class Interruption(KeyboardInterrupt):
    """Goes through the code that is stuck. It leaves the loop, as each KeyboardInterrupt does."""


class Watcher:
    """A thread that looks whether turns end, in real time. It does nothing unless `seconds` is given.

    If code goes on all the same, the stacks go to stderr. With `fatal` the process is killed then.
    """

    def __init__(self, seconds: float | None, fatal: bool = False) -> None:
        self.fatal = fatal
        self.seconds = seconds
        self.lock = threading.Lock()
        self.left = threading.Event()
        self.driver: Any = None  # of the world that runs
        self.ident = 0  # its thread
        self.text = ""  # where it was stuck
        self.woken = False  # from a call in C that does not end
        self.thread: threading.Thread | None = None
        self.threads: Any = None  # of the world that runs

    def __enter__(self) -> Watcher:
        if self.seconds is not None:
            self.thread = threading.Thread(target=self._look, name="hoop.sim watcher", daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        if self.thread is not None:
            self.thread.join()

    def begin(self, driver: Any, threads: Any = None) -> None:
        """Watch the turns of this driver, on this thread, and those of the threads of its world."""
        with self.lock:
            self.ident = threading.get_ident()
            self.text = ""
            self.woken = False
            self.driver, self.threads = driver, threads

    def end(self) -> None:
        """Stop watching. Raises Stuck if the run was interrupted."""
        with self.lock:
            self.driver = self.threads = None
            text, self.text = self.text, ""
            if text:
                _take_interruption(self.ident)
        if text:
            raise Stuck(text)

    def _look(self) -> None:
        assert self.seconds is not None
        seen: tuple[Any, int] = (None, 0)
        for_seconds = asked_at = 0.0
        while not self.left.wait(min(LOOK, self.seconds)):
            with self.lock:
                driver = self.driver
                turns = 0 if self.threads is None else self.threads.switches
                state = (driver, 0 if driver is None else driver.turn + turns)
                for_seconds = for_seconds + min(LOOK, self.seconds) if state == seen else 0.0
                seen = state
                if driver is None or for_seconds < self.seconds:
                    continue
                if not self.text:
                    self.text = self._say(driver)
                    self._interrupt()
                    asked_at = for_seconds
                elif not self.woken and for_seconds > asked_at:
                    self.woken = True
                    self._wake()
                elif for_seconds >= self.seconds + PATIENCE:
                    for_seconds = self.seconds
                    faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
                    if self.fatal:
                        os.kill(os.getpid(), signal.SIGKILL)
                    self.seconds = self.seconds * 2
                    self.woken = False
                    self._interrupt()  # the code may have caught the first

    def _running(self) -> int:
        """The thread that has the turn."""
        ident: int = self.ident if self.threads is None else self.threads.current.ident
        return ident

    def _interrupt(self) -> None:
        """Have the code raise an exception. If it is that of another thread, so does the loop's."""
        if self._running() != self.ident:
            self.threads.recalled = True
        _interrupt(self._running(), Interruption)

    def _wake(self) -> None:
        """End a call in C, or leave the thread alone that makes it."""
        if self._running() == self.ident:
            _wake(self.ident)
        else:
            self.threads.abandoned = True

    def _say(self, driver: Any) -> str:
        frame = sys._current_frames().get(self._running())
        stack = traceback.format_stack(frame)[-FRAMES:] if frame is not None else []
        heading = (
            f"at {driver.now * 1e-9:.3f} s: the code has not come back to the loop "
            f"for {self.seconds:g} s of real time"
        )
        return "\n".join([heading, "".join(stack).rstrip()])


def _interrupt(ident: int, kind: type[BaseException]) -> None:
    """Have a thread raise an exception before its next step in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))


def _wake(ident: int) -> None:
    """End a call in which the main thread waits, such as that of a lock, by the signal of Ctrl-C.

    Its handler is the next step in Python, so it raises the interruption. Other threads get no signal.
    """
    if ident == threading.main_thread().ident and callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(ident, signal.SIGINT)


def _take_interruption(ident: int) -> None:
    """Let an interruption come in this thread, if it has not come yet.

    It cannot be called off: on Python 3.11 the thread would then look for one before each step, for ever.
    """
    try:
        _interrupt(ident, Interruption)  # in the place of one that waits
        while True:
            pass
    except Interruption:
        pass
