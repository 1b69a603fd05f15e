"""The observer of a process: it begins and ends, is asked while loops are blocked, and outlives forks."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

import hoop
import hoop.observe
from hoop.cli import client
from hoop.insight import watcher
from hoop.observe import thread


@pytest.fixture
def path(tmp_path):
    """Where the socket of the test is. It is gone when the test ends."""
    yield str(tmp_path / "a.sock")
    assert not (tmp_path / "a.sock").exists()


@pytest.fixture
def observed(path):
    """Observe this process while the test runs."""
    hoop.observe.start(path=path, threshold=0.05)
    yield path
    hoop.observe.stop()


def look(path, view, **fields):
    with client.connect(path) as connection:
        return connection.ask(view, **fields)


def test_views_of_a_running_program(run, driver, observed):
    async def main():
        asyncio.current_task().set_name("main")
        return [
            await asyncio.to_thread(look, observed, view)
            for view in ("overview", "tasks", "tree", "stack", "stalls", "cycles")
        ]

    overview, tasks, tree, stack, stalls, cycles = run(main())
    assert (overview["schema"], overview["pid"]) == (1, os.getpid())
    assert overview["loops"][0]["driver"] == driver
    assert overview["observer"]["level"] == 1
    assert overview["observer"]["path"] == observed
    assert {"main"} <= {task["name"] for task in tasks}
    assert {task["id"] for task in tree} == {task["id"] for task in tasks}
    assert any(frame["name"].endswith("main") for task in stack for frame in task["stack"])
    assert (stalls, cycles) == ([], [])


def test_a_blocked_loop_is_looked_at(run, observed):
    """The socket answers while the loop is blocked, and the report comes meanwhile."""
    asked, go_on = threading.Event(), threading.Event()
    found = {}

    def ask():
        with client.connect(observed) as connection:
            stalls = connection.follow("stalls")
            asked.set()
            found["stall"] = next(stalls)
            found["overview"] = look(observed, "overview")
        go_on.set()

    async def main():
        await asyncio.sleep(0.01)
        asker.start()
        asked.wait()
        go_on.wait()

    asker = threading.Thread(target=ask)
    run(main())
    asker.join()
    assert (found["stall"]["cause"], found["stall"]["over"]) == ("blocking call", False)
    assert found["stall"]["file"] == __file__
    assert max(loop["blocked"] for loop in found["overview"]["loops"]) >= 0.05
    assert found["overview"]["last_stall"] == found["stall"]


def test_a_client_that_looks_has_loops_measure(run, observed):
    def ask():
        with client.connect(observed) as connection:
            connection.ask("tasks", look=True)
            level = connection.ask("overview")["observer"]["level"]
            busy = 0
            while not busy:  # until the loop has had its turn
                busy = max(task["busy"] for task in connection.ask("tasks", look=True))
        return level, busy

    async def main():
        other = asyncio.create_task(turns())
        try:
            return await asyncio.to_thread(ask)
        finally:
            other.cancel()

    async def turns():
        while True:
            await asyncio.sleep(0)

    level, busy = run(main())
    assert level == 2
    assert busy > 0


def test_rates_of_the_last_seconds():
    """By a clock of the test's own."""
    from hoop.observe.views import History

    now = 100.0
    history = History(lambda: now)
    loop = hoop.new_event_loop()
    try:
        born = loop.statistics()["born"]
        history.take()
        assert history.rates(born) is None
        for _ in range(5):
            loop.call_soon(loop.stop)
            loop.run_forever()
        now = 104.0
        history.take()
        rates = history.rates(born)
        assert rates.seconds == 4.0
        assert rates.turns == pytest.approx(5 / 4, rel=0.5)
        assert rates.visit[2] > 0
        now = 111.0
        history.take()
        assert history.rates(born).seconds == 7.0  # the oldest sample is forgotten
    finally:
        loop.close()
    now = 120.0
    history.take()
    assert history.samples == {}


# ---- its beginning and its end -------------------------------------------------------------------------


def test_it_is_one(observed):
    with pytest.raises(RuntimeError, match="was started already"):
        hoop.observe.start()


def test_stop_without_start():
    hoop.observe.stop()


def test_stop_from_the_hook(loop, path):
    """The thread cannot wait for itself: everything is gone when it has ended."""

    def hook(stall):
        observers.append(thread._observer)
        hoop.observe.stop()

    observers = []
    hoop.observe.start(path=path, threshold=0.02, hook=hook)
    loop.call_soon(threading.Event().wait, 0.3)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    observers[0].join(10)
    assert not observers[0].is_alive()


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("file", FileExistsError, "no socket: '{}/file'"),
        ("folder", FileExistsError, "no socket: '{}/folder'"),
        ("dangling", FileExistsError, "no socket: '{}/dangling'"),
        ("file/a.sock", NotADirectoryError, "cannot be in a file: '{}/file'"),
        ("missing/b/a.sock", FileNotFoundError, "the folder above it is missing: '{}/missing/b'"),
        ("x" * 300, OSError, "the name of the socket is too long: '{}/xxx"),
        ("/proc/a.sock", OSError, "No such file or directory: '/proc/a.sock'"),
    ],
)
def test_what_cannot_begin_leaves_nothing(tmp_path, path, error, text):
    """The error says which path it is about, and why."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    open_files = os.listdir("/proc/self/fd")
    with pytest.raises(error) as told:
        hoop.observe.start(path=os.path.join(tmp_path, path))
    assert text.format(tmp_path) in str(told.value)
    assert not thread.is_on()
    assert os.listdir("/proc/self/fd") == open_files
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "folder"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_path_of_another_user(tmp_path):
    os.chmod(tmp_path, 0o700)
    code = f"""
        import os
        import hoop.observe
        os.setuid(65534)
        try:
            hoop.observe.start(path={str(tmp_path / "a.sock")!r})
        except PermissionError as exc:
            print(exc.filename)
        """
    assert program(code, "/tmp") == [str(tmp_path)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"threshold": 0}, ValueError),
        ({"threshold": float("nan")}, ValueError),
        ({"threshold": float("inf")}, ValueError),
        ({"threshold": 10**400}, ValueError),
        ({"threshold": "x"}, TypeError),
        ({"hook": 3}, TypeError),
        ({"path": ""}, ValueError),
        ({"path": "a\0b"}, ValueError),
        ({"path": b"a"}, TypeError),
        ({"dump": "file"}, TypeError),
        ({"dump": -1}, OSError),
    ],
)
def test_a_wrong_argument_is_told_at_once(tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    open_files = os.listdir("/proc/self/fd")
    with pytest.raises(
        error, match="Bad file" if error is OSError else f"the {next(iter(arguments))}"
    ):
        hoop.observe.start(**{"path": "a.sock"} | arguments)
    assert not thread.is_on()
    assert os.listdir("/proc/self/fd") == open_files
    assert os.listdir(tmp_path) == []


def test_run_observed(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main():
        return client.sockets()

    path = hoop.run(main(), observe=True)[os.getpid()]
    assert path.startswith(str(tmp_path))
    assert not os.path.exists(path)
    assert not thread.is_on()


def test_run_observed_in_an_observed_process(observed):
    async def main():
        return thread._observer

    before = thread._observer
    assert hoop.run(main(), observe=True) is before
    assert thread._observer is before


def test_run_observed_that_cannot_begin(monkeypatch, tmp_path):
    (tmp_path / f"hoop-{os.geteuid()}").symlink_to(tmp_path)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main():
        raise AssertionError("it ran")

    with pytest.raises(PermissionError):
        hoop.run(main(), observe=True)


def test_a_fault_does_not_end_the_watch(observed, caplog, monkeypatch):
    """A fault of the observer's own is logged, and it goes on."""

    def failing():
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(thread._observer.views.history, "take", failing)

    def ask():
        try:
            look(observed, "overview")
        except client.NotAnswering:
            pass  # its connection was closed when the fault came

    with caplog.at_level(logging.ERROR, "hoop.observe"):
        while "the observer failed" not in caplog.text:
            ask()
        assert look(observed, "overview")["pid"] == os.getpid()
    assert "the observer failed" in caplog.text


# ---- processes of their own ------------------------------------------------------------------------------


def program(code, tmp_path, **environment):
    """Run a program whose sockets are in this folder. Returns what it printed."""
    names = ("XDG_RUNTIME_DIR", "HOOP_OBSERVE")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        env={**env, "TMPDIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


SHOW = """
import asyncio, os, signal, threading
import hoop
from hoop.cli import client

def show():
    names = sorted(t.name for t in threading.enumerate() if t.name.startswith("hoop"))
    own = client.sockets().get(os.getpid())
    answers = own is not None and client.connect(os.getpid()).ask("overview")["pid"] == os.getpid()
    print(len(names), answers, client.memfd_of(os.getpid()) is not None, flush=True)

async def main():
    await asyncio.to_thread(show)
"""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1", "1 True True"),
        ("watch", "1 False True"),
        ("0", "0 False False"),
        ("", "0 False False"),
        ("no", "0 False False"),  # the log says that it is wrong
    ],
)
def test_by_the_environment(tmp_path, value, shown):
    code = SHOW + "show()\nhoop.run(main())\nhoop.run(main())\n"
    if value == "no":
        code = "import logging\nlogging.disable()\n" + code
    assert " ".join(program(code, tmp_path, HOOP_OBSERVE=value)) == " ".join(
        ["0 False False", shown, shown]
    )
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []


def test_the_environment_where_nobody_may_listen(tmp_path):
    """It is logged, and the loop is watched."""
    (tmp_path / f"hoop-{os.geteuid()}").symlink_to(tmp_path)
    code = "import logging\nlogging.disable()\n" + SHOW + "hoop.run(main())\n"
    assert program(code, tmp_path, HOOP_OBSERVE="1") == ["1", "False", "True"]


def test_a_fork(tmp_path):
    """The child has nothing of its parent's, and an observer of its own once a loop runs."""
    code = (
        SHOW
        + """
import hoop.observe
hoop.observe.start()
parent = client.sockets()[os.getpid()]
pid = os.fork()
if pid == 0:
    show()
    fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
           and os.path.exists(f"/proc/self/fd/{fd}")]
    print(sum("eventpoll" in fd or "memfd" in fd or "socket" in fd for fd in fds), flush=True)
    hoop.run(main())
    os._exit(0 if os.path.exists(parent) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
hoop.run(main())
"""
    )
    assert " ".join(program(code, tmp_path)) == "0 False False 0 1 True True 1 True True"


def test_a_fork_within_a_running_loop(tmp_path):
    """The parent's loop is not reported as blocked in the child, where it never runs."""
    code = (
        SHOW
        + """
import hoop.observe, time
found = []
hoop.observe.start(threshold=0.05, hook=found.append)

async def forks():
    await asyncio.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        try:
            hoop.run(asyncio.sleep(0.3))
            print(len(found), flush=True)
        finally:
            os._exit(0)
    hoop.observe.stop()  # on a busy machine it may have something to say of the parent
    await asyncio.to_thread(os.waitpid, pid, 0)

hoop.run(forks())
"""
    )
    assert program(code, tmp_path) == ["0"]


FIRST = """
import asyncio, os, sys
import hoop, hoop.observe

async def main():
    print(*(task.site and task.site[1] for task in hoop.observe.snapshot().tasks), flush=True)

def here():
    return sys._getframe(1).f_lineno
"""


@pytest.mark.parametrize("by", ["environment", "fork"])
def test_the_first_task_knows_where_it_was_made(tmp_path, by):
    """It is made before its loop runs, and with it the observer."""
    code = FIRST + (
        "hoop.observe.start()\nif os.fork():\n    os.wait()\n    os._exit(0)\n"
        if by == "fork"
        else ""
    )
    code += "print(here() + 1, flush=True)\nasyncio.Runner(loop_factory=hoop.new_event_loop).run(main())\n"
    environment = {} if by == "fork" else {"HOOP_OBSERVE": "watch"}
    expected, found = program(code, tmp_path, **environment)
    assert found == expected


@pytest.mark.parametrize("end", ["", "sys.exit()", "hoop.observe.stop()"])
def test_nothing_is_left_when_the_process_ends(tmp_path, end):
    code = f"import sys, hoop.observe\nhoop.observe.start()\n{end}\n"
    assert program(code, tmp_path) == []
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []


def test_a_socket_that_was_left_is_replaced(tmp_path):
    """A process that is killed leaves its socket. The next one removes it."""
    code = "import os, hoop.observe\nhoop.observe.start()\nos._exit(0)\n"
    program(code, tmp_path)
    (left,) = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert left.endswith(".sock")
    program("import hoop.observe\nhoop.observe.start()\n", tmp_path)
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []


def test_a_program_that_was_installed(tmp_path):
    """install() has put hoop's classes under asyncio's names when the observer is imported."""
    code = "import hoop\nhoop.install()\n" + SHOW + "asyncio.run(main())\n"
    assert program(code, tmp_path, HOOP_OBSERVE="1") == ["1", "True", "True"]


def test_the_budget_of_a_process(observed):
    """Ten clients ask without pause. By its clocks the thread has used two hundredths of the time."""
    budget = thread._observer.budget
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            try:
                look(observed, "tasks")
            except (client.NotAnswering, client.Refused):
                pass  # eight may ask at a time

    clients = [threading.Thread(target=ask) for _ in range(10)]
    look(observed, "tasks")
    began, spent = budget.at, budget.spent
    for one in clients:
        one.start()
    while budget.spent < spent + 0.1:
        ended.wait(0.05)
    passed, used = budget.at - began, budget.spent - spent
    ended.set()
    for one in clients:
        one.join()
    assert used <= 0.02 * passed + budget.AT_ONCE + 0.02  # one answer that was begun in time


def test_loops_that_go_on_are_looked_at_twice_per_threshold():
    """Each look takes time from them, so looks are rare until a loop stays in one turn."""
    looks = watcher.Watcher(0.1)
    looks.wait([], 0.5)
    assert 1 <= looks.looks <= 11


def test_turns_that_are_almost_too_long_are_no_stall(run):
    """A busy loop does not visit its driver in each turn, so its watcher may not know when one began."""
    reports = []

    async def main():
        slowest = 0.0
        for _ in range(12):
            began = time.monotonic()
            time.sleep(0.085)
            await asyncio.sleep(0)
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    hoop.observe.start(threshold=0.1, hook=reports.append, socket=False)
    try:
        while run(main()) > 0.098:  # the machine was busy: such a turn may be a stall
            reports.clear()
        assert reports == []
    finally:
        hoop.observe.stop()
