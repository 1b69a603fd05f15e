"""Open files on the loop: order, cancellation, errors of the kernel, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import stat
import subprocess
import threading
import time
import warnings

import pytest
from peers import until

import hoop
from hoop.disk.pool import FilePool
from hoop.files import engine


def cold(file):
    """Have every read of a file made by an op, as if nothing were cached."""
    file.buffer.asks_cache = False
    return file


def jobs() -> int:
    """How many jobs the loop's threads were given."""
    return engine.running_loop()._file_pool.jobs


@contextlib.contextmanager
def held_threads(loop):
    """Hold the threads of a loop, however the block ends: whatever they are given meanwhile waits."""
    released = threading.Event()
    for _ in range(loop._file_pool._threads_max):
        loop._file_pool.call(released.wait)
    try:
        yield
    finally:
        released.set()


async def start(awaitable):
    """A task that has just begun to wait for it: no look at the kernel lies between."""

    async def wait():
        return await awaitable

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_it_can_be_awaited_or_entered(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        async with hoop.open(path, "w") as f:
            assert await f.write("one\ntwo\n") == 8
        with open(path) as builtin:
            default = builtin.encoding  # "utf-8" from Python 3.15 on
        f = await hoop.open(path)
        assert (f.name, f.mode, f.encoding, f.errors) == (
            str(path),
            "r",
            default,
            "strict",
        )
        assert [line async for line in f] == ["one\n", "two\n"]
        assert f.newlines == "\n"
        await f.close()
        await f.close()
        assert f.closed

    run(main())


def test_opening_does_nothing_before_it_is_awaited(run, tmp_path):
    async def main():
        hoop.open(tmp_path / "new", "w")

    run(main())
    assert not (tmp_path / "new").exists()


def test_what_is_cached_is_read_without_a_thread(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    if not supports_cached_reads(path):
        pytest.skip("this file system cannot say what is cached")

    async def read():
        async with hoop.open(path, "rb") as f:
            return await f.read()

    async def main():
        await read()  # the folder is not known before
        before = jobs()
        assert await read() == b"x" * 5000
        assert await hoop.read_bytes(path) == b"x" * 5000
        async with hoop.open(path) as f:
            assert [line async for line in f] == ["x" * 5000]
        assert jobs() == before

    run(main())


def supports_cached_reads(path) -> bool:
    with open(path, "rb") as f:
        try:
            os.preadv(f.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as exc:
            return exc.errno == errno.EAGAIN
    return True


def test_a_file_that_is_read_in_order_is_read_ahead(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 << 20))

    async def main():
        read = b""
        async with hoop.open(path, "rb") as f:
            cold(f)
            while piece := await f.read(10000):
                read += piece
        assert read == path.read_bytes()
        assert jobs() < 40

    run(main())


def test_a_long_read_lets_others_have_their_turn(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a line of some length\n" * 300_000)

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        async with hoop.open(path) as f:
            async for _ in f:
                pass
        counting.cancel()
        assert turns > 3

    run(main())


# ---- order ----


@pytest.mark.parametrize("is_cold", [False, True])
def test_operations_begun_in_order_are_done_in_order(run, tmp_path, is_cold):
    path = tmp_path / "file"

    async def main():
        async with hoop.open(path, "wb+", buffering=0) as f:
            await asyncio.gather(*[f.write(b"%04d" % i) for i in range(200)])
            await f.seek(0)
            if is_cold:
                cold(f)
            pieces = await asyncio.gather(*[f.read(4) for _ in range(200)])
        assert pieces == [b"%04d" % i for i in range(200)]

    run(main())


def test_files_are_read_side_by_side(run, tmp_path):
    paths = [tmp_path / str(i) for i in range(100)]
    for i, path in enumerate(paths):
        path.write_text(f"{i}\n" * 1000)

    async def read(path):
        async with hoop.open(path) as f:
            return sum([int(line) async for line in cold(f)])

    async def main():
        return await asyncio.gather(*map(read, paths))

    assert run(main()) == [i * 1000 for i in range(100)]


# ---- cancellation ----


def test_a_cancelled_open_leaves_no_descriptor(run, tmp_path):
    async def main():
        with held_threads(asyncio.get_running_loop()):
            opening = await start(hoop.open(tmp_path / "new", "w"))
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        # A thread opens it nonetheless; the kernel may have been stopped in time.
        while asyncio.get_running_loop().driver == "epoll" and not (tmp_path / "new").exists():
            await asyncio.sleep(0)

    run(main())  # the fixtures look at the descriptors


def test_a_cancelled_read_moves_nothing(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)

    async def main():
        async with hoop.open(path, "rb") as f:
            cold(f)
            with held_threads(asyncio.get_running_loop()):
                reading = await start(f.read(10))
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            assert await f.read(10) == bytes(range(10))

    run(main())


def test_a_cancelled_write_is_written_by_what_is_done_next(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        f = await hoop.open(path, "wb", buffering=8192)
        with held_threads(asyncio.get_running_loop()):
            writing = await start(f.write(b"x" * 100_000))
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await f.write(b"y")
        await f.close()

    run(main())
    assert path.read_bytes() == b"x" * 100_000 + b"y"


def test_a_cancelled_close_closes(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        f = await hoop.open(path, "w")
        await f.write("all of it")
        with held_threads(asyncio.get_running_loop()):
            closing = await start(f.close())
            closing.cancel()
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert f.closed

    run(main())
    assert path.read_text() == "all of it"


def test_the_loop_can_end_while_an_open_is_under_way(tmp_path, loop):
    async def main():
        task = await start(hoop.open(tmp_path / "new", "w"))
        task.cancel()
        return task

    with held_threads(loop):
        task = loop.run_until_complete(main())
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.close()


@pytest.mark.parametrize("told", [False, True], ids=["nobody told", "told"])
@pytest.mark.parametrize("by", ["opener", "reader of a fifo"])
def test_a_file_opened_after_the_loops_last_turn_is_closed_with_it(
    loop, tmp_path, logged, by, told
):
    path = tmp_path / "file"
    release = threading.Event()

    def opener(name, flags):
        release.wait(10)
        return os.open(name, flags)

    async def main():
        if by == "opener":
            path.touch()
            await start(hoop.open(path, "wb", opener=opener))
        else:
            os.mkfifo(path)
            await start(hoop.open(path, "wb"))
            await until(lambda: "hoop-files-alone" in {t.name for t in threading.enumerate()})

    loop.run_until_complete(main())
    release.set()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    while not loop._file_pool._performed:
        time.sleep(0.001)
    os.close(reader)
    if told:
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    gc.collect()
    assert [m.splitlines()[0] for m in logged.messages] == ["Task was destroyed but it is pending!"]


# ---- files that may wait for ever ----


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_a_read_of_a_fifo_can_be_cancelled_and_loses_nothing(run, fifo, mode):
    async def main():
        async with hoop.open(fifo, mode) as f:
            other = os.open(fifo, os.O_WRONLY)
            os.write(other, b"half a ")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(f.readline(), 0.05)
            os.write(other, b"line\n")
            line = await f.readline()
            assert line in ("half a line\n", b"half a line\n")
            os.close(other)
            assert not await f.read()

    run(main())


def test_waiting_for_the_reader_of_a_fifo_can_be_cancelled(run, fifo):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hoop.open(fifo, "w"), 0.05)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        async with hoop.open(fifo, "w") as f:
            await f.write("through\n")
        assert os.read(reader, 100) == b"through\n"
        os.close(reader)

    run(main())


def test_many_fifos_keep_no_file_waiting(run, tmp_path):
    (tmp_path / "file").write_text("here")

    async def wait(path):
        async with hoop.open(path) as f:
            return await f.read()

    async def main():
        fifos = [tmp_path / f"fifo{i}" for i in range(40)]
        for path in fifos:
            os.mkfifo(path)
        waiting = [asyncio.create_task(wait(path)) for path in fifos]
        async with hoop.open(tmp_path / "file") as f:
            assert await cold(f).read() == "here"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    run(main())


def test_a_pipe_can_be_used_by_its_descriptor(run):
    async def main():
        reader, writer = os.pipe()
        async with hoop.open(writer, "w") as f:
            await f.write("one\ntwo")
        async with hoop.open(reader) as f:
            assert not f.seekable()
            assert [line async for line in f] == ["one\n", "two"]

    run(main())


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/self/maps"])
def test_files_of_proc_are_read_whole(run, path):
    async def main():
        async with hoop.open(path) as f:
            lines = [line async for line in f]
        assert len(lines) > 10
        with open(path) as g:
            assert lines[0] == g.readline()

    run(main())


# ---- errors of the kernel ----


def test_a_full_disk_is_reported_and_the_data_kept(run, tmp_path):
    async def main():
        f = await hoop.open("/dev/full", "wb")
        await f.write(b"x")
        with pytest.raises(OSError, match="No space left") as raised:
            await f.flush()
        assert raised.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            await f.close()
        assert f.closed

    run(main())


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 KiB: more than the free part and a buffer of the builtin together."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def buffer_bytes(folder, buffering):
    """The size of the buffer that the builtin takes there: its object counts it in its own size."""
    with open(folder / "measured", "wb", buffering) as f:
        size = 0 if buffering == 0 else f.__sizeof__() - type(f).__basicsize__
    (folder / "measured").unlink()
    return size


@pytest.mark.parametrize("mode", ["wb", "ab", "w"])
@pytest.mark.parametrize("chunk", [200_000, 5_000, 700])
@pytest.mark.parametrize("buffering", [-1, 8192, 0])
def test_of_what_did_not_fit_a_buffer_full_is_kept_and_written_when_there_is_room(
    run, tiny_disk, mode, chunk, buffering
):
    """The builtin keeps as much, or less: it does not close up what is left in its buffer."""
    if mode == "w" and buffering == 0:
        pytest.skip("there is no such file")
    data = "y" * chunk if mode == "w" else b"y" * chunk
    last = "z" if mode == "w" else b"z"
    buffer = buffer_bytes(tiny_disk, buffering)
    free = 24 * 1024
    kept = {}

    async def fill(open_file, name):
        (tiny_disk / "other").write_bytes(b"x" * (256 * 1024 - free))
        f = open_file(tiny_disk / name, mode, buffering)
        f = await f if hasattr(f, "__await__") else f

        async def do(operation, *args):
            result = operation(*args)
            return await result if hasattr(result, "__await__") else result

        errors = 0
        for _ in range(60 + buffer // chunk):
            try:
                await do(f.write, data)
                await do(f.flush)
            except OSError as exc:
                errors += exc.errno == errno.ENOSPC
        position = await do(f.tell) if mode == "wb" else None
        (tiny_disk / "other").unlink()
        await do(f.write, last)
        await do(f.close)
        content = (tiny_disk / name).read_bytes()
        (tiny_disk / name).unlink()
        assert errors
        assert content == b"y" * (len(content) - 1) + b"z"
        assert position in (None, len(content) - 1)
        kept[name] = len(content) - 1

    async def main():
        await fill(hoop.open, "ours")
        await fill(open, "theirs")

    run(main())
    assert free <= kept["ours"] <= free + buffer
    if chunk <= buffer:
        assert kept["ours"] > free + buffer - chunk
    if chunk > max(buffer, 8192) or buffering == 0:
        assert kept["ours"] == kept["theirs"]


def test_a_refused_pipe_write_is_not_copied_for_each_part_of_it(run):
    """A pipe takes 4 KiB at a time of what is written to it; 8 MiB were copied 2,048 times."""
    reader, writer = os.pipe()
    data = os.urandom(8 << 20)

    async def main():
        received = bytearray()

        def receive():
            while part := os.read(reader, 1 << 16):
                received.extend(part)

        receiving = asyncio.get_running_loop().run_in_executor(None, receive)
        async with hoop.open(writer, "wb") as f:
            await f.write(data)
        await receiving
        assert received == data

    run(main())
    os.close(reader)


def test_permissions_are_the_kernels(python, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = tmp_path / "closed"
    folder.mkdir(0o755)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o755)
    out = python(
        f"""
        import hoop, os
        async def main():
            os.setegid(65534); os.seteuid(65534)
            for mode in ("r", "w"):
                for attempt in range(2):
                    try:
                        await hoop.open({str(folder / "secret")!r}, mode)
                    except PermissionError as exc:
                        print(exc.errno, exc.filename == {str(folder / "secret")!r})
            try:
                await hoop.open({str(folder / "new")!r}, "w")
            except PermissionError as exc:
                print(exc.errno)
        hoop.run(main())
        """
    )
    assert out.split() == ["13", "True"] * 4 + ["13"]


def test_another_loop_is_refused_with_the_reason(tmp_path):
    async def main():
        with pytest.raises(RuntimeError, match=r"hoop's files need a hoop loop"):
            await hoop.open(tmp_path / "x", "w")

    asyncio.run(main())


# ---- nothing left ----


def test_a_forgotten_file_is_written_closed_and_complained_about(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        f = await hoop.open(path, "w")
        await f.write("kept")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            del f
            gc.collect()
        assert [w.category for w in seen] == [ResourceWarning]
        assert str(seen[0].message).startswith("unclosed file <hoop.TextFile")

    run(main())
    assert path.read_text() == "kept"


def test_a_forgotten_file_with_a_read_under_way_is_closed_after_it(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)

    async def main():
        f = cold(await hoop.open(path, "rb"))
        with held_threads(asyncio.get_running_loop()):
            reading = await start(f.read(10))
            fd = f.fileno()
            reading.cancel()
            await asyncio.wait([reading])
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                del f, reading
                gc.collect()
            assert [w.category for w in seen] == [ResourceWarning]
            if asyncio.get_running_loop().driver == "epoll":
                os.fstat(fd)  # still there: a thread is about to read from it

    run(main())


def test_a_file_open_when_its_loop_closes_can_be_dropped(new_loop, tmp_path):
    loop = new_loop()

    async def main():
        f = await hoop.open(tmp_path / "file", "w")
        await f.write("kept")
        return f

    f = loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        del f
        gc.collect()
    assert [w.category for w in seen] == [ResourceWarning]
    assert (tmp_path / "file").read_text() == "kept"


def test_closefd_false_leaves_the_descriptor_where_the_file_stood(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR)

    async def main():
        os.lseek(fd, 2, os.SEEK_SET)
        async with hoop.open(fd, "rb+", closefd=False) as f:
            assert await f.tell() == 2
            assert await f.read(2) == b"23"
            await f.write(b"xx")
        assert os.read(fd, 2) == b"67"

    run(main())
    os.close(fd)
    assert path.read_bytes() == b"0123xx6789"


def test_an_opener_is_called(run, tmp_path):
    path = tmp_path / "file"

    def opener(name, flags):
        return os.open(name, flags, 0o600)

    async def main():
        async with hoop.open(path, "w", opener=opener) as f:
            assert not os.get_inheritable(f.fileno())

    run(main())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_threads_are_bounded(python, tmp_path):
    (tmp_path / "file").write_text("x")
    out = python(
        f"""
        import os; os.environ["HOOP_FILE_THREADS"] = "3"
        import asyncio, hoop, threading
        async def main():
            async def read():
                async with hoop.open({str(tmp_path / "file")!r}, "r+") as f:
                    f.buffer.asks_cache = False
                    await f.read()
            await asyncio.gather(*[read() for _ in range(50)])
            print(len([t for t in threading.enumerate() if t.name.startswith("hoop-files")]))
        hoop.run(main())
        """
    )
    assert int(out) <= 3


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_threads_that_cannot_be_are_refused_before_there_is_a_loop(driver, monkeypatch, asked):
    monkeypatch.setenv("HOOP_FILE_THREADS", asked)
    with pytest.raises(ValueError, match=f"HOOP_FILE_THREADS must be .*{asked}"):
        hoop.new_event_loop(driver)


def test_an_open_cancelled_in_the_turn_of_its_result_leaves_no_descriptor(tmp_path, monkeypatch):
    async def main():
        finish_one = FilePool._finish_one

        def finish_and_cancel(pool):
            finish_one(pool)
            if task is not None:
                task.cancel()

        monkeypatch.setattr(FilePool, "_finish_one", finish_and_cancel)
        before = set(os.listdir("/proc/self/fd"))
        task = asyncio.ensure_future(open_file())
        with pytest.raises(asyncio.CancelledError):
            await task
        task = None  # its exception keeps what it went through
        # The thread lets go of its job in its own time.
        await until(lambda: set(os.listdir("/proc/self/fd")) == before)

    async def open_file():
        await hoop.open(tmp_path / "file", "wb")

    # On epoll a thread opens the file.
    hoop.run(main(), loop_factory=lambda: hoop.new_event_loop(driver="epoll"))


def test_async_for_of_a_subclass_finds_the_subclass_own_method(run, tmp_path):
    """Those who define none have the slot of hoop's class, also if another method takes its place later."""

    class Plain(hoop.TextFile):
        __slots__ = ()

    class Loud(hoop.TextFile):
        __slots__ = ()

        async def __anext__(self):
            return (await hoop.TextFile.__anext__(self)).upper()

    class Louder(Loud):
        __slots__ = ()

    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")

    async def lines(cls):
        async with hoop.open(path) as f:
            f.__class__ = cls
            return [line async for line in f]

    async def main():
        assert await lines(Plain) == ["one\n", "two\n"]
        assert await lines(Loud) == await lines(Louder) == ["ONE\n", "TWO\n"]
        Plain.__anext__ = Loud.__anext__
        assert await lines(Plain) == ["ONE\n", "TWO\n"]
        del Plain.__anext__
        assert await lines(Plain) == ["one\n", "two\n"]

    run(main())
