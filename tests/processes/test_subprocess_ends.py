"""How children end, how making them is cut short, and what is left then: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from children import children, held_program, open_descriptors
from peers import same_as_asyncio, turns, until

import hoop
from hoop.processes import spawn


@pytest.fixture(autouse=True)
def no_child_is_left():
    yield
    assert children() == set()
    assert spawn.count_launches() == 0


@pytest.fixture
def held(tmp_path):
    with held_program(tmp_path) as program:
        yield program


# ---- on the way to the program -----------------------------------------------------------------------


def test_the_loop_runs_while_a_program_cannot_be_read(run, held):
    """On a network disk, say. vfork() would stop the thread, and others stop the loop."""

    async def main():
        starting = asyncio.create_task(asyncio.create_subprocess_exec(held.path))
        await until(lambda: held.reached)
        await turns(100)
        assert not starting.done()
        other = await asyncio.create_subprocess_exec("true")
        assert await other.wait() == 0
        held.release()
        assert await (await starting).wait() == 0

    run(main())


def test_cancelled_while_the_program_cannot_be_read(run, held):
    async def main():
        before = open_descriptors()
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(held.path, stdin=-1, stdout=-1, stderr=-1)
        )
        await until(lambda: held.reached)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert children() == set()
        assert open_descriptors() == before

    run(main())


def test_cancelled_twice(run, held):
    """The second time while it waits for the child that was killed the first time."""

    async def main():
        starting = asyncio.create_task(asyncio.create_subprocess_exec(held.path, stdout=-1))
        await until(lambda: held.reached)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: children() == set())

    run(main())


def test_cancelled_after_any_number_of_turns(run):
    async def main():
        before = open_descriptors()
        n, cut_short = 0, 0
        while True:
            making = asyncio.create_task(asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1))
            await turns(n)
            if not making.cancel():
                break
            with pytest.raises(asyncio.CancelledError):
                await making
            await until(lambda: children() == set())
            n, cut_short = n + 1 + n // 8, cut_short + 1
        process = await making
        process.kill()
        await process.communicate()
        await until(lambda: open_descriptors() == before)
        return cut_short

    assert run(main()) > 3


def test_a_child_that_is_killed_before_its_program_runs(run, held):
    """Nobody says that anything failed; as with subprocess, its exit status is what there is."""

    async def main():
        starting = asyncio.create_task(asyncio.create_subprocess_exec(held.path))
        await until(lambda: held.reached)
        (pid,) = children()
        os.kill(pid, signal.SIGTERM)
        assert await (await starting).wait() == -signal.SIGTERM

    run(main())


def test_a_loop_closed_while_a_program_cannot_be_read(new_loop, held, logged):
    before = open_descriptors()
    loop = new_loop()
    making = []

    async def main():
        making.append(asyncio.create_task(asyncio.create_subprocess_exec(held.path, stdin=-1)))
        await until(lambda: held.reached)

    loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # subprocess: it is still running
        making.clear()
        gc.collect()
    assert open_descriptors() == before
    for pid in children():
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
    subprocess._cleanup()
    assert [words[:38] for words in logged.messages] == ["Task was destroyed but it is pending!\n"]


# ---- the end of a child -------------------------------------------------------------------------------


@pytest.fixture(params=["pidfd", "thread"])
def waiting_by(request, monkeypatch):
    """Both ways to wait; the second as where a sandbox refuses pidfd_open()."""

    def refuse(pid, flags=0):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param == "thread":
        monkeypatch.setattr(os, "pidfd_open", refuse)
    return request.param


@pytest.mark.usefixtures("waiting_by")
@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", -9), ("kill -ABRT $$", -signal.SIGABRT)],
)
def test_how_a_child_ended_is_told(run, command, status):
    async def main():
        process = await asyncio.create_subprocess_shell(f"ulimit -c 0; {command}")
        waits = [process.wait() for _ in range(5)]
        assert await asyncio.gather(*waits) == [status] * 5
        assert process.returncode == status

    run(main())


@pytest.mark.usefixtures("waiting_by")
def test_a_child_is_talked_to_and_killed(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        assert await process.communicate(b"x" * 100_000) == (b"x" * 100_000, None)
        process = await asyncio.create_subprocess_exec("sleep", "100")
        process.send_signal(signal.SIGUSR1)
        assert await process.wait() == -signal.SIGUSR1
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/does/not/exist")

    run(main())


@pytest.mark.usefixtures("waiting_by")
def test_waiting_is_cancelled_and_begun_again(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100", stdout=-1)
        for waiting in process.wait(), process.communicate():
            task = asyncio.create_task(waiting)
            await turns(3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert process.returncode is None
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    run(main())


@pytest.mark.usefixtures("waiting_by")
def test_a_status_that_somebody_else_took(run, logged):
    """As asyncio has it: 255, and a warning."""

    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
        os.kill(process.pid, signal.SIGKILL)
        assert os.waitpid(process.pid, 0)[1] == signal.SIGKILL
        assert await process.wait() == 255
        return process.pid

    pid = run(main())
    words = f"child process pid {pid} exit status already read: will report returncode 255"
    assert logged.messages == [words]


@pytest.mark.usefixtures("waiting_by")
def test_a_handler_of_sigchld_that_takes_every_status_comes_later(run):
    """asyncio's FastChildWatcher is such a handler. The signal is often seen before the pidfd is ready."""

    def take_all():
        with contextlib.suppress(ChildProcessError):  # there is no child left
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def kill(process):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, take_all)
        for _ in range(10):
            first, second = [await asyncio.create_subprocess_exec("cat", stdin=-1) for _ in "ab"]
            kill(first)
            loop.call_soon(loop.call_soon, kill, second)
            assert (await first.wait(), await second.wait()) == (-signal.SIGKILL,) * 2

    run(main())


@pytest.mark.usefixtures("waiting_by")
@pytest.mark.parametrize("method", ["kill", "terminate", "send_signal"])
def test_a_child_that_was_waited_for_gets_no_signal(run, method):
    """Also if wait() was called after the end was known, and before connection_lost() was called."""
    arguments = (signal.SIGUSR1,) if method == "send_signal" else ()

    async def wait_and_signal(transport):
        assert await transport._wait() == 0
        with pytest.raises(ProcessLookupError):
            getattr(transport, method)(*arguments)

    async def main():
        class Protocol(asyncio.SubprocessProtocol):
            def process_exited(self):
                coroutines.append(wait_and_signal(transport))
                waits_for.append(coroutines[0].send(None))  # what a task does in its first step

        coroutines, waits_for = [], []
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            Protocol, "true", stdin=None, stdout=None, stderr=None
        )
        await until(lambda: waits_for and waits_for[0].done())
        with pytest.raises(StopIteration):
            coroutines[0].send(None)
        transport.close()

    run(main())


@pytest.mark.usefixtures("waiting_by")
def test_the_kernel_throws_every_status_away(run, logged):
    """With SIGCHLD ignored it does."""

    async def main():
        process = await asyncio.create_subprocess_shell("exit 3")
        assert await process.wait() == 255

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert len(logged.messages) == 1


def test_out_of_descriptors_a_child_is_waited_for_all_the_same(run, monkeypatch):
    """asyncio raises, and forgets the child."""
    opened = os.pidfd_open

    def run_out(pid, flags=0):
        monkeypatch.setattr(os, "pidfd_open", opened)
        raise OSError(errno.EMFILE, "Too many open files")

    async def main():
        monkeypatch.setattr(os, "pidfd_open", run_out)
        for status in 3, 4:
            assert await (await asyncio.create_subprocess_shell(f"exit {status}")).wait() == status

    run(main())


# ---- loops and threads ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("waiting_by")
def test_loops_in_several_threads_at_once(driver):
    async def one(n):
        process = await asyncio.create_subprocess_shell(f"cat; exit {n}", stdin=-1, stdout=-1)
        return (*await process.communicate(b"%d" % n), process.returncode)

    async def several():
        return await asyncio.gather(*map(one, range(10)))

    found = []
    threads = [threading.Thread(target=lambda: found.append(hoop.run(several()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[(b"%d" % n, None, n) for n in range(10)]] * 4


def test_a_loop_closed_while_a_child_runs(new_loop):
    """The child is not the loop's; its transport may still be closed, and kills it."""
    before = open_descriptors()
    loop = new_loop()

    async def script():
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "100", stdin=None, stdout=None, stderr=None
        )
        return transport

    transport = loop.run_until_complete(script())
    loop.close()
    assert open_descriptors() == before
    popen = transport.get_extra_info("subprocess")
    assert popen.poll() is None
    transport.close()
    assert popen.wait() == -signal.SIGKILL
    assert transport.get_returncode() is None


def test_a_loop_closed_while_a_thread_waits_for_a_child(loop, monkeypatch, logged):
    """The thread takes the status, so that no zombie is left."""

    def refuse(pid, flags=0):
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    process = loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "100"))
    loop.close()
    process._transport.close()
    for thread in threading.enumerate():
        if thread.name.startswith("hoop-waitpid"):
            thread.join()
    assert process._transport.get_extra_info("subprocess").returncode == -signal.SIGKILL
    assert logged.messages == [f"Loop {loop!r} that handles pid {process.pid} is closed"]


def test_a_transport_dropped_unclosed_says_so_and_kills(loop):
    async def script(loop):
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "cat", stdout=None, stderr=None
        )
        popen = transport.get_extra_info("subprocess")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            transport.__del__()
        await until(lambda: popen.returncode is not None)
        await turns(3)
        words = [str(warning.message).split()[:3] for warning in caught]
        return [(w[:2], w[2].partition("Sub")[2]) for w in words], popen.returncode

    assert same_as_asyncio(loop, script)[1] == -signal.SIGKILL


def test_orphans_that_the_process_inherits_are_not_touched(python):
    """As process 1 of a container, or as a subreaper, which is the same for us."""
    code = """
    import asyncio, ctypes, os, hoop
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # a subreaper

    async def main():
        process = await asyncio.create_subprocess_shell("(exec sleep 100 >&-) & echo $!", stdout=-1)
        out, _ = await process.communicate()
        orphan = int(out)
        os.kill(orphan, 9)
        other = await asyncio.create_subprocess_exec("true")
        assert await other.wait() == 0
        return os.waitpid(orphan, 0) == (orphan, 9)

    print(hoop.run(main()))
    """
    assert python(code) == "True\n"


WITHOUT_STANDARD_DESCRIPTORS = """
import asyncio, os, sys, hoop
result = os.dup(1)
for fd in 0, 1, 2:
    os.close(fd)

async def main():
    found = []
    for keywords in ({"stdin": -1, "stdout": -1, "stderr": -1}, {"stdin": -1, "stdout": -1},
                     {"stdout": -1, "stderr": asyncio.subprocess.STDOUT}, {"stdin": -3, "stdout": -1}):
        process = await asyncio.create_subprocess_shell("cat; echo err >&2", **keywords)
        found.append(await process.communicate(b"x" if keywords.get("stdin") == -1 else None))
    return found

if sys.argv[1] == "hoop":
    found = hoop.run(main())
else:
    found = asyncio.run(main())
os.write(result, repr(found).encode())
"""


def test_pipes_that_get_the_numbers_of_standard_descriptors(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(WITHOUT_STANDARD_DESCRIPTORS)
    source = os.path.dirname(os.path.dirname(hoop.__file__))
    found = [
        subprocess.run(
            [sys.executable, path, which],
            env={**os.environ, "PYTHONPATH": source},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for which in ("asyncio", "hoop")
    ]
    assert found[0] == found[1]
    assert found[1].startswith(b"[(b'x', b'err\\n'), (b'x', None), ")


def test_a_forked_copy_of_the_loop_does_not_disturb_the_wait(python):
    code = """
    import asyncio, os, hoop
    loop = hoop.new_event_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1))
    pid = os.fork()
    if pid == 0:
        loop.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    print(loop.run_until_complete(process.communicate(b"x")), process.returncode)
    loop.close()
    """
    assert python(code, "-W", "ignore::DeprecationWarning") == "(b'x', None) 0\n"
