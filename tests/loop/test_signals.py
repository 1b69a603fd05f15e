"""Signals: Ctrl-C as on asyncio's loop, signal handlers, and sleeping loops that notice."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import hoop

HEAD = """
import asyncio, os, signal, sys, threading, time
import hoop

def interrupt_later(seconds=0.05):
    timer = threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT])
    timer.daemon = True
    timer.start()
"""

IDLE = """
async def main():
    interrupt_later()
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    RUN(main())
except KeyboardInterrupt:
    print("interrupted")
"""

BUSY = """
async def main():
    interrupt_later()
    while True:
        await asyncio.sleep(0)

try:
    RUN(main())
except KeyboardInterrupt:
    print("interrupted")
"""

WITHIN_A_CALLBACK = """
async def main():
    interrupt_later()  # only asks the task to cancel itself
    interrupt_later(0.1)
    while True:
        time.sleep(0.001)

try:
    RUN(main())
except KeyboardInterrupt:
    print("interrupted")
"""

SECOND_RUN = """
RUN(asyncio.sleep(0))

async def main():
    interrupt_later()
    await asyncio.sleep(1000)

for _ in range(3):
    try:
        RUN(main())
    except KeyboardInterrupt:
        print("interrupted")
"""

RUN_FOREVER = """
loop = LOOP()
for _ in range(2):
    interrupt_later()
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print("interrupted")
print(loop.run_until_complete(asyncio.sleep(0, "runs again")))
loop.close()
"""

BUSY_RUN_FOREVER = """
loop = LOOP()
def again():
    loop.call_soon(again)
again()
interrupt_later()
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""

SWALLOWED = """
async def main():
    interrupt_later()
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "swallowed"

try:
    print(RUN(main()))
except KeyboardInterrupt:
    print("interrupted")
"""

CLEANED_UP = """
async def worker():
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)
        print("cleaned up")

async def main():
    interrupt_later()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker())

try:
    RUN(main())
except KeyboardInterrupt:
    print("interrupted")
"""

UNCAUGHT = """
async def main():
    interrupt_later()
    await asyncio.sleep(1000)

RUN(main())
"""

SYSTEM_EXIT = """
async def main():
    sys.exit(7)

RUN(main())
"""

SYSTEM_EXIT_IN_A_CALLBACK = """
async def main():
    asyncio.get_running_loop().call_soon(sys.exit, 8)
    await asyncio.sleep(1000)

RUN(main())
"""


@pytest.mark.parametrize(
    "code",
    [
        IDLE, BUSY, WITHIN_A_CALLBACK, SECOND_RUN, RUN_FOREVER, BUSY_RUN_FOREVER, SWALLOWED, CLEANED_UP,
    ],
    ids=[
        "idle", "busy", "within a callback", "second run", "run_forever", "busy run_forever",
        "swallowed", "cleaned up",
    ],
)  # fmt: skip
def test_interrupt_as_on_asyncio(python, code):
    ours = python(HEAD + code.replace("RUN", "hoop.run").replace("LOOP", "hoop.new_event_loop"))
    theirs = python(
        HEAD + code.replace("RUN", "asyncio.run").replace("LOOP", "asyncio.new_event_loop")
    )
    assert ours == theirs != ""


@pytest.mark.parametrize(
    ("code", "status"),
    [(UNCAUGHT, -signal.SIGINT), (SYSTEM_EXIT, 7), (SYSTEM_EXIT_IN_A_CALLBACK, 8)],
    ids=["uncaught", "system exit", "system exit in a callback"],
)
def test_exit_status(python, code, status):
    assert python(HEAD + code.replace("RUN", "hoop.run"), status=status) == ""
    assert python(HEAD + code.replace("RUN", "asyncio.run"), status=status) == ""


INTERRUPTED_200_TIMES = """
async def main(seconds):
    # Some come while the loop sleeps, some while it goes to sleep, some while it runs.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    await asyncio.sleep(10)

signal.signal(signal.SIGALRM, signal.default_int_handler)  # an interrupt without another thread
loop = hoop.new_event_loop()
count = 0
for i in range(200):
    try:
        loop.run_until_complete(main(0.00002 * (1 + i % 23)))
    except KeyboardInterrupt:
        count += 1
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
loop.close()
print(count)
"""


def test_no_interrupt_is_lost(python):
    assert python(HEAD + INTERRUPTED_200_TIMES) == "200\n"


def test_interrupt_while_a_run_is_being_set_up(loop):
    # At each line of the preparations in turn, until none is left to interrupt.
    interrupts = lines = 0
    setting_up = {"_prepare_run", "_watch_signals", "_read_signals"}

    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_name in setting_up and event == "line":
            lines += 1
            if lines > interrupts:
                raise KeyboardInterrupt
        return trace

    while True:
        lines = 0
        loop.call_later(0.001, loop.stop)  # a loop that does not sleep watches no signals
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            loop.run_forever()
            break
        except KeyboardInterrupt:
            interrupts += 1
        finally:
            sys.settrace(before)
        state = (loop.is_running(), asyncio._get_running_loop(), sys.get_asyncgen_hooks().firstiter)
        assert state == (False, None, None), f"after an interrupt at line {interrupts}"
    assert interrupts > 5


def test_signal_handler(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.current_task(), threading.current_thread()))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, 2)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [((1, 2), None, threading.main_thread())]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_signal_handler_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1])
    timer.start()
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_handler_is_replaced(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("second"), loop.stop()))
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_handler_works_in_a_second_run(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append(1), loop.stop()))
    for _ in range(3):
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
    assert seen == [1, 1, 1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_that_came_before_the_run(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_several_signals(loop):
    seen = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, seen.append, number)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert sorted(seen) == [signal.SIGUSR1, signal.SIGUSR2]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.remove_signal_handler(number)


def test_closing_removes_signal_handlers(new_loop):
    loop = new_loop()
    loop.add_signal_handler(signal.SIGUSR1, pytest.fail, "was called")
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_removing_the_last_handler_restores_what_was(loop):
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_are_for_the_main_thread_only(new_loop):
    errors = []

    def run():
        loop = new_loop()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as exc:
            errors.append(type(exc))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == [RuntimeError]


@pytest.mark.parametrize("number", [-1, 0, 1000, "text", signal.SIGKILL])
def test_wrong_signals_are_refused_as_by_asyncio(loop, number):
    stock = asyncio.new_event_loop()
    messages = []
    for each in (loop, stock):
        with pytest.raises((TypeError, ValueError, RuntimeError, OSError)) as caught:
            each.add_signal_handler(number, print)
        messages.append(repr(caught.value))
    stock.close()
    assert messages[0] == messages[1]


def test_a_wakeup_descriptor_of_somebody_else_is_left_alone(loop):
    a, b = socket.socketpair()
    with a, b:
        for each in (a, b):
            each.setblocking(False)
        signal.set_wakeup_fd(a.fileno())
        loop.run_until_complete(asyncio.sleep(0.001))
        assert signal.set_wakeup_fd(-1) == a.fileno()


def test_loop_in_another_thread_while_the_main_thread_is_interrupted(new_loop):
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "still runs"), loop)
    assert future.result(10) == "still runs"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_python_signal_handler_that_raises_ends_the_run(loop):
    def handler(number, frame):
        raise ZeroDivisionError

    def send():
        running.wait()
        time.sleep(0.1)  # until the loop waits
        os.kill(os.getpid(), signal.SIGUSR1)

    running = threading.Event()
    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    loop.call_soon(running.set)
    try:
        with pytest.raises(ZeroDivisionError):
            loop.run_until_complete(asyncio.sleep(15))
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_interrupt_in_a_runner_cancels_the_main_task():
    async def main():
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(15)

    with hoop.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert runner.run(asyncio.sleep(0, "again")) == "again"


STORM = """
import asyncio, hoop, os, signal

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 3600  # steps are slow on a busy machine
    seen = []
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, seen.append, number)
    for _ in range(5):
        for _ in range(2000):  # more than the wake-up descriptor holds
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)
        while seen.count(signal.SIGTERM) < 1 or seen.count(signal.SIGUSR2) < 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert seen.count(signal.SIGTERM) == seen.count(signal.SIGUSR2) == 1, seen
        assert 1 < seen.count(signal.SIGUSR1) <= 2000
        assert signal.SIGHUP not in seen
        seen.clear()
    os.kill(os.getpid(), signal.SIGTERM)  # no mark is left over
    await asyncio.sleep(0.01)
    assert seen == [signal.SIGTERM]
    loop.remove_signal_handler(signal.SIGHUP)
    for _ in range(2000):  # the descriptor stays quiet
        os.kill(os.getpid(), signal.SIGUSR1)

with asyncio.Runner(loop_factory=lambda: hoop.new_event_loop(DRIVER)) as runner:
    runner.run(main())
    runner.run(asyncio.sleep(0))
    for _ in range(2000):
        os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_no_signal_is_lost_in_a_storm_and_nobody_complains(driver):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", STORM.replace("DRIVER", repr(driver))],
        env={**os.environ, "PYTHONPATH": str(Path(hoop.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_that_comes_with_one_whose_handler_raises_is_not_lost(loop):
    class Raised(BaseException):
        pass

    def handler(number, frame):
        raise Raised

    seen = []
    before = signal.signal(signal.SIGUSR1, handler)
    loop.add_signal_handler(signal.SIGUSR2, lambda: (seen.append(1), loop.stop()))
    loop.add_signal_handler(signal.SIGHUP, lambda: (seen.append(2), loop.stop()))

    class Together:
        """In place of the socket: the signals come while it is being read."""

        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def recv(self, size):
            loop._ssock = self.real
            data = self.real.recv(size)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
            return data

    numbers = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        loop.call_soon(
            lambda: (setattr(loop, "_ssock", Together(loop._ssock)), loop._csock.send(b"\0"))
        )
        for number in numbers:  # to this thread: another one may not have blocked them
            signal.pthread_kill(threading.get_ident(), number)
        loop.set_exception_handler(lambda *_: None)
        while len(seen) < 2:
            try:
                loop.run_forever()
            except Raised:
                seen.append("raised")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        loop.remove_signal_handler(signal.SIGUSR2)
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGUSR1, before)
    assert sorted(number for number in seen if number != "raised") == [1, 2]


@pytest.mark.parametrize("news", ["a watch", "a datagram", "nothing"])
def test_what_a_signal_handler_raises_leaves_the_loop_whatever_else_has_come(loop, news):
    """Also if the call in which the loop sleeps has something else to tell."""

    class Raised(BaseException):
        pass

    def handler(number, frame):
        raise Raised

    async def main():
        loop.add_reader(ours, read)
        if news == "a datagram":
            loop.call_soon(theirs.send, b"x")
        else:
            timer.start()
        await loop.create_future()

    def read():
        ours.recv(10)
        timer.start()  # not before: an exception in a callback or task is theirs

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    before = signal.signal(signal.SIGUSR1, handler)
    loop.set_exception_handler(lambda _, context: pytest.fail(str(context)))
    timer = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1])
    try:
        loop.run_until_complete(asyncio.sleep(0))
        if news == "nothing":
            timer.start()
            with pytest.raises(Raised):
                loop.run_until_complete(loop.create_future())
        else:
            with pytest.raises(Raised):
                loop.run_until_complete(main())
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
