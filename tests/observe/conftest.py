"""After each of these tests the signal, the files, the timers and the callbacks of an observer are gone.

The fixtures of all tests look for threads and descriptors.
"""

from __future__ import annotations

import gc
import os
import re
import signal

import pytest

from hoop.loop import registry


@pytest.fixture(autouse=True)
def nothing_of_the_watch_left():
    actions = [signal.getsignal(number) for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]
    caught = signals_caught()
    callbacks = list(gc.callbacks)
    yield
    assert gc.callbacks == callbacks
    assert signals_caught() == caught
    assert actions == [
        signal.getsignal(number) for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
    ]
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in memfds()] == []
    with open("/proc/self/timers") as timers:
        assert "signal: 64" not in timers.read()
    assert registry.on_run is None


def signals_caught() -> str:
    """The signals for which there is a handler, by the kernel's word."""
    with open("/proc/self/status") as status:
        return re.search(r"^SigCgt:\s*(\w+)", status.read(), re.MULTILINE)[1]


def memfds() -> list[str]:
    """The open files of a watch."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if "hoop-stall" in os.readlink(f"/proc/self/fd/{fd}"):
                found.append(fd)
        except FileNotFoundError:
            pass
    return found
