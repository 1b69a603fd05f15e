"""A simulated disk fails as a test asks: by its capacity, by chance, or at one call."""

from __future__ import annotations

import asyncio
import collections
import errno
import os

import pytest

import hoop
import hoop.sim
from hoop import files as aiofiles

EIO = OSError(errno.EIO, "I/O error")


def run(program, disk, seed=0):
    """Run a coroutine function on a disk."""
    return hoop.sim.run(program, seed=seed, disk=disk)


async def errno_of(awaitable):
    """The number of the error that an operation ends with."""
    try:
        await awaitable
    except OSError as exc:
        return exc.errno
    return 0


# ---- a full disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("buffering", [8192, 0])  # the usual size is larger from Python 3.14 on
def test_a_full_disk_takes_what_fits_and_refuses_the_rest(buffering):
    async def main():
        file = await hoop.open("/file", "wb", buffering)
        assert await errno_of(file.write(b"x" * 100_000)) == errno.ENOSPC
        assert await errno_of(file.flush()) in (0, errno.ENOSPC)
        assert os.path.getsize("/file") == 65536
        await hoop.Path("/other").touch()
        assert os.statvfs("/").f_bavail == 0
        await file.truncate(0)
        await file.seek(0)
        await file.write(b"y" * 1000)
        await file.close()
        assert os.path.getsize("/file") == 1000

    run(main, hoop.sim.Disk(capacity=65536))


def test_there_is_room_again_once_a_file_is_removed():
    async def main():
        await hoop.pwrite(first, b"x" * 4096, 0)
        assert await errno_of(hoop.pwrite(second, b"x", 0)) == errno.ENOSPC
        os.unlink("/first")
        assert await errno_of(hoop.pwrite(second, b"x", 0)) == errno.ENOSPC  # it is open still

    async def opened():
        nonlocal first, second
        first, second = (os.open(name, os.O_RDWR | os.O_CREAT) for name in ("/first", "/second"))
        try:
            await main()
        finally:
            os.close(first)
            os.close(second)

    first = second = -1
    run(opened, hoop.sim.Disk(capacity=4096))


@pytest.mark.parametrize(
    "grow",
    [
        lambda fd: hoop.ftruncate(fd, 5000),
        lambda fd: hoop.fallocate(fd, 0, 5000),
        lambda fd: hoop.pwrite(fd, b"x", 5000),
        lambda fd: asyncio.to_thread(os.pwrite, fd, b"x", 5000),
        lambda fd: asyncio.to_thread(os.truncate, "/file", 5000),
    ],
)
def test_nothing_grows_beyond_the_capacity(grow):
    async def main():
        fd = os.open("/file", os.O_RDWR | os.O_CREAT)
        try:
            assert await errno_of(grow(fd)) == errno.ENOSPC
            assert os.write(fd, b"x" * 5000) == 4096
            assert os.pwrite(fd, b"y" * 10, 0) == 10
        finally:
            os.close(fd)

    run(main, hoop.sim.Disk(capacity=4096))


# ---- by chance -------------------------------------------------------------------------------------


def test_short_reads_and_writes_change_nothing_for_files_of_hoop():
    data = bytes(range(256)) * 200

    async def main():
        async with hoop.open("/file", "wb", 8192) as file:
            for at in range(0, len(data), 1000):
                await file.write(data[at : at + 1000])
        async with hoop.open("/file", "rb", 8192) as file:
            assert await file.read() == data
        async with hoop.open("/file", "r", 8192, encoding="latin-1", newline="") as file:
            assert "".join([line async for line in file]).encode("latin-1") == data
        assert await hoop.read_bytes("/file") == data
        for name, count in hoop.sim.disk().injected.items():
            seen[name] += count

    seen = collections.Counter()
    for seed in range(20):
        run(main, hoop.sim.Disk(short_reads=0.5, short_writes=0.5), seed)
    assert min(seen["short reads"], seen["short writes"]) > 20


def test_calls_by_descriptor_are_short():
    async def main():
        fd = os.open("/file", os.O_RDWR | os.O_CREAT)
        try:
            wrote = {await hoop.pwrite(fd, b"x" * 100, 0) for _ in range(20)}
            wrote.add(os.pwrite(fd, b"x" * 100, 0))
            os.ftruncate(fd, 100)
            read = {len(await hoop.pread(fd, 100, 0)) for _ in range(20)}
            return wrote, read
        finally:
            os.close(fd)

    for found in run(main, hoop.sim.Disk(short_reads=0.5, short_writes=0.5)):
        assert 100 in found
        assert len(found) > 5
        assert min(found) >= 1


def test_errors_come_by_chance_and_are_counted():
    async def main():
        ends = collections.Counter()
        for _ in range(100):
            ends[await errno_of(use())] += 1
        return ends

    async def use():
        async with hoop.open("/file", "w") as file:
            await file.write("x")
            await file.fsync()

    disk = hoop.sim.Disk(eio=0.1)
    ends = run(main, disk)
    assert 5 < ends[errno.EIO] < 50
    assert ends[0] + ends[errno.EIO] == 100
    assert disk.injected["errors"] >= ends[errno.EIO]
    assert run(main, hoop.sim.Disk(eio=0.1)) == ends


# ---- writes that were cancelled ----------------------------------------------------------------------


async def cancelled_write(data, buffering=0):
    """A file with a write under way whose task was cancelled."""
    file = await hoop.open("/file", "wb", buffering)
    task = asyncio.ensure_future(file.write(data))
    while not file.buffer.draining:
        await asyncio.sleep(1e-6)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return file


@pytest.mark.parametrize("buffering", [0, 100])
@pytest.mark.parametrize("end", ["close", "flush", "fsync"])
def test_the_rest_of_a_cancelled_write_is_written(end, buffering):
    async def main():
        file = await cancelled_write(b"x" * 5000, buffering)
        await getattr(file, end)()
        sizes.add(os.path.getsize("/file"))
        await file.close()

    sizes = set()
    for seed in range(10):
        run(main, hoop.sim.Disk(short_writes=0.9), seed)
    assert sizes == {5000}


@pytest.mark.parametrize("end", ["close", "flush", "fsync"])
def test_an_error_of_a_cancelled_write_is_raised_by_the_next_operation(end):
    async def main():
        file = await cancelled_write(b"x" * 5000)
        hoop.sim.disk().fail("write", EIO, times=2)
        assert await errno_of(getattr(file, end)()) == errno.EIO
        hoop.sim.disk()._failures.clear()
        await file.close()

    run(main, hoop.sim.Disk(short_writes=1.0))


# ---- at one call -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "use"),
    [
        ("open", lambda: hoop.open("/file")),
        ("read", lambda: hoop.read_bytes("/file")),
        ("write", lambda: hoop.Path("/file").write_bytes(b"x", atomic=True)),
        ("fsync", lambda: hoop.write_text("/file", "x", atomic=True)),
        ("rename", lambda: aiofiles.os.rename("/file", "/other")),
        ("unlink", lambda: aiofiles.os.remove("/file")),
        ("mkdir", lambda: aiofiles.os.mkdir("/folder")),
        ("rmdir", lambda: aiofiles.os.rmdir("/empty")),
        ("link", lambda: aiofiles.os.link("/file", "/other")),
        ("symlink", lambda: aiofiles.os.symlink("/file", "/other")),
        ("stat", lambda: hoop.Path("/file").stat()),
        ("listdir", lambda: aiofiles.os.listdir("/empty")),
        ("truncate", lambda: asyncio.to_thread(os.truncate, "/file", 0)),
    ],
)
def test_a_call_fails_once_and_with_the_error_that_was_asked_for(call, use):
    async def main():
        os.mkdir("/empty")
        hoop.sim.disk().fail(call, OSError(errno.EDQUOT, "no quota"))
        if call in ("read", "write"):
            # These of a file of open() are the kernel's own, so they do not fail.
            fd = os.open("/file", os.O_RDWR)
            use_it = hoop.pread(fd, 4, 0) if call == "read" else hoop.pwrite(fd, b"text", 0)
            assert await errno_of(use_it) == errno.EDQUOT
            os.close(fd)
        else:
            assert await errno_of(asyncio.ensure_future(as_coroutine(use()))) == errno.EDQUOT
        assert await hoop.read_text("/file") == "text"
        assert hoop.sim.disk().injected["errors"] == 1

    disk = hoop.sim.Disk()
    disk.write("/file", b"text")
    run(main, disk)


async def as_coroutine(awaitable):
    """Await something, and close the file that it may be."""
    result = await awaitable
    if hasattr(result, "close"):
        await result.close()


def test_a_failed_sync_has_lost_what_it_was_to_write():
    """As on Linux: the next fsync() succeeds, and the data is not on the disk."""

    async def main():
        hoop.sim.disk().fail("fsync", EIO)

        async def write():
            async with hoop.open("/file", "r+b") as file:
                await file.write(b"n" * 512)
                assert await errno_of(file.fsync()) == errno.EIO
                await file.seek(1024)
                await file.write(b"m" * 512)
                await file.fsync()

        await hoop.sim.until_power_loss(write(), after=1 << 40)
        assert await hoop.read_bytes("/file") == b"o" * 1024 + b"m" * 512

    for seed in range(10):
        disk = hoop.sim.Disk()
        disk.write("/file", b"o" * 1536)
        run(main, disk, seed)


def test_data_written_again_after_a_failed_sync_is_safe():
    async def main():
        hoop.sim.disk().fail("fsync", EIO, times=2)

        async def write():
            for letter in b"abc":
                async with hoop.open("/file", "r+b") as file:
                    await file.write(bytes([letter]) * 1536)
                    await errno_of(file.fsync())

        await hoop.sim.until_power_loss(write(), after=1 << 40)
        assert await hoop.read_bytes("/file") == b"c" * 1536

    disk = hoop.sim.Disk()
    disk.write("/file", b"o" * 1536)
    run(main, disk)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: hoop.sim.Disk(eio=2), ValueError, "eio must be from 0 to 1"),
        (lambda: hoop.sim.Disk(eio="x"), TypeError, "eio must be a number"),
        (lambda: hoop.sim.Disk(capacity="1"), TypeError, "capacity must be a whole number"),
        (lambda: hoop.sim.Disk(power_loss_after=-1), ValueError, "must be 0 or greater"),
        (lambda: hoop.sim.Disk(short_reads=-1), ValueError, "short_reads must be"),
        (lambda: hoop.sim.Disk().fail("fsyn", EIO), ValueError, "call must be one of open"),
        (lambda: hoop.sim.Disk().fail("fsync", EIO.errno), TypeError, "error must be an OSError"),
        (lambda: hoop.sim.Disk().fail("fsync", OSError()), TypeError, "with a number"),
        (lambda: hoop.sim.run(run, disk=True), TypeError, "disk must be a hoop.sim.Disk"),
    ],
)
def test_wrong_arguments_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_disk_shows_its_faults():
    assert repr(hoop.sim.Disk()) == "hoop.sim.Disk()"
    assert repr(hoop.sim.Disk(capacity=5, eio=0.5)) == "hoop.sim.Disk(capacity=5, eio=0.5)"
