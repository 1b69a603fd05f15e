"""Signals: a loop that runs in the main thread wakes up for each, and calls its handler in the loop.

Python's C handler only sets a flag. A signal that comes just before the loop sleeps would then wait. So the
handler also writes to a socket that the loop watches, while the loop runs in the main thread. The loop has
its sockets from its beginning, as on asyncio, but uses them only from its first sleep on. Many never sleep.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple

_Ts = TypeVarTuple("_Ts")

# The sockets to which Python's C signal handler writes for a loop, by descriptor. A forked child shares them
# with its parent. Without care the parent's loop would take the child's signals for its own. As long as the
# handler may write to one it is kept, or else its number would soon belong to another file.
_wakeup_fds: dict[int, _socket.socket] = {}

# The signals that have arrived, of those with a handler in a loop. The descriptor gets a byte for each one.
# When the descriptor is full the kernel drops bytes: a signal that is only marked here is handled, too.
_marked: set[int] = set()


def _mark(number: int, frame: Any) -> None:
    """Python's own handler of a signal that has a handler in a loop."""
    _marked.add(number)


def _forget_wakeup_fds() -> None:
    _marked.clear()
    if _wakeup_fds:
        before = signal.set_wakeup_fd(-1)
        if before not in _wakeup_fds:
            signal.set_wakeup_fd(before)
        _wakeup_fds.clear()


os.register_at_fork(after_in_child=_forget_wakeup_fds)


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


class SignalWatch(asyncio.SelectorEventLoop):
    """The part of EventLoop that has to do with signals."""

    _signal_handlers: dict[int, asyncio.Handle]
    _ssock: Any
    _csock: Any
    _reads_signals: bool
    _watches_signals: bool

    if TYPE_CHECKING:  # asyncio's, which typeshed does not know
        _add_reader: Any
        _check_closed: Any
        _children: Any  # EventLoop's
        _handle_signal: Any
        _is_inherited: Any  # Loop's
        _internal_fds: int

    def _watch_signals(self) -> None:
        if not _is_main_thread() or self._is_inherited():  # the parent has the same socket
            return
        self._read_signals()
        ours = self._csock.fileno()
        self._watches_signals = True
        _wakeup_fds[ours] = self._csock
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before not in (-1, ours):
            signal.set_wakeup_fd(before)  # that library wakes the loop
            self._watches_signals = False

    def _unwatch_signals(self) -> None:
        if self._watches_signals:
            self._watches_signals = False
            ours = self._csock.fileno()
            before = signal.set_wakeup_fd(-1)
            if before != ours:
                signal.set_wakeup_fd(before)
            elif self._signal_handlers:
                signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
            else:
                _wakeup_fds.pop(ours, None)

    def _make_self_pipe(self) -> None:
        """Make the sockets. Nothing is read from them until the loop sleeps, or has a signal handler."""
        # The socket module's own class takes longer to make than the rest of the loop's descriptors.
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK
        self._ssock, self._csock = _socket.socketpair(_socket.AF_UNIX, kind)
        self._internal_fds += 1

    def _read_signals(self) -> None:
        if not self._reads_signals:
            self._reads_signals = True
            self._add_reader(self._ssock.fileno(), self._read_from_self)

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            _wakeup_fds.pop(self._csock.fileno(), None)
            self._reads_signals = False
            super()._close_self_pipe()  # type: ignore[misc]

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call callback(*args) in the loop when a signal arrives. See asyncio.loop.add_signal_handler.

        Works only in the main thread: ValueError or RuntimeError otherwise.
        """
        self._check_closed()
        self._read_signals()
        super().add_signal_handler(sig, callback, *args)
        _wakeup_fds[self._csock.fileno()] = self._csock
        signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        signal.signal(sig, _mark)
        signal.siginterrupt(sig, False)

    def _read_from_self(self) -> None:
        """Handle the signals that have arrived: one for each byte, and one for each mark that has no byte."""
        marked = _marked.intersection(self._signal_handlers)
        told: list[int] = []
        try:
            while True:
                try:
                    data = self._ssock.recv(4096)
                except BlockingIOError:
                    break
                if not data:
                    break
                told += data
            _marked.difference_update(told, marked)
            told += marked.difference(told)
            marked.clear()
            if signal.SIGCHLD in told and self._children:
                self.call_soon(self._keep_statuses)
            while told:
                self._handle_signal(told[0])
                del told[0]
        except BaseException:  # raised by the handler of another signal
            _marked.update(told, marked)
            raise
        finally:
            if _marked.intersection(self._signal_handlers):  # arrived meanwhile, or not handled yet
                # If the socket is full, this method is called in any case.
                with contextlib.suppress(BlockingIOError):
                    self._csock.send(b"\0")

    def _keep_statuses(self) -> None:
        """Take the statuses of our children just before a handler of SIGCHLD, which may take all."""
        for watch in list(self._children):
            watch.take_if_ended()

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of a signal, which gets its default action back. Returns True if there was
        one.
        """
        removed: bool = super().remove_signal_handler(sig)
        if removed and self._watches_signals:
            signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        return removed
