"""Child processes are asyncio's in everything a user sees: one script on two loops, keyword by keyword."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from children import children
from peers import same_as_asyncio, until

ROOT = os.geteuid() == 0

STATUS = re.compile("^(?:SigBlk|SigIgn|SigCgt|Uid|Gid|Groups|Umask|NoNewPrivs):.*$", re.MULTILINE)


def without_internal(line):
    """A line of signals without 32 and 33, which are the C library's: posix_spawn() ignores them."""
    name, value = line.split(":", 1)
    return (name, int(value, 16) & ~(3 << 31)) if name.startswith("Sig") else line


async def facts(**keywords):
    """A child's own account of itself, made with these keywords, without what differs from run to run."""
    process = await asyncio.create_subprocess_exec("sleep", "100", **keywords)
    proc = Path(f"/proc/{process.pid}")

    def stat():
        return (proc / "stat").read_text().rpartition(")")[2].split()

    await until(lambda: stat()[0] == "S")  # the program is loaded, and sleeps
    descriptors = {
        fd.name: re.sub(r"\d{3,}", "n", os.readlink(fd)) for fd in (proc / "fd").iterdir()
    }
    found = {
        "status": [
            without_internal(line) for line in STATUS.findall((proc / "status").read_text())
        ],
        "directory": os.readlink(proc / "cwd"),
        "program": os.readlink(proc / "exe"),
        "argv": (proc / "cmdline").read_bytes(),
        "environment": (proc / "environ").read_bytes(),
        "leads its group": stat()[2] == str(process.pid),
        "leads its session": stat()[3] == str(process.pid),
        "descriptors": descriptors,
    }
    process.kill()
    await process.communicate()
    return found


class Surroundings:
    """Things that the keywords may name: descriptors and a directory."""

    def __init__(self, folder):
        self.folder = folder
        self.file = (folder / "out").open("w")
        self.pair = socket.socketpair()
        self.inheritable = os.dup(0)
        os.set_inheritable(self.inheritable, True)

    def close(self):
        self.file.close()
        os.close(self.inheritable)
        for sock in self.pair:
            sock.close()


@pytest.fixture
def around(tmp_path):
    with contextlib.closing(Surroundings(tmp_path)) as found:
        yield found


KEYWORDS = {
    "nothing": lambda a: {},
    "pipes": lambda a: {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    },
    "pipes of 64 KiB": lambda a: {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "pipesize": 65536,
    },
    "devnull": lambda a: dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
    "stderr to stdout": lambda a: {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    "stderr to our stdout": lambda a: {"stderr": subprocess.STDOUT},
    "file": lambda a: {"stdout": a.file},
    "descriptor": lambda a: {"stdout": a.file.fileno(), "stderr": a.file.fileno()},
    "exchanged": lambda a: {"stdout": 2, "stderr": 1},
    "socket for stdin": lambda a: {"stdin": a.pair[0]},
    "cwd": lambda a: {"cwd": a.folder},
    "cwd in bytes": lambda a: {"cwd": os.fsencode(a.folder)},
    "env": lambda a: {"env": {"A": "1", b"B": b"2", "C": "\udcff"}},
    "empty env": lambda a: {"env": {}},
    "close_fds": lambda a: {"close_fds": True},
    "no close_fds": lambda a: {"close_fds": False},
    "pass_fds": lambda a: {"pass_fds": [a.file.fileno(), a.pair[1].fileno()]},
    "pass_fds again": lambda a: {"pass_fds": {a.inheritable, True}, "close_fds": True},
    "odd pass_fds": lambda a: {"pass_fds": iter([float(a.file.fileno())])},
    "start_new_session": lambda a: {"start_new_session": True},
    "process_group": lambda a: {"process_group": 0},
    "restore_signals": lambda a: {"restore_signals": True},
    "no restore_signals": lambda a: {"restore_signals": False},
    "umask": lambda a: {"umask": 0o27},
    "preexec_fn": lambda a: {"preexec_fn": functools.partial(os.umask, 0o12)},
    "executable": lambda a: {"executable": "/bin/sleep"},
    "executable in bytes": lambda a: {"executable": b"sleep"},
}
if ROOT:
    KEYWORDS |= {
        "user": lambda a: {"user": 12345},
        "user by name": lambda a: {"user": "nobody", "group": "nogroup"},
        "group": lambda a: {"group": 23456},
        "extra_groups": lambda a: {"extra_groups": [5, "nogroup"]},
        "no extra_groups": lambda a: {"extra_groups": []},
    }


@pytest.mark.parametrize("name", KEYWORDS)
def test_the_child_is_given_what_asyncio_gives_it(loop, around, name):
    """Descriptors, directory, environment, identity, signals: as the kernel knows them."""
    handlers = {signal.SIGUSR1: signal.SIG_IGN, signal.SIGUSR2: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
    try:
        found = same_as_asyncio(loop, lambda _: facts(**KEYWORDS[name](around)))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGURG})
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ("SigBlk", 1 << (signal.SIGURG - 1)) in found["status"]


WRONG = {
    "no such program": (["/does/not/exist"], {}),
    "no such program in the path": (["does-not-exist"], {}),
    "no such program in an empty path": (["true"], {"env": {"PATH": ""}}),
    "no program": ([""], {}),
    "a folder": (["/"], {}),
    "not executable": (["/etc/passwd"], {}),
    "below a file": (["/etc/passwd/x"], {}),
    "a name too long": (["/" + "x" * 10_000], {}),
    "too much": (["/bin/true", "x" * 1_000_000], {}),
    "null in the program": (["/bin/\0true"], {}),
    "null in an argument": (["/bin/true", "\0"], {}),
    "argument of the wrong type": (["/bin/true", 1], {}),
    "program of the wrong type": ([1], {}),
    "no such cwd": (["true"], {"cwd": "/does/not/exist"}),
    "cwd is a file": (["true"], {"cwd": Path("/etc/passwd")}),
    "null in cwd": (["true"], {"cwd": "\0"}),
    "cwd of the wrong type": (["true"], {"cwd": 1}),
    "null in env": (["true"], {"env": {"a": "\0"}}),
    "equals sign in env": (["true"], {"env": {"a=b": "c"}}),
    "env of the wrong type": (["true"], {"env": {"a": 1}}),
    "env is no mapping": (["true"], {"env": [1]}),
    "pass_fds not open": (["true"], {"pass_fds": [999], "cwd": "/"}),
    "pass_fds negative": (["true"], {"pass_fds": [-1]}),
    "pass_fds huge": (["true"], {"pass_fds": [1 << 31]}),
    "pass_fds of the wrong type": (["true"], {"pass_fds": ["x"]}),
    "no such group of processes": (["true"], {"process_group": 1 << 30, "cwd": "/"}),
    "process_group of the wrong type": (["true"], {"process_group": "x"}),
    "process_group huge": (["true"], {"process_group": 1 << 40}),
    "umask of the wrong type": (["true"], {"umask": 1.5}),
    "stdout not open": (["true"], {"stdout": 999}),
    "stdin negative": (["true"], {"stdin": -7}),
    "stdout to stdout": (["true"], {"stdout": subprocess.STDOUT}),
    "stdin of the wrong type": (["true"], {"stdin": "x"}),
    "user unknown": (["true"], {"user": "nobody of that name"}),
    "user huge": (["true"], {"user": 1 << 40}),
    "user beyond huge": (["true"], {"user": 1 << 70}),
    "user negative": (["true"], {"user": -1}),
    "group huge": (["true"], {"group": 1 << 40}),
    "extra_groups huge": (["true"], {"extra_groups": [1 << 40]}),
    "extra_groups too many": (["true"], {"extra_groups": range(100_000)}),
    "bufsize": (["true"], {"bufsize": 1}),
    "text": (["true"], {"text": True}),
    "universal_newlines": (["true"], {"universal_newlines": True}),
    "encoding": (["true"], {"encoding": "ascii"}),
    "errors": (["true"], {"errors": "strict"}),
    "shell": (["true"], {"shell": True}),
    "startupinfo": (["true"], {"startupinfo": object()}),
    "creationflags": (["true"], {"creationflags": 1}),
    "pipesize of the wrong type": (["true"], {"stdout": subprocess.PIPE, "pipesize": "x"}),
    "unknown keyword": (["true"], {"unknown": 1}),
    "preexec_fn raises": (["true"], {"preexec_fn": functools.partial(divmod, 1, 0)}),
    "restore_signals of the wrong type": (["true"], {"restore_signals": "x"}),
}


ODD = {"preexec_fn", "odd pass_fds"}


@pytest.mark.parametrize("name", KEYWORDS)
def test_nothing_but_the_odd_is_left_to_subprocess(run, around, monkeypatch, name):
    """Which would wait until the program runs."""

    def execute_child(*_):
        raise ZeroDivisionError

    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "0", **KEYWORDS[name](around))
        await process.communicate()
        return process.returncode

    monkeypatch.setattr(subprocess.Popen, "_execute_child", execute_child)
    if name in ODD:
        with pytest.raises(ZeroDivisionError):
            run(main())
    else:
        assert run(main()) == 0


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_started_fails_as_on_asyncio(loop, name):
    argv, keywords = WRONG[name]

    async def script(loop):
        try:
            process = await asyncio.create_subprocess_exec(*argv, **keywords)
        except Exception as exc:
            return type(exc), exc.args, getattr(exc, "filename", None), str(exc)
        return await process.wait()

    same_as_asyncio(loop, script)
    assert children() == set()


@pytest.mark.parametrize(
    ("command", "keywords"),
    [
        ("echo $0; exit 3", {}),
        (b"echo $0", {}),
        ("echo $0", {"executable": "/bin/bash"}),
        ("does-not-exist", {}),
        ("kill -9 $$", {}),
        ("echo x", {"executable": "/does/not/exist"}),
        (["echo"], {}),
        ("echo", {"shell": False}),
    ],
    ids=str,
)
def test_a_shell_is_asked_as_by_asyncio(loop, command, keywords):
    async def script(loop):
        try:
            process = await asyncio.create_subprocess_shell(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords
            )
        except Exception as exc:
            return type(exc), exc.args, getattr(exc, "filename", None)
        return await process.communicate(), process.returncode

    same_as_asyncio(loop, script)


class Protocol(asyncio.SubprocessProtocol):
    """Writes down what it is told."""

    def __init__(self):
        self.events = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.events.append("connection_made")

    def pipe_data_received(self, fd, data):
        self.events.append(("data", fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.events.append(("pipe lost", fd, exc))

    def process_exited(self):
        self.events.append("process_exited")

    def connection_lost(self, exc):
        self.events.append(("connection_lost", exc))
        self.lost.set_result(None)


@pytest.mark.parametrize("command", ["exit 3", "echo a; echo b >&2", "kill $$"])
def test_a_protocol_is_told_what_asyncio_tells_it(loop, command):
    async def script(loop):
        transport, protocol = await loop.subprocess_shell(Protocol, command)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_protocol() is protocol
        pid = transport.get_pid()
        await protocol.lost
        assert transport.get_pid() == pid
        transport.close()
        first, *middle, last = protocol.events
        return first, sorted(map(str, middle)), last, transport.get_returncode()

    same_as_asyncio(loop, script)


def test_the_subprocess_of_a_transport_is_a_popen(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
        popen = process._transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        assert type(popen).__name__ == "Popen"
        assert popen.args == ("cat",)
        assert popen.pid == process.pid
        assert popen.poll() is None
        popen.kill()
        assert popen.wait() == -9  # the user takes the status: nobody complains
        assert await process.wait() == -9
        assert popen.poll() == popen.returncode == -9

    run(main())


def test_a_thread_may_wait_for_the_popen(run):
    async def main():
        process = await asyncio.create_subprocess_shell("read line; exit 5", stdin=subprocess.PIPE)
        popen = process._transport.get_extra_info("subprocess")
        waiting = asyncio.get_running_loop().run_in_executor(None, popen.wait)
        process.stdin.write(b"go\n")
        assert await asyncio.gather(waiting, process.wait()) == [5, 5]

    run(main())


def test_the_pipes_are_large(run):
    data = os.urandom(3_000_000)

    async def main():
        process = await asyncio.create_subprocess_shell(
            "tee /dev/stderr", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert await process.communicate(data) == (data, data)
        assert process.returncode == 0

    run(main())


def test_many_children_at_once(run):
    async def one(n):
        process = await asyncio.create_subprocess_shell(f"cat; exit {n}", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"x" * n)
        return len(out), process.returncode

    async def main():
        assert await asyncio.gather(*map(one, range(100))) == [(n, n) for n in range(100)]

    run(main())


def test_preexec_fn_runs_in_the_child_and_nothing_else_does(python):
    """Without it no code of Python runs at the fork; with it, subprocess does what it always does."""
    code = """
    import asyncio, os, subprocess, hoop
    told = []
    os.register_at_fork(before=lambda: told.append("before"),
                        after_in_parent=lambda: told.append("parent"),
                        after_in_child=lambda: os.write(1, b"child "))

    async def main():
        for keywords in {}, {"close_fds": False}, {"cwd": "/"}, {"user": os.getuid()}:
            process = await asyncio.create_subprocess_exec("true", **keywords)
            assert await process.wait() == 0
        assert told == []
        greet = lambda: os.write(1, b"hello ")
        process = await asyncio.create_subprocess_exec("true", preexec_fn=greet)
        assert await process.wait() == 0

    hoop.run(main())
    print(*told)
    """
    assert python(code) == "child hello before parent\n"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it can not be said any more")
def test_use_vfork_can_be_switched_off(run, monkeypatch):
    """As subprocess documents it: then the child works on a copy of our memory."""
    monkeypatch.setattr(subprocess, "_USE_VFORK", False)

    async def main():
        process = await asyncio.create_subprocess_exec("echo", "x", stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b"x\n"
        with pytest.raises(FileNotFoundError, match="/does/not/exist"):
            await asyncio.create_subprocess_exec("/does/not/exist")

    run(main())


def test_an_audit_hook_is_told_as_by_subprocess(python):
    code = """
    import asyncio, subprocess, sys, hoop
    told = []
    sys.addaudithook(lambda name, args: told.append(args) if name == "subprocess.Popen" else None)

    async def main():
        await (await asyncio.create_subprocess_exec("true", "x", cwd="/", env={"A": "B"})).wait()
        await (await asyncio.create_subprocess_shell("true")).wait()

    hoop.run(main())
    with subprocess.Popen(["true", "x"], cwd="/", env={"A": "B"}), subprocess.Popen("true", shell=True):
        pass
    assert told[:2] == told[2:], told
    print(len(told))
    """
    assert python(code) == "4\n"


def test_another_popen_put_in_the_place_of_subprocess_popen_is_used(run):
    """As tracers do, and tests."""

    class Traced(subprocess.Popen):
        made = []

        def __init__(self, *args, **kwargs):
            self.made.append(args)
            super().__init__(*args, **kwargs)

    async def main():
        with mock.patch("subprocess.Popen", Traced):
            process = await asyncio.create_subprocess_shell("cat; exit 2", stdin=-1, stdout=-1)
        assert await process.communicate(b"x") == (b"x", None)
        assert process.returncode == 2
        assert isinstance(process._transport.get_extra_info("subprocess"), Traced)
        with (
            mock.patch("subprocess.Popen", side_effect=ZeroDivisionError),
            pytest.raises(ZeroDivisionError),
        ):
            await asyncio.create_subprocess_exec("true")

    run(main())
    assert Traced.made == [("cat; exit 2",)]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_child_watcher_is_used_and_none_is_changed(run):
    async def main():
        policy = asyncio.get_event_loop_policy()
        before = getattr(policy, "_watcher", None)
        policy._watcher = mock.create_autospec(asyncio.AbstractChildWatcher)
        try:
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0
            assert policy._watcher.mock_calls == []
            assert asyncio.get_child_watcher() is policy._watcher
        finally:
            policy._watcher = before

    run(main())


def test_signals_are_sent_to_the_child(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100")
        process.send_signal(0)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        process = await asyncio.create_subprocess_exec("sleep", "100")
        process.kill()
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        for send in process.kill, process.terminate, functools.partial(process.send_signal, 1):
            with pytest.raises(ProcessLookupError):
                send()

    run(main())


def test_a_signal_to_a_child_that_has_ended_is_dropped(run):
    """Its number may be another process's by then. While a pipe is open, so is the transport."""

    async def main():
        process = await asyncio.create_subprocess_shell(
            "sleep 100 & echo $!", stdout=subprocess.PIPE
        )
        sleeper = int(await process.stdout.readline())
        await until(lambda: process.returncode is not None)
        with mock.patch("os.kill") as kill, mock.patch("signal.pidfd_send_signal") as pidfd_send:
            process.terminate()
            process.send_signal(signal.SIGUSR1)
            assert kill.mock_calls == pidfd_send.mock_calls == []
        os.kill(sleeper, signal.SIGKILL)
        assert await process.stdout.read() == b""
        assert await process.wait() == 0

    run(main())
