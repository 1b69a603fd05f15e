"""A thread that watches all loops of the process, without a socket, for tests of stalls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from hoop.observe.stalls import Stall, Watch


class WatchThread(threading.Thread):
    """Takes the turns of a Watch until stop() is called."""

    def __init__(self, watch: Watch, timeout: float = 1.0) -> None:
        super().__init__(name="hoop-observer", daemon=True)
        self.watch = watch
        self.timeout = timeout
        self.ends, self.tells = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        watch.start()
        self.start()

    def run(self) -> None:
        while self.ends not in self.watch.turn([self.ends], self.timeout):
            pass

    def stop(self) -> None:
        """End the thread, and the watch."""
        os.write(self.tells, b"x")
        self.join()
        os.close(self.ends)
        os.close(self.tells)
        self.watch.stop()


def start(
    threshold: float, hook: Callable[[Stall], object] | None = None, timeout: float = 1.0
) -> WatchThread:
    """Watch in a thread. Call stop() of what it returns to end that."""
    return WatchThread(Watch(threshold, hook), timeout)
