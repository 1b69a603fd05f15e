"""A disk that takes its time stops the file that waits for it, and nothing else: neither loop nor its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from peers import until
from test_files import held_threads, start

import hoop
from hoop.disk import call as calls
from hoop.disk import source as core
from hoop.files import opening


class Disk:
    """A mounted disk, and what it was asked for. The running loop lets each request through."""

    def __init__(self, folder: Path, server: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.file = folder / "file"
        self.asked: list[str] = []
        self._server = server

    @contextlib.asynccontextmanager
    async def served(self):
        """Let requests through as long as the loop runs."""
        loop = asyncio.get_running_loop()
        server = self._server
        os.set_blocking(server.stdout.fileno(), False)

        def let_through():
            for line in (server.stdout.read() or b"").decode().splitlines():
                self.asked.append(line)
                if not line.startswith("late"):
                    server.stdin.write(b"\n")
                    server.stdin.flush()

        loop.add_reader(server.stdout.fileno(), let_through)
        try:
            yield
        finally:
            loop.remove_reader(server.stdout.fileno())

    @property
    def late(self) -> list[str]:
        """The requests for which the loop stood still."""
        return [line for line in self.asked if line.startswith("late")]


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "slow"
    folder.mkdir()
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("slow_disk.py")), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if server.stdout.readline() != b"mounted\n":
            pytest.skip("only root may mount a file system of its own, and only with FUSE")
        yield Disk(folder, server)
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait()
        opening.folders.clear()


@pytest.fixture
def far(tmp_path):
    """A folder that is taken to lie on another machine's disk."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    fd = os.open(path, os.O_RDONLY)
    device = core.look_at(fd)[2]
    os.close(fd)
    before = calls.devices().get(device)
    opening.folders.clear()
    calls.devices()[device] = False
    yield tmp_path
    opening.folders.clear()
    del calls.devices()[device]
    if before is not None:
        calls.devices()[device] = before


async def read_and_close(path):
    f = await hoop.open(path, "rb")
    assert await f.read(6) == b"a line"
    await f.close()


async def read_text(path):
    async with hoop.open(path) as f:
        assert await f.readline() == "a line\n"


async def read_whole(path):
    assert len(await hoop.read_bytes(path)) == 140_000


async def read_many(path):
    await asyncio.gather(*[hoop.read_bytes(path) for _ in range(12)])


async def write(path):
    async with hoop.open(path, "r+b") as f:
        await f.write(b"A LINE\n" * 1000)
        await f.seek(0)
        assert await f.read(6) == b"A LINE"


async def drop(path):
    f = await hoop.open(path, "rb")
    await f.read(5)


async def drop_written(path):
    f = await hoop.open(path, "r+")
    await f.write("dropped")


async def cancel_open(path):
    task = await start(hoop.open(path, "r+b"))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def cancel_read(path):
    f = await hoop.open(path, "rb", 0)
    task = await start(f.read(5))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await f.close()


async def by_descriptor(path):
    fd = await asyncio.get_running_loop().run_in_executor(None, os.open, path, os.O_RDWR)
    assert await hoop.pread(fd, 6, 0) == b"a line"
    assert await hoop.pwrite(fd, b"a", 0) == 1
    assert (await hoop.fstat(fd)).st_size == 140_000
    await asyncio.get_running_loop().run_in_executor(None, os.close, fd)


async def opener(path):
    async with hoop.open(path, "rb", opener=os.open) as f:
        await f.read(1)


async def fail_to_decode(path):
    with pytest.raises(LookupError):
        await hoop.open(path, encoding="no such")


@pytest.mark.parametrize(
    "what",
    [
        read_and_close,
        read_text,
        read_whole,
        read_many,
        write,
        drop,
        drop_written,
        cancel_open,
        cancel_read,
        by_descriptor,
        opener,
        fail_to_decode,
    ],
)
def test_no_request_to_a_slow_disk_stops_the_loop(run, disk, what):
    async def main():
        pool = asyncio.get_running_loop()._file_pool

        def nothing_under_way():
            return (
                not pool._unfinished
                and not pool.opens_in_kernel
                and disk.asked.count("flush") == disk.asked.count("open")
            )

        async with disk.served():
            for _ in range(2):  # the second time names are known
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    await what(disk.file)
                    gc.collect()
                await until(nothing_under_way)
        assert disk.asked or what is cancel_open  # which the kernel may not have begun
        assert disk.late == []

    run(main())


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---- closing ----


def test_a_file_of_another_machine_is_not_closed_on_the_loop(run, far):
    async def main():
        f = await hoop.open(far / "file", "rb")
        await f.read()
        with held_threads(asyncio.get_running_loop()):
            closing = await start(f.close())  # not done in its first step
        await closing
        assert f.closed

    run(main())


def test_a_file_of_this_machine_that_was_only_read_is_closed_at_once(run, tmp_path):
    (tmp_path / "file").touch()

    async def main():
        f = await hoop.open(tmp_path / "file", "rb")
        fd = f.fileno()
        closing = f.close()
        with pytest.raises(StopIteration):
            closing.send(None)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)

    run(main())


@pytest.mark.parametrize("text", ["", "written out"])
def test_a_forgotten_file_of_another_machine_is_put_away_by_a_thread(run, far, text):
    async def main():
        f = await hoop.open(far / "file", "w")
        await f.write(text)
        fd = f.fileno()
        with held_threads(asyncio.get_running_loop()):
            with pytest.warns(ResourceWarning, match="unclosed file"):
                del f
            await asyncio.sleep(0)
            os.fstat(fd)  # the loop has not closed it

        await until(lambda: not is_open(fd))
        assert (far / "file").read_text() == text

    run(main())


def test_what_a_forgotten_file_could_not_write_is_told(run, logged):
    async def main():
        f = await hoop.open("/dev/full", "wb")
        await f.write(b"x")
        with pytest.warns(ResourceWarning, match="unclosed file"):
            del f
        await until(lambda: logged.messages)

    run(main())
    assert "A file could not be put away" in logged.text
    assert "No space left" in logged.text


def test_a_forgotten_file_is_put_away_though_the_loop_closes_first(new_loop, far):
    loop = new_loop()

    async def main():
        f = await hoop.open(far / "file", "w")
        await f.write("written out")
        with pytest.warns(ResourceWarning, match="unclosed file"):
            del f

    loop.run_until_complete(main())
    loop.close()
    assert (far / "file").read_text() == "written out"


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("mode", ["w", "r"])
def test_a_file_that_is_being_closed_when_the_loop_closes_is_closed(
    new_loop, far, logged, monkeypatch, turns, mode
):
    monkeypatch.setenv("HOOP_FILE_THREADS", "1")
    before = set(os.listdir("/proc/self/fd"))
    loop = new_loop()

    async def main():
        files = [await hoop.open(far / "file", mode) for _ in range(8)]
        for f in files:
            if mode == "w":
                await f.write("x" * 100)
        closing = [asyncio.ensure_future(f.close()) for f in files]
        for _ in range(turns):
            await asyncio.sleep(0)
        return closing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # also that a coroutine was never awaited
        closing = loop.run_until_complete(main())
        loop.close()
        del loop, closing
        gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    logged.records.clear()  # tasks destroyed while pending


def test_a_call_of_a_closing_file_never_meets_another_file(run, tmp_path):
    """A cancelled truncate() that no thread has begun has its descriptor until its end."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)

    async def main():
        f = await hoop.open(path, "r+b")
        fd = f.fileno()
        with held_threads(asyncio.get_running_loop()):
            for cancelled in f.truncate(10), f.fsync():
                task = await start(cancelled)
                task.cancel()
                await asyncio.wait([task])
            closing = await start(f.close())
            await asyncio.sleep(0)
            if asyncio.get_running_loop().driver == "epoll":
                os.fstat(fd)
        await closing

    run(main())


# ---- threads ----


@pytest.mark.parametrize("by", ["end", "dropped"])
def test_a_thread_that_reads_a_pipe_ends_with_the_loop(new_loop, logged, by):
    loop = new_loop()
    reader, writer = os.pipe()

    async def main():
        f = await hoop.open(reader, "rb")
        task = await start(f.read(1))
        await until(lambda: "hoop-files-alone" in {t.name for t in threading.enumerate()})
        return task

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        task = loop.run_until_complete(main())
        if by == "dropped":
            del task
            gc.collect()
        loop.close()
        assert "hoop-files-alone" not in {t.name for t in threading.enumerate()}
        task = None
        del loop
        gc.collect()
    with pytest.raises(BrokenPipeError):  # nobody has the other end
        os.write(writer, b"x")
    os.close(writer)
    logged.records.clear()


def test_a_pipe_is_closed_when_the_thread_that_reads_it_has_ended(run):
    """Also if all tasks are cancelled at once, that which closes it included."""
    reader, writer = os.pipe()

    async def main():
        f = await hoop.open(reader, "rb")
        reading = await start(f.read(1))
        closing = await start(f.close())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([reading, closing])

    run(main())
    with pytest.raises(BrokenPipeError):  # nobody has the other end
        os.write(writer, b"x")
    os.close(writer)
