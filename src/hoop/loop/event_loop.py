"""The event loop: the compiled core in front, asyncio's own code for what runs once per connection.

`EventLoop` inherits from the core's `Loop` first, which has everything that runs per callback, and from
asyncio's selector loop second. What asyncio does in ordinary Python and not often (resolving and choosing
addresses, checking arguments, servers, executors, exception handlers, debug mode) is thereby exactly what
the running Python's asyncio does. No selector exists; what reached for it goes to the driver.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import weakref
from asyncio import base_events, events
from collections.abc import Callable
from typing import Any

from hoop._core.epoll import EpollDriver
from hoop._core.loop import Loop
from hoop.loop import registry

registry.install()


class EventLoop(Loop, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """An asyncio event loop. See asyncio.AbstractEventLoop."""

    # asyncio's attributes get slots: as long as an instance has no __dict__, CPython calls its methods
    # without looking into one, which saves a quarter of the cost of call_soon.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_old_agen_hooks",
        "_selector",
        "_signal_handlers",
        "_ssock",
        "_timer_cancelled_count",
        "_transports",
        "_unix_server_sockets",
        "_wakeup_fd_before",
        "slow_callback_duration",
    )

    def __init__(self) -> None:
        self._set_driver(EpollDriver())
        base_events.BaseEventLoop.__init__(self)
        # What the selector loop's constructor would have made, less the selector.
        self._selector = None
        self._transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._signal_handlers: dict[int, events.Handle] = {}
        self._unix_server_sockets: dict[Any, int] = {}
        self._ssock = self._csock = None
        self._wakeup_fd_before: int | None = None
        registry.loops.add(self)

    @property
    def driver(self) -> str:
        """The name of the driver that this loop uses: "epoll"."""
        return self._driver_name()

    # ---- running ----

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._run_forever_setup()
        try:
            self._run_turns()
        finally:
            self._run_forever_cleanup()

    def _run_forever_setup(self) -> None:
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        self._old_agen_hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        events._set_running_loop(self)
        self._watch_signals()

    def _run_forever_cleanup(self) -> None:
        self._unwatch_signals()
        self._stopping = False
        self._thread_id = None
        events._set_running_loop(None)
        self._set_coroutine_origin_tracking(False)
        if self._old_agen_hooks is not None:
            sys.set_asyncgen_hooks(*self._old_agen_hooks)
            self._old_agen_hooks = None

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off."""
        self._debug = enabled
        if self.is_running():
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, self._debug)

    def close(self) -> None:
        """Close the loop: let go of everything that waits, and of the kernel. See asyncio.loop.close."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._release()

    # ---- signals ----
    # Python's C handler only sets a flag. So that a signal can never slip in just before the loop goes
    # to sleep, it also writes to a socket that the loop watches, while the loop runs in the main thread.

    def _watch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._need_self_pipe()
        before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        if before not in (-1, self._csock.fileno()):
            signal.set_wakeup_fd(before)  # somebody else's; they will wake us by their own means
        else:
            self._wakeup_fd_before = before

    def _unwatch_signals(self) -> None:
        if self._wakeup_fd_before is not None:
            self._wakeup_fd_before = None
            signal.set_wakeup_fd(self._csock.fileno() if self._signal_handlers else -1)

    def _need_self_pipe(self) -> None:
        if self._ssock is None:
            self._make_self_pipe()

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            super()._close_self_pipe()

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Call callback(*args) in the loop when a signal arrives. See asyncio.loop.add_signal_handler."""
        self._check_closed()
        self._need_self_pipe()
        super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Give a signal its default action back. True if it had a handler."""
        removed: bool = super().remove_signal_handler(sig)
        if removed and self._wakeup_fd_before is not None:
            signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        return removed


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """For code that still chooses its loop by policy: new_event_loop() gives a hoop loop."""

    _loop_factory = EventLoop


def new_event_loop() -> EventLoop:
    """A new hoop event loop: what `loop_factory=` wants."""
    return EventLoop()
