"""The disk of a simulation behaves as a real one, never touches that, and leaves no descriptor behind."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest

import hoop
import hoop.sim
from hoop import files as aiofiles
from hoop.sim.calls import real

HERE = Path(__file__).resolve().parent


def in_world(program, disk=None, seed=0):
    """Run a function, or a coroutine function, in a world with a disk."""

    async def main():
        result = program()
        return await result if asyncio.iscoroutine(result) else result

    return hoop.sim.run(main, seed=seed, disk=disk or hoop.sim.Disk())


# ---- the real disk ---------------------------------------------------------------------------------


def test_the_real_disk_shines_through_and_is_never_changed(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "gone").write_text("gone")
    (tmp_path / "folder").mkdir()
    before = sorted(os.walk(tmp_path))

    async def main():
        assert (tmp_path / "old").read_text() == "old"
        async with hoop.open(tmp_path / "old", "a") as file:
            await file.write("er")
        await hoop.write_text(tmp_path / "folder" / "new", "new", atomic=True)
        await hoop.Path(tmp_path / "gone").unlink()
        os.rename(tmp_path / "folder", tmp_path / "moved")
        with open(tmp_path / "moved" / "other", "w") as file:
            file.write("other")
        assert await hoop.read_text(tmp_path / "old") == "older"
        assert sorted(os.listdir(tmp_path)) == ["moved", "old"]
        assert sorted(await aiofiles.os.listdir(tmp_path / "moved")) == ["new", "other"]

    disk = hoop.sim.Disk()
    hoop.sim.run(main, disk=disk)
    assert sorted(os.walk(tmp_path)) == before
    assert (tmp_path / "old").read_text() == "old"
    assert disk.read(tmp_path / "old") == b"older"
    with pytest.raises(FileNotFoundError):
        disk.read(tmp_path / "gone")
    with pytest.raises(IsADirectoryError):
        disk.read(tmp_path / "moved")


def test_devices_and_what_is_in_proc_are_real():
    def look():
        with open("/dev/null", "wb") as file:
            file.write(b"x")
        with open("/proc/self/status") as file:
            assert f"Pid:\t{os.getpid()}\n" in file.read()
        assert os.listdir("/proc/self/task")
        assert [entry.name for entry in os.scandir("/proc/self/task")] == os.listdir(
            "/proc/self/task"
        )
        assert os.readlink("/proc/self/exe") == os.path.realpath(sys.executable)
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert os.access("/dev/null", os.W_OK)
        with pytest.raises(PermissionError):
            os.unlink("/dev/null")
        reader, writer = os.pipe()
        os.write(writer, b"pipe")
        assert os.read(reader, 10) == b"pipe"
        assert stat.S_ISFIFO(os.fstat(reader).st_mode)
        os.close(reader)
        os.close(writer)

    in_world(look)


def test_a_folder_is_looked_through_and_removed_by_its_descriptor():
    def look():
        os.makedirs("/data/top/below/deep")
        with open("/data/top/below/file", "w") as file:
            file.write("four")
        folder = os.open("/data/top/below", os.O_RDONLY)
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
            sizes = [entry.stat().st_size for entry in found if entry.is_file()]
            assert [entry.path for entry in found] == ["deep", "file"]
            assert sizes == [4]
        finally:
            os.close(folder)
        shutil.rmtree("/data/top")
        assert os.listdir("/data") == []

    in_world(look)


def test_a_test_may_prepare_a_disk_and_look_at_it():
    disk = hoop.sim.Disk()
    disk.write("/data/deep/file", b"content")

    async def main():
        assert await hoop.read_bytes("/data/deep/file") == b"content"
        await hoop.write_bytes("/data/other", b"other")

    copy = disk.copy()
    hoop.sim.run(main, disk=disk)
    assert disk.read("/data/other") == b"other"
    with pytest.raises(FileNotFoundError):
        copy.read("/data/other")
    assert copy.read("/data/deep/file") == b"content"
    with pytest.raises(NotADirectoryError):
        disk.write("/data/other/file", b"")


def test_a_second_run_finds_the_files_of_the_first():
    disk = hoop.sim.Disk()
    in_world(lambda: hoop.write_text("/state", "one"), disk)
    assert in_world(lambda: hoop.read_text("/state"), disk, seed=5) == "one"


def test_the_disk_of_the_world_can_be_asked_for():
    disk = hoop.sim.Disk()

    def ask():
        assert hoop.sim.disk() is disk
        open("/x", "w").close()
        with pytest.raises(RuntimeError, match="uses this disk"):
            disk.copy()

    in_world(ask, disk)
    with pytest.raises(RuntimeError, match="no simulation with a disk"):
        hoop.sim.disk()


def test_everything_is_real_again_afterwards(tmp_path):
    in_world(lambda: open(tmp_path / "file", "w").close())
    assert os.listdir(tmp_path) == []
    assert os.stat(tmp_path).st_dev == tmp_path.stat().st_dev != 0x5D
    with open(tmp_path / "file", "w") as file:
        file.write("real")
    assert (tmp_path / "file").stat().st_size == 4


# ---- what programs use ----------------------------------------------------------------------------


def test_the_standard_library_finds_its_way():
    async def main():
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.NamedTemporaryFile(dir=folder) as file,
            tempfile.TemporaryFile() as other,
        ):
            file.write(b"a")
            other.write(b"b")
            file.flush()
            assert os.path.getsize(file.name) == 1
            assert os.fstat(other.fileno()).st_nlink == 0
        assert not os.path.exists(folder)
        path = Path("/base/a/b")
        path.mkdir(parents=True)
        (path / "file.txt").write_text("text")
        (path / "link").symlink_to("file.txt")
        assert (path / "link").resolve() == path / "file.txt"
        assert [found async for found in hoop.Path("/base").rglob("*.txt")] == [path / "file.txt"]
        os.chdir("/base/a")
        assert os.getcwd() == "/base/a"
        assert Path("b/file.txt").read_text() == "text"
        assert await asyncio.to_thread(Path("b/link").read_text) == "text"
        os.utime("b/file.txt", (5, 6))
        os.chmod("b/file.txt", 0o600)
        copied = await hoop.Path("b").copy(Path("/base/c"), preserve_metadata=True)
        status = await (copied / "file.txt").stat()
        assert (status.st_mtime, stat.S_IMODE(status.st_mode)) == (6, 0o600)
        assert os.statvfs("/base").f_bavail > 0
        fd = os.open("/base", os.O_RDONLY)
        inner = os.open("a/b/file.txt", os.O_RDONLY, dir_fd=fd)
        assert os.read(inner, 10) == b"text"
        assert sorted(os.listdir(fd)) == ["a", "c"]
        os.fsync(fd)
        os.close(fd)
        os.close(inner)

    before = os.getcwd()
    hoop.sim.run(main, disk=hoop.sim.Disk())
    assert os.getcwd() == before


def test_times_of_files_are_virtual():
    async def main():
        await asyncio.sleep(3)
        await hoop.write_text("/file", "x")
        made = os.stat("/file").st_mtime
        assert abs(made - time.time()) < 1
        await asyncio.sleep(100)
        with open("/file", "a") as file:
            file.write("y")
        assert os.stat("/file").st_mtime - made > 99

    hoop.sim.run(main, disk=hoop.sim.Disk())


def test_calls_take_virtual_time_and_another_in_each_seed():
    async def main():
        before = hoop.sim.now()
        await hoop.write_text("/file", "x")
        return hoop.sim.now() - before

    taken = [in_world(main, seed=seed) for seed in range(10)]
    assert len(set(taken)) == 10
    assert min(taken) > 0
    assert taken[3] == in_world(main, seed=3)


def test_a_folder_is_listed_in_another_order_in_each_seed():
    def look():
        for name in "abcdefgh":
            open(f"/{name}.txt", "w").close()
        return [name for name in os.listdir("/") if name.endswith(".txt")]

    assert len({tuple(in_world(look, seed=seed)) for seed in range(5)}) > 1
    assert in_world(look, seed=1) == in_world(look, seed=1)


def test_waiting_for_a_pipe_is_refused():
    async def main():
        reader, writer = os.pipe()
        try:
            await (await hoop.open(reader, "rb", closefd=False)).read()
        finally:
            os.close(reader)
            os.close(writer)

    with pytest.raises(hoop.sim.Unsimulated, match="pipe"):
        hoop.sim.run(main, disk=hoop.sim.Disk())


@pytest.mark.parametrize("program", [lambda: os.mkfifo("/f"), lambda: os.mknod("/f")])
def test_what_is_no_file_is_refused(program):
    with pytest.raises(hoop.sim.Unsimulated):
        in_world(program)


# ---- as the kernel does ---------------------------------------------------------------------------

NAMES = ["a", "b", "c", "a/b", "b/c", "a/b/c", ".", "a/..", "b/", "l", "l/a", "a/l", "x" * 256, ""]


def outcome(function, *args, **kwargs):
    """The result of a call, or the number of its error."""
    try:
        return function(*args, **kwargs)
    except OSError as exc:
        return errno.errorcode[exc.errno]


def opened(path, flags):
    """Open a file, write into it if that is allowed, and return what is in it."""
    fd = os.open(path, flags, 0o640)
    try:
        if flags & (os.O_WRONLY | os.O_RDWR):
            os.write(fd, b"some text")
        return os.read(fd, 100) if flags & os.O_ACCMODE != os.O_WRONLY else b""
    finally:
        os.close(fd)


def status(path):
    """The part of a status that is the same on each disk."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    if stat.S_ISREG(found.st_mode):
        return kind, stat.S_IMODE(found.st_mode), found.st_size, found.st_nlink
    return (kind,)


def walked(path):
    """All below a folder."""
    return sorted((folder[len(path) :], sorted(a), sorted(b)) for folder, a, b in os.walk(path))


def a_call(draw):
    """A function, the names that it gets, and its other arguments."""
    one, two = draw.choice(NAMES), draw.choice(NAMES)
    flags = draw.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
    for flag in (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW):
        flags |= flag * draw.choice([0, 1])
    if not flags & os.O_CREAT:
        flags &= ~os.O_EXCL
    return draw.choice(
        [
            (opened, [one], [flags]),
            (opened, [one], [flags | os.O_CREAT]),
            (os.mkdir, [one], []),
            (os.mkdir, [one], []),
            (os.rmdir, [one], []),
            (os.unlink, [one], []),
            (os.rename, [one, two], []),
            (os.rename, [one, two], []),
            (os.link, [one, two], []),
            (os.symlink, [], [draw.choice(["a", "b", "../a", "l"])]),
            (os.readlink, [one], []),
            (os.truncate, [one], [draw.choice([0, 3, 700])]),
            (status, [one], []),
            (os.path.isdir, [one], []),
            (os.path.exists, [one], []),
            (lambda path: sorted(os.listdir(path)), [one], []),
            (os.access, [one], [os.F_OK]),
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_calls_end_as_on_the_real_disk(tmp_path, seed):
    draw = random.Random(seed)
    ours, theirs = "/base/ours", str(tmp_path / "theirs")

    def call(function, names, rest, base):
        if function is os.symlink:
            return outcome(function, *rest, f"{base}/l")
        paths = [f"{base}/{name}" if name else "" for name in names]
        return outcome(function, *paths, *rest)

    def main():
        os.makedirs(ours)
        real(os.mkdir, theirs)
        for _ in range(300):
            function, names, rest = a_call(draw)
            expected = real(call, function, names, rest, theirs)
            got = call(function, names, rest, ours)
            if len(names) == 2 and got in errno.errorcode.values():
                got = expected if expected is not None else got  # of two errors, either may be told
            assert got == expected, (function, names, rest, got, expected)
            assert walked(ours) == real(walked, theirs)

    in_world(main)


# ---- nothing left ----------------------------------------------------------------------------------


def test_no_descriptor_is_left(tmp_path):
    async def main():
        file = await hoop.open("/file", "w")
        await file.write("x" * 10_000)
        await file.close()
        async with hoop.open("/file") as file, hoop.open("/other", "wb") as other:
            await other.write((await file.read()).encode())
        fd = os.open("/", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    for seed in range(3):
        before = os.listdir("/proc/self/fd")
        hoop.sim.run(main, seed=seed, disk=hoop.sim.Disk())
        assert os.listdir("/proc/self/fd") == before
