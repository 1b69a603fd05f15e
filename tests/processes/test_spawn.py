"""spawn: how a child gets from the parent's memory to its program, and what it takes along."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import time

import pytest
from children import held_program

from hoop.processes import spawn

# Looking for its program at so many places keeps a child busy for a tenth of a second or so.
NOWHERE = [b"/does/not/exist"] * 100_000


def start(*argv, programs=None, **changed):
    """spawn.start() for a program that takes nothing special along."""
    chosen = {
        "env": None,
        "cwd": None,
        "stdio": (-1, -1, -1),
        "pass_fds": [],
        "close_fds": True,
        "restore_signals": True,
        "new_session": False,
        "process_group": -1,
        "umask": -1,
        "uid": -1,
        "gid": -1,
        "groups": None,
        "copies": False,
    } | changed
    argv = [os.fsencode(argument) for argument in argv]
    programs = [b"/bin/" + argv[0]] if programs is None else programs
    return spawn.start(programs, argv, *chosen.values())


def finish(child):
    """The end of a child: spawn.outcome(), and its exit status."""
    pid, report = child
    select.select([report], [], [])
    found = spawn.outcome(report)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert spawn.count_launches() == 0
    return found, status


def output(*argv, **changed):
    """The output of a child that works as it should."""
    r, w = os.pipe()
    with open(r, errors="surrogateescape") as file:
        child = start(*argv, stdio=(-1, w, w), **changed)
        os.close(w)
        found = file.read()
    assert finish(child) == (None, 0)
    return found


@pytest.fixture
def held(tmp_path):
    with held_program(tmp_path) as program:
        yield program


def await_child(held):
    """Wait until a child has come to a held program."""
    deadline = time.monotonic() + 10
    while not held.reached:
        assert time.monotonic() < deadline
        time.sleep(0)


@pytest.fixture(params=[False, True], ids=["sharing", "copying"])
def copies(request):
    return request.param


def test_the_program_runs(copies):
    assert finish(start("true", copies=copies)) == (None, 0)
    assert finish(start("sh", "-c", "exit 7", copies=copies)) == (None, 7)
    assert output("echo", "a b", "\udcff", copies=copies) == "a b \udcff\n"


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"programs": [b"/does/not/exist"]}, (errno.ENOENT, spawn.EXEC)),
        ({"programs": [b"/bin/true/x"]}, (errno.ENOTDIR, spawn.EXEC)),
        ({"programs": [b"/"]}, (errno.EACCES, spawn.EXEC)),
        ({"programs": []}, (errno.ENOENT, spawn.EXEC)),
        ({"programs": [b"/does/not/exist", b"/", b"/etc/passwd/x"]}, (errno.EACCES, spawn.EXEC)),
        ({"env": [b"x" * 1_000_000]}, (errno.E2BIG, spawn.EXEC)),
        ({"cwd": b"/does/not/exist"}, (errno.ENOENT, spawn.CHDIR)),
        ({"pass_fds": [1000]}, (errno.EBADF, spawn.SETUP)),
        ({"stdio": (1000, -1, -1)}, (errno.EBADF, spawn.SETUP)),
        ({"process_group": 1 << 30}, (errno.EPERM, spawn.SETUP)),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_failure_is_told_with_the_step_that_failed(changed, failure, copies):
    assert finish(start("true", copies=copies, **changed)) == (failure, 255)


def test_the_first_program_that_is_there_is_run():
    programs = [b"/does/not/exist", b"/etc/passwd", b"/bin/false", b"/bin/true"]
    assert finish(start("x", programs=programs)) == (None, 1)


def test_the_parent_goes_on_while_the_program_cannot_be_read(held):
    """vfork() would stop it; so would reading the report."""
    pid, report = start("true", programs=[held.path.encode()])
    await_child(held)
    assert spawn.count_launches() == 1
    assert select.select([report], [], [], 0)[0] == []
    held.release()
    assert finish((pid, report)) == (None, 0)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_the_child_runs_no_code_but_its_own():
    """The C library's would use what belongs to the parent's thread: read in the machine code."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--no-addresses", spawn.__file__]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pending, seen = ["hoop_child"], set()
    while pending:
        name = pending.pop()
        seen.add(name)
        code = re.search(rf"^<{re.escape(name)}>:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)[1]
        assert "%fs" not in code  # the thread's own data
        assert "tpidr_el0" not in code
        called = re.findall(r"^\s*(?:callq?|blr?)\s.*?<?([\w.@%*]+)>?$", code, re.MULTILINE)
        assert [target for target in called if not target.startswith("hoop_")] == []
        pending += set(called) - seen
    assert {"hoop_exec", "hoop_reset_signals"} <= seen


def test_the_errors_of_the_child_do_not_become_the_parents():
    """They have one errno."""
    child = start("true", programs=[*NOWHERE, b"/bin/true"])
    found = set()
    for _ in range(10_000):
        try:
            os.close(-1)
        except OSError as exc:
            found.add(exc.errno)
    assert found == {errno.EBADF}
    assert finish(child) == (None, 0)


def test_the_parent_may_change_its_environment_meanwhile(monkeypatch, tmp_path):
    monkeypatch.setenv("HOOP_TEST", "before")
    r, w = os.pipe()
    with held_program(tmp_path, "/usr/bin/env") as held:
        child = start("env", programs=[held.path.encode()], stdio=(-1, w, -1))
        await_child(held)
        change_environment()
    os.close(w)
    with open(r) as file:
        assert "HOOP_TEST=before\n" in file.read()
    assert finish(child) == (None, 0)


def change_environment():
    for n in range(100):
        os.environ[f"HOOP_TEST_{n}"] = "x" * n  # the C library moves its table
        del os.environ[f"HOOP_TEST_{n}"]
    os.environ["HOOP_TEST"] = "after"


def test_children_on_their_way_do_not_disturb_each_other():
    children = [
        start("sh", "-c", f"exit {n}", programs=[*NOWHERE[:n], b"/bin/sh"]) for n in range(50)
    ]
    found = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    assert found == list(range(50))
    assert [spawn.outcome(report) for _, report in children] == [None] * 50
    assert spawn.count_launches() == 0


def test_a_child_killed_on_its_way_lets_go_of_the_memory(held):
    pid, report = start("true", programs=[held.path.encode()])
    await_child(held)
    os.kill(pid, signal.SIGKILL)
    assert finish((pid, report)) == (None, -signal.SIGKILL)


def test_a_report_given_up_early_is_closed(held):
    pid, report = start("true", programs=[held.path.encode()])
    assert spawn.outcome(report) is None
    assert spawn.count_launches() == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert spawn.count_launches() == 0


def test_nothing_is_left_if_there_can_be_no_child():
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            start("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.errno == errno.EMFILE
    assert max(int(name) for name in os.listdir("/proc/self/fd")) == highest
    assert spawn.count_launches() == 0


@pytest.mark.parametrize(
    "changed",
    [{"programs": ["text"]}, {"env": [None]}, {"stdio": "abc"}, {"groups": ["x"]}],
    ids=str,
)
def test_nothing_is_left_of_an_order_of_the_wrong_types(changed):
    with pytest.raises(TypeError):
        start("true", **changed)
    assert spawn.count_launches() == 0


# ---- what the child takes along ----------------------------------------------------------------------


def descriptors_of(listing):
    return {line.split()[-3] for line in listing.splitlines() if " -> " in line}


def test_only_what_is_passed_stays_open(copies):
    r, w = os.pipe()
    inheritable = os.dup(r)
    os.set_inheritable(inheritable, True)
    high = os.dup2(r, 900)
    try:
        found = output("ls", "-l", "/proc/self/fd", pass_fds=[w, high], copies=copies)
        assert descriptors_of(found) - {"3"} == {"0", "1", "2", str(w), str(high)} - {"3"}
        found = output("ls", "-l", "/proc/self/fd", close_fds=False, copies=copies)
        assert str(inheritable) in descriptors_of(found)
        assert str(w) not in descriptors_of(found)
        assert not os.get_inheritable(w)
    finally:
        for fd in (r, w, inheritable, high):
            os.close(fd)


def test_standard_descriptors_may_be_exchanged(tmp_path):
    """Each is moved out of the way before another takes its place."""
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        saved = os.dup(1), os.dup(2)
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            swapped = finish(start("sh", "-c", "echo to out; echo to err >&2", stdio=(-1, 2, 1)))
            same = finish(start("sh", "-c", "echo again; echo again >&2", stdio=(-1, 1, 2)))
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
        assert swapped == same == (None, 0)
        out.seek(0)
        err.seek(0)
        assert list(out) == ["to err\n", "again\n"]
        assert list(err) == ["to out\n", "again\n"]


def signals_of(pid_status, line):
    """The signals in a line of /proc/<pid>/status."""
    mask = int(
        next(text for text in pid_status.splitlines() if text.startswith(line)).split()[1], 16
    )
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_signals_are_as_after_exec_by_subprocess(copies):
    handlers = {
        signal.SIGUSR1: lambda *_: None,
        signal.SIGUSR2: signal.SIG_IGN,
        signal.SIGPIPE: signal.SIG_IGN,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG, signal.SIGRTMAX})
    try:
        for restore in (True, False):
            found = output(
                "cat", "/proc/self/status", env=[], restore_signals=restore, copies=copies
            )
            assert signals_of(found, "SigBlk") == {signal.SIGURG, signal.SIGRTMAX}
            assert signals_of(found, "SigCgt") == set()
            ignored = signals_of(found, "SigIgn")
            assert signal.SIGUSR2 in ignored
            assert (signal.SIGPIPE in ignored) is not restore
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGURG, signal.SIGRTMAX}
        assert signal.getsignal(signal.SIGUSR1) is handlers[signal.SIGUSR1]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_while_it_is_on_its_way_runs_no_handler_in_the_child(held):
    """A signal to the whole group, as of Ctrl-C: the parent's handler would run in the parent's memory."""
    told = []
    before = signal.signal(signal.SIGUSR1, lambda *_: told.append(os.getpid()))
    try:
        pid, report = start("true", programs=[held.path.encode()])
        await_child(held)
        os.kill(pid, signal.SIGUSR1)
        assert finish((pid, report))[1] == -signal.SIGUSR1
        assert told == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_directory_umask_session_and_group(copies, tmp_path):
    shell = "pwd; umask; cut -d' ' -f5,6 /proc/$$/stat; echo $$"
    found = output("sh", "-c", shell, cwd=os.fsencode(tmp_path), umask=0o37, copies=copies)
    where, mask, ids, pid = found.splitlines()
    assert where == str(tmp_path)
    assert int(mask, 8) == 0o37
    assert ids == f"{os.getpgrp()} {os.getsid(0)}"
    *_, ids, pid = output("sh", "-c", shell, new_session=True, copies=copies).splitlines()
    assert ids == f"{pid} {pid}"
    *_, ids, pid = output("sh", "-c", shell, process_group=0, copies=copies).splitlines()
    assert ids == f"{pid} {os.getsid(0)}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_works_on_a_copy():
    def ids(**changed):
        lines = output("cat", "/proc/self/status", copies=True, **changed).splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return [found[name].split() for name in ("Uid", "Gid", "Groups")]

    assert ids(uid=12345, gid=23456, groups=[7, 8]) == [["12345"] * 4, ["23456"] * 4, ["7", "8"]]
    assert ids(groups=[])[2] == []


# ---- kernels that refuse something --------------------------------------------------------------------

REFUSING = """
import ctypes, errno, os, platform, select, struct
from hoop.processes import spawn

CLONE_VM, CLONE_THREAD = 0x100, 0x10000

def refuse(call, number, *, flag=0, unless=0):
    # A seccomp filter: the call fails, if its first argument has one flag and not the other.
    def step(code, k, yes=0, no=0):
        return struct.pack("HBBI", code, yes, no, k)
    steps = [step(0x20, 0), step(0x15, call, 0, 5), step(0x20, 16)]  # the number; its low argument
    steps += [step(0x45, flag, 0, 3) if flag else step(0x05, 0), step(0x45, unless, 2, 0)]
    steps += [step(0x06, 0x50000 | number), step(0x06, 0x7FFF0000), step(0x06, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(steps))
    fprog = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.prctl(22, 2, fprog) == 0, os.strerror(ctypes.get_errno())

def start(*argv, programs=None, close_fds=True, out=-1):
    argv = [a.encode() for a in argv]
    return spawn.start(programs or [b"/bin/" + argv[0]], argv, None, None, (-1, out, -1), [], close_fds,
                       True, False, -1, -1, -1, -1, None, False)

def finish(pid, report):
    select.select([report], [], [])
    return spawn.outcome(report), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

COPIES = """
refuse({"x86_64": 56, "aarch64": 220}[platform.machine()], errno.EINVAL, flag=CLONE_VM, unless=CLONE_THREAD)
child = start("true", programs=[b"/does/not/exist"] * 100_000 + [b"/bin/true"])
assert spawn.count_launches() == 0  # the child has a copy
print(finish(*child), finish(*start("false")))
"""

CLOSES_ONE_BY_ONE = """
refuse(436, errno.ENOSYS)  # close_range
r, w = os.pipe()
os.set_inheritable(os.dup2(r, 900), True)
child = start("ls", "/proc/self/fd", out=w)
os.close(w)
print(os.read(r, 999).split(), finish(*child))
"""


def test_a_copy_is_made_where_memory_may_not_be_shared(python):
    """In some time namespaces, the kernel says EINVAL."""
    assert python(REFUSING + COPIES) == "(None, 0) (None, 1)\n"


def test_descriptors_are_closed_one_by_one_on_old_kernels(python):
    """Those before 5.9. One more is there: with it the child reads the directory."""
    expected = [b"0", b"1", b"2", b"3"]
    assert python(REFUSING + CLOSES_ONE_BY_ONE) == f"{expected} (None, 0)\n"


def test_a_child_takes_no_longer_to_make_in_a_large_process():
    """The best of many runs is measured: longer times are the machine's."""

    def best(copies):
        times = []
        for _ in range(20):
            began = time.perf_counter()
            child = start("true", copies=copies)
            times.append(time.perf_counter() - began)
            assert finish(child) == (None, 0)
        return min(times)

    ballast = bytearray(os.urandom(1 << 20)) * 300
    shared, copied = best(False), best(True)
    assert len(ballast) == 300 << 20
    assert shared < copied, (shared, copied)
