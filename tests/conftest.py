"""Fixtures of every test of hoop: a loop, a time limit, and the proof that nothing was left behind.

`loop`, `new_loop` and `run` give hoop loops, once for each driver. A test that expects something in
asyncio's log asks for `logged`; in all others a warning or an error there fails the test.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from pathlib import Path

import pytest

import hoop
from hoop.drivers import capabilities
from hoop.drivers.op import count_live_ops
from hoop.loop import registry

REFUSAL = capabilities.why_not()
DRIVERS = [
    "epoll",
    pytest.param("uring", marks=pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))),
]

TIME_LIMIT = float(os.environ.get("HOOP_TIME_LIMIT", "20"))  # seconds; more on a busy machine
KILL_AFTER = 2 * TIME_LIMIT  # seconds until a process that missed its time limit is ended


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever uses a loop once for each driver."""
    if "driver" in metafunc.fixturenames:
        metafunc.parametrize("driver", DRIVERS)


# ---- the time limit --------------------------------------------------------------------------------


class OverTime(SystemExit):
    """Raised in the main thread when a test takes too long. Loops let a SystemExit through."""


stderr_key = pytest.StashKey[int]()
failed_key = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error, for faulthandler's output. Take SIGINT, even if pytest was started with
    it ignored, as background jobs are.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # From Python 3.15 on, fork() sees faulthandler's thread, which limits the time of each test.
    if sys.version_info >= (3, 15):
        config.addinivalue_line(
            "filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning"
        )
    config.stash[stderr_key] = os.dup(2)


@pytest.fixture(autouse=True, scope="module")
def few_objects():
    """Keep pytest, its reports and the tests themselves out of the many collections to come: they would
    take more time than the tests."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Limit the time for what is torn down at the very end."""
    faulthandler.dump_traceback_later(KILL_AFTER, exit=True, file=session.config.stash[stderr_key])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the copy of standard error back."""
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[stderr_key])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """End a test that takes too long: by an exception, or else the whole process."""

    def over(signum, frame):
        raise OverTime(f"the test took more than {TIME_LIMIT:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    faulthandler.dump_traceback_later(KILL_AFTER, exit=True, file=item.config.stash[stderr_key])
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        if item.stash.get(failed_key, False):
            forget_failure()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item):
    """End the session if a teardown takes too long. pytest does not finish it then, and the remains of
    this test's fixtures would make others fail.
    """
    try:
        return (yield)
    except OverTime:
        traceback.print_exc()
        pytest.exit(f"{item.nodeid} was torn down for too long: no test after it has run", 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Note that a test failed: its leftovers are then no news. The report has time of its own."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        report = yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left or TIME_LIMIT)
    if report.failed:
        item.stash[failed_key] = True
    return report


def forget_failure() -> None:
    """Let go of what a failed test's traceback holds, lest the next test is blamed for it."""
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


# ---- nothing left behind ---------------------------------------------------------------------------


def descriptors() -> dict[int, str]:
    """The process's open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the one with which the directory was read
    return found


def pending_tasks() -> list[asyncio.Task]:
    """Every unfinished task of every loop, hoop's and asyncio's."""
    return [task for task in list(registry._asyncio_task_set()) if not task.done()]


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Compare with before the test: loops, tasks, ops, descriptors, threads, signals and hooks."""
    gc.collect()
    loops = set(registry.loops)
    fds = descriptors()
    ops = count_live_ops()
    tasks = pending_tasks()
    threads = set(threading.enumerate())
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    wakeup_fd = signal.set_wakeup_fd(-1)
    if request.node.stash.get(failed_key, False):
        return
    gc.collect()
    for thread in threading.enumerate():
        if thread not in threads:
            # An executor that was shut down may still be ending, a file opened too late being closed.
            thread.join(5)
    opened = [loop for loop in registry.loops if loop not in loops and not loop.is_closed()]
    assert opened == [], "loops were left open"
    busy = [
        f"{loop!r}: {loop.counters()}"
        for loop in registry.loops
        if loop not in loops and (loop._ready or loop._scheduled or loop.counters()["transports"])
    ]
    assert busy == [], "closed loops still hold something"
    assert [task for task in pending_tasks() if task not in tasks] == [], "tasks were left pending"
    assert count_live_ops() == ops, "ops were left alive"
    assert descriptors() == fds, "descriptors were left open, or closed"
    assert [t for t in threading.enumerate() if t not in threads] == [], "threads were left"
    assert asyncio._get_running_loop() is None
    assert signal.getsignal(signal.SIGINT) is interrupt
    assert wakeup_fd == -1, "a wake-up descriptor for signals was left"
    assert sys.get_asyncgen_hooks() == (None, None)
    assert sys.get_coroutine_origin_tracking_depth() == 0


class Logged(logging.Handler):
    """The records in asyncio's log at level WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.expected = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, without what would keep objects of the test alive."""
        record.msg, record.args = record.getMessage(), ()
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        """The texts, without tracebacks."""
        return [record.msg for record in self.records]

    @property
    def text(self) -> str:
        """Everything, with tracebacks."""
        return "\n".join(f"{record.msg}\n{record.exc_text or ''}" for record in self.records)


@pytest.fixture(autouse=True)
def asyncio_log(nothing_left, request):
    """Fail a test that writes a warning or an error to asyncio's log without asking for `logged`."""
    handler = Logged()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    yield handler
    gc.collect()  # what complains when dropped, complains now
    logger.removeHandler(handler)
    failed = request.node.stash.get(failed_key, False)
    assert failed or handler.expected or handler.messages == [], handler.text


@pytest.fixture
def logged(asyncio_log) -> Logged:
    """The records in asyncio's log: `.messages`, `.text`."""
    asyncio_log.expected = True
    return asyncio_log


# ---- loops -----------------------------------------------------------------------------------------


def make_loop(driver: str) -> hoop.EventLoop:
    """A new hoop loop with a driver of that name."""
    loop = hoop.new_event_loop(driver)
    assert loop.driver == driver
    return loop


@pytest.fixture
def new_loop(driver):
    """A function that makes hoop loops; they are closed after the test."""
    made: list[hoop.EventLoop] = []

    def new() -> hoop.EventLoop:
        made.append(make_loop(driver))
        return made[-1]

    yield new
    for loop in made:
        loop.close()
    made.clear()


@pytest.fixture
def loop(new_loop):
    """A hoop loop. It is not the current one until it runs."""
    return new_loop()


@pytest.fixture
def run(new_loop):
    """A function that runs a coroutine on a fresh hoop loop and closes the loop."""

    def run(coro, *, debug: bool | None = None, limit: float = TIME_LIMIT):
        async def limited():
            async with asyncio.timeout(limit):
                return await coro

        return hoop.run(limited(), debug=debug, loop_factory=new_loop)

    return run


# ---- a process of its own --------------------------------------------------------------------------


@pytest.fixture
def python():
    """A function that runs code in a fresh interpreter and returns what it printed."""
    source = str(Path(hoop.__file__).parent.parent)

    def python(code: str, *options: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *options, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT - 5,
            check=False,
        )
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return python
