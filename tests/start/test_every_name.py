"""`import hoop as asyncio`: every name of the running Python's asyncio is in hoop."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings

import pytest

import hoop

# asyncio leaves it out of `__all__` on 3.11, and programs use it.
ASYNCIO = sorted({*asyncio.__all__, "TaskGroup"})


def parameters(function: object) -> dict[str, tuple[object, object]]:
    """The kind and the default of each parameter."""
    found = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in found}


@pytest.mark.parametrize("name", ASYNCIO)
def test_hoop_has_the_name(name):
    assert name in hoop.__all__
    ours, theirs = getattr(hoop, name), getattr(asyncio, name)
    assert ours is theirs or ours.__module__ == "hoop" or name == "eager_task_factory"


@pytest.mark.parametrize("name", ASYNCIO)
def test_it_is_called_as_asyncio_s_is(name):
    """It may take more than asyncio's, as long as a caller need not give it."""
    ours = getattr(hoop, name)
    try:
        theirs = parameters(getattr(asyncio, name))
    except (TypeError, ValueError):  # a constant, or an exception, which has none
        return
    if name == "EventLoop":
        theirs.pop("selector")
    mine = parameters(ours)
    if inspect.Parameter.VAR_KEYWORD not in {kind for kind, _ in mine.values()}:
        assert theirs == {key: value for key, value in mine.items() if key in theirs}
    more = {key: value for key, value in mine.items() if key not in theirs}
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert [
        key
        for key, (kind, default) in more.items()
        if default is inspect.Parameter.empty and kind not in variable
    ] == []


@pytest.mark.parametrize("name", [*hoop.__all__, "open", "Path"])
def test_every_class_and_function_has_a_signature(name):
    public = getattr(hoop, name)
    if not callable(public) or (isinstance(public, type) and issubclass(public, BaseException)):
        return
    assert inspect.signature(public) is not None


def test_a_star_import_leaves_the_builtin_open_alone(python):
    code = """
        from pathlib import Path
        names = dict(globals())
        from hoop import *
        assert open is __builtins__.open and Path is names["Path"]
        print(gather, Queue, read_text)
        """
    assert "hoop.Queue" in python(code, "-W", "error")


def test_names_that_exist_nowhere():
    with pytest.raises(AttributeError, match="module 'hoop' has no attribute 'gathr'"):
        hoop.gathr  # noqa: B018
    assert not hasattr(hoop, "__path_of_nothing__")


def test_modules_of_asyncio_are_there_too():
    assert hoop.subprocess is asyncio.subprocess
    assert hoop.exceptions is asyncio.exceptions
    assert hoop.streams.__name__ == "hoop.streams"


def test_dir_names_what_was_not_imported_yet(python):
    code = """
        import sys, hoop
        names = dir(hoop)
        assert not {"hoop.sync", "hoop.streams"} & set(sys.modules)
        print({"Queue", "open", "files", "gather", "EventLoopPolicy", "subprocess"} - set(names))
        """
    assert python(code) == "set()\n"


PROGRAM = """
import hoop as asyncio
import sys

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def worker(queue, done):
    while True:
        try:
            item = await queue.get()
        except asyncio.CancelledError:
            done.append("cancelled")
            raise
        done.append(item)
        queue.task_done()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    assert await reader.readline() == b"line\\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    queue, done = asyncio.Queue(maxsize=2), []
    task = asyncio.create_task(worker(queue, done))
    try:
        asyncio.Queue().get_nowait()
    except asyncio.QueueEmpty:
        done.append("empty")
    for n in range(3):
        await queue.put(n)
    await queue.join()
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)
    except asyncio.TimeoutError:
        done.append("late")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.to_thread(str, n)) for n in range(2)]
    done += [task.result() for task in tasks]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(5)", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    finished, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0, 1))])
    assert asyncio.current_task() in asyncio.all_tasks() and len(finished) == 1
    print(type(loop).__module__, loop.driver, done, output, await asyncio.shield(asyncio.sleep(0, 2)))

asyncio.run(main())
"""


def test_a_program_runs_after_the_change_of_its_import(driver, python, monkeypatch):
    monkeypatch.setenv("HOOP_DRIVER", driver)
    printed = python(PROGRAM, "-W", "error")
    done = ["empty", 0, 1, 2, "cancelled", "late", "0", "1"]
    assert printed == f"hoop {driver} {done} b'5\\n' 2\n"


# ---- the time to import it --------------------------------------------------------------------------


def test_import_leaves_out_what_many_programs_never_use(python):
    """Each of these takes time: together, more than all the rest. hoop cannot do without `typing`, which
    asyncio imports too before Python 3.15, nor without the 0.2 ms of `concurrent.futures.thread`."""
    code = """
        import sys, asyncio, typing
        before = set(sys.modules)
        import hoop
        new = set(sys.modules) - before
        print(sorted(name for name in new if name.startswith(PACKAGES)))
        new -= {"__future__", "gc", "queue", "_queue", "concurrent.futures.thread"}
        outside = {name.partition(".")[0] for name in new} - {"hoop"}
        print(sorted(name for name in outside if "cython" not in name))
        """
    packages = ("hoop.files", "hoop.processes", "hoop.streams", "hoop.sync", "hoop.tls")
    assert python(code.replace("PACKAGES", repr(packages))) == "[]\n[]\n"


def test_what_a_running_loop_may_need_is_imported_before_it_runs(python):
    """In a running loop it would wait for the disk, and audit hooks would see files opened."""
    code = """
        import sys, hoop
        from hoop.loop import event_loop
        async def main():
            before = set(sys.modules)
            await hoop.write_bytes("/dev/null", b"1")
            async with hoop.open("/dev/null") as file:
                await file.read()
            assert event_loop.before_running == []
            child = await hoop.create_subprocess_exec("true")
            await child.wait()
            return set(sys.modules) - before
        print(hoop.run(main()))
        """
    assert python(code) == "set()\n"


def test_what_cannot_be_imported_before_a_loop_runs_is_missed_where_it_is_used(python):
    code = """
        import sys, hoop
        sys.modules["hoop.files.opening"] = None  # as if the file could not be read
        async def main():
            try:
                await hoop.read_bytes("/dev/null")
            except ImportError as exc:
                print(exc.name)
        hoop.run(main())
        """
    assert python(code) == "hoop.files.opening\n"


def test_what_is_imported_later_says_hoop_as_its_place(python):
    code = """
        import hoop
        from hoop.files.path import Path
        from hoop.sync.queues import Queue
        print(Path.__module__, Queue.__module__, hoop.open.__module__, hoop.Queue is Queue)
        """
    assert python(code) == "hoop hoop hoop True\n"


# ---- the policy -------------------------------------------------------------------------------------


def test_the_policy_warns_where_asyncio_does():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        policy = hoop.EventLoopPolicy
    assert policy.__module__ == "hoop"
    assert len(seen) == (sys.version_info >= (3, 14))
    assert ("EventLoopPolicy" in hoop.__all__) == (sys.version_info < (3, 14))


def test_what_looks_into_a_program_comes_with_its_first_use(python):
    code = """
        import hoop, sys
        assert "hoop.observe" not in sys.modules
        assert not hoop.observe.is_on()
        assert "observe" in dir(hoop)
        """
    assert python(code) == ""
