"""hoop.Path, whole files, calls by descriptor, and aiofiles' names: what pathlib, os and tempfile do."""

from __future__ import annotations

import asyncio
import inspect
import os
import pathlib
import stat
import tempfile

import pytest

import hoop
from hoop import files as aiofiles


def test_paths_compute_like_pathlibs(tmp_path):
    path = hoop.Path(tmp_path) / "folder" / "name.txt"
    assert (path.name, path.suffix, path.parent.name) == ("name.txt", ".txt", "folder")
    assert type(path.parent) is hoop.Path
    assert os.fspath(path) == str(tmp_path / "folder" / "name.txt")
    assert path == pathlib.PurePosixPath(tmp_path / "folder" / "name.txt")
    assert hash(path) == hash(hoop.Path(str(path)))
    assert sorted([hoop.Path("b"), hoop.Path("a")]) == [hoop.Path("a"), hoop.Path("b")]


def test_every_method_of_pathlibs_paths_is_there():
    ours = set(dir(hoop.Path))
    theirs = {name for name in dir(pathlib.Path) if not name.startswith("_")}
    without = {"link_to", "from_uri", "info"}  # gone, or not about waiting
    assert theirs - ours - without == set()


def test_paths_touch_the_disk_like_pathlibs(run, tmp_path):
    async def main():
        root = hoop.Path(tmp_path)
        folder = root / "a" / "b"
        await folder.mkdir(parents=True)
        await folder.mkdir(exist_ok=True)
        with pytest.raises(FileExistsError):
            await folder.mkdir()
        file = folder / "file.txt"
        assert not await file.exists()
        assert await file.write_text("héllo\n") == 6
        assert await file.read_bytes() == "héllo\n".encode()
        assert await file.read_text() == "héllo\n"
        assert (await file.exists(), await file.is_file(), await file.is_dir()) == (
            True,
            True,
            False,
        )
        assert await file.stat() == os.stat(file)
        await file.chmod(0o600)
        assert stat.S_IMODE((await file.lstat()).st_mode) == 0o600
        link = root / "link"
        await link.symlink_to(file)
        assert await link.is_symlink()
        assert await link.readlink() == file
        assert await link.samefile(file)
        assert await link.resolve() == hoop.Path(os.path.realpath(file))
        await (root / "hard").hardlink_to(file)
        assert [p.name async for p in folder.iterdir()] == ["file.txt"]
        assert sorted([str(p) async for p in root.rglob("*.txt")]) == [str(file)]
        assert [p async for p in root.glob("nothing*")] == []
        moved = await file.rename(folder / "other")
        assert moved == folder / "other"
        await moved.touch()
        async with moved.open("ab") as f:
            await f.write(b"more")
        assert (await moved.read_bytes()).endswith(b"more")
        await moved.unlink()
        await moved.unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError) as raised:
            await moved.unlink()
        assert raised.value.filename == moved
        await folder.rmdir()
        assert await hoop.Path.cwd() == hoop.Path(os.getcwd())
        assert await hoop.Path("x").absolute() == hoop.Path(os.getcwd()) / "x"
        assert await root.owner() == pathlib.Path(tmp_path).owner()
        with pytest.raises(FileNotFoundError):
            async for _ in (root / "missing").iterdir():
                pass

    run(main())


def test_a_large_folder_is_listed_in_batches(run, tmp_path):
    for i in range(1000):
        (tmp_path / str(i)).touch()

    async def main():
        return {p.name async for p in hoop.Path(tmp_path).iterdir()}

    assert run(main()) == {str(i) for i in range(1000)}


def test_copy_and_move(run, tmp_path):
    async def main():
        root = hoop.Path(tmp_path)
        await (root / "tree" / "below").mkdir(parents=True)
        await (root / "tree" / "below" / "file").write_bytes(b"x")
        assert await (root / "tree").copy(root / "copy") == root / "copy"
        assert await (root / "copy" / "below" / "file").read_bytes() == b"x"
        with pytest.raises(FileExistsError):
            await (root / "tree").copy(root / "copy")
        with pytest.raises(OSError, match="parent of target"):
            await (root / "tree").copy(root / "tree" / "inside")
        with pytest.raises(OSError, match="same file"):
            await (root / "copy" / "below" / "file").copy(root / "copy" / "below" / "file")
        await (root / "into").mkdir()
        assert await (root / "tree").move_into(root / "into") == root / "into" / "tree"
        assert not await (root / "tree").exists()
        file = root / "into" / "tree" / "below" / "file"
        assert await file.copy_into(root) == root / "file"
        assert await (root / "file").move(root / "renamed") == root / "renamed"
        assert sorted(os.listdir(root)) == ["copy", "into", "renamed"]

    run(main())


@pytest.mark.skipif(not hasattr(pathlib.Path, "walk"), reason="Python 3.12 has Path.walk")
def test_walk_can_be_steered(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)

    async def main():
        seen = []
        async for folder, folders, _ in hoop.Path(tmp_path).walk():
            seen.append(folder.name)
            if "b" in folders:
                folders.remove("b")
        return seen[1:]

    assert run(main()) == ["a", "deep"]


# ---- whole files ----


def test_whole_files(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        for data in (b"", b"x" * 100, os.urandom(3 << 20)):
            assert await hoop.write_bytes(path, data) == len(data)
            for _ in range(2):
                assert await hoop.read_bytes(path) == data
        assert await hoop.write_text(path, "a\nb", newline="\r\n") == 3
        assert path.read_bytes() == b"a\r\nb"
        assert await hoop.read_text(path) == "a\nb"
        assert await hoop.read_text(path, newline="") == "a\r\nb"
        path.write_bytes(b"\xff")
        with pytest.raises(UnicodeDecodeError):
            await hoop.read_text(path, "utf-8")
        with pytest.raises(TypeError):
            await hoop.write_bytes(path, "text")
        with pytest.raises(TypeError):
            await hoop.write_text(path, b"bytes")
        for call in (hoop.read_bytes, hoop.read_text):
            with pytest.raises(IsADirectoryError):
                await call(tmp_path)
            with pytest.raises(FileNotFoundError):
                await call(tmp_path / "missing")
        assert (await hoop.read_bytes("/proc/self/status")).startswith(b"Name:")
        assert await hoop.read_bytes("/dev/null") == b""

    run(main())


def test_an_atomic_write_keeps_permissions_and_links_and_leaves_nothing(run, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to("file")

    async def main():
        reader = path.open()
        await hoop.write_text(tmp_path / "link", "new", atomic=True)
        with reader:
            assert reader.read() == "old"
        await hoop.write_bytes(tmp_path / "fresh", b"x", atomic=True)
        with pytest.raises(FileNotFoundError):
            await hoop.write_bytes(tmp_path / "missing" / "x", b"x", atomic=True)
        (tmp_path / "folder").mkdir()
        with pytest.raises(IsADirectoryError):
            await hoop.write_bytes(tmp_path / "folder", b"x", atomic=True)

    run(main())
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "link").is_symlink()
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "fresh").stat().st_mode == plain.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "file",
        "folder",
        "fresh",
        "link",
        "plain",
    ]


# ---- descriptors ----


def test_calls_by_descriptor(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)
    fd = os.open(path, os.O_RDWR)

    async def main():
        for n, at in [(0, 0), (10, 5), (300_000, 0), (10, 25595), (10, 99999), (1 << 21, 3)]:
            assert await hoop.pread(fd, n, at) == os.pread(fd, n, at)
        assert await hoop.pwrite(fd, b"xyz", 7) == 3
        assert os.pread(fd, 3, 7) == b"xyz"
        assert await hoop.pwritev(fd, [b"ab", b"cd"], 0) == 4
        into = [bytearray(2), bytearray(3)]
        assert await hoop.preadv(fd, into, 0) == 5
        assert bytes(into[0] + into[1]) == b"abcd\x04"
        await hoop.fsync(fd)
        await hoop.fdatasync(fd)
        await hoop.fallocate(fd, 0, 100_000)
        assert (await hoop.fstat(fd)).st_size == 100_000
        await hoop.ftruncate(fd, 10)
        assert await hoop.fstat(fd) == os.fstat(fd)
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
        assert await hoop.copy_file_range(fd, other, 10, 0, 0) == 10
        os.close(other)

    run(main())
    os.close(fd)
    assert (tmp_path / "other").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (hoop.pread, os.pread, (987654, 10, 0)),
        (hoop.pwrite, os.pwrite, (987654, b"x", 0)),
        (hoop.pread, os.pread, ("pipe", 10, 0)),
        (hoop.pread, os.pread, ("file", 10, -1)),
        (hoop.pread, os.pread, ("file", -1, 0)),
        (hoop.fsync, os.fsync, (987654,)),
        (hoop.ftruncate, os.ftruncate, ("file", -1)),
        (hoop.fstat, os.fstat, (987654,)),
    ],
)
def test_calls_by_descriptor_raise_what_os_raises(run, tmp_path, ours, theirs, arguments):
    reader, writer = os.pipe()
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    given = [{"pipe": reader, "file": fd}.get(a, a) for a in arguments]

    async def main():
        await ours(*given)

    with pytest.raises(OSError) as expected:  # noqa: PT011
        theirs(*given)
    with pytest.raises(OSError) as raised:  # noqa: PT011
        run(main())
    assert str(raised.value) == str(expected.value)
    for number in (reader, writer, fd):
        os.close(number)


# ---- aiofiles' names ----


def test_the_functions_of_os(run, tmp_path):
    async def main():
        folder, file = tmp_path / "folder", tmp_path / "folder" / "file"
        await aiofiles.os.mkdir(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask()
        async with aiofiles.open(file, "w") as f:
            await f.write("x")
        assert await aiofiles.os.stat(file) == os.stat(file)
        assert await aiofiles.os.stat(str(file).encode()) == os.stat(file)
        assert await aiofiles.os.listdir(folder) == ["file"]
        with await aiofiles.os.scandir(folder) as entries:
            assert [entry.name for entry in entries] == ["file"]
        assert await aiofiles.os.path.exists(file)
        assert await aiofiles.os.path.getsize(file) == 1
        await aiofiles.os.rename(file, folder / "new")
        await aiofiles.os.replace(folder / "new", file)
        with pytest.raises(FileNotFoundError) as raised:
            await aiofiles.os.rename(folder / "missing", file)
        assert (raised.value.filename, raised.value.filename2) == (folder / "missing", file)
        with pytest.raises(OSError, match="not empty"):
            await aiofiles.os.rmdir(folder)
        await aiofiles.os.remove(file)
        await aiofiles.os.rmdir(folder)
        await aiofiles.os.makedirs(folder / "a" / "b", exist_ok=True)
        await aiofiles.os.removedirs(folder / "a" / "b")
        assert await aiofiles.os.wrap(max)(1, 2) == 2
        with pytest.raises(ValueError, match="embedded null byte"):
            await aiofiles.os.stat("a\0b")

    (tmp_path / "keep").touch()
    run(main())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_names_of_aiofiles_are_there():
    aio = pytest.importorskip("aiofiles")
    import aiofiles.os as aio_os
    import aiofiles.ospath as aio_path
    import aiofiles.tempfile as aio_tempfile

    assert set(aio.__all__) <= set(aiofiles.__all__)
    assert set(aio_os.__all__) <= set(aiofiles.os.__all__)
    functions = {n for n, f in vars(aio_path).items() if inspect.iscoroutinefunction(f)}
    assert functions <= set(dir(aiofiles.ospath))
    assert set(aio_tempfile.__all__) <= set(aiofiles.tempfile.__all__)


def test_temporary_files(run, tmp_path):
    async def main():
        async with aiofiles.tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            assert os.path.isdir(folder)
            async with aiofiles.tempfile.NamedTemporaryFile("w+", suffix=".txt", dir=folder) as f:
                assert f.name.endswith(".txt")
                await f.write("text")
                await f.seek(0)
                assert await f.read() == "text"
                assert os.listdir(folder) == [os.path.basename(f.name)]
            assert os.listdir(folder) == []
            async with aiofiles.tempfile.NamedTemporaryFile(dir=folder, delete_on_close=False) as f:
                await f.close()
                assert os.path.exists(f.name)
            assert os.listdir(folder) == []
            async with aiofiles.tempfile.NamedTemporaryFile(dir=folder, delete=False) as f:
                pass
            os.unlink(f.name)
            async with aiofiles.tempfile.TemporaryFile(dir=folder) as f:
                await f.write(b"bytes")
                await f.seek(0)
                assert (await f.read(), os.listdir(folder)) == (b"bytes", [])
        assert not os.path.exists(folder)

    run(main())


def test_a_spooled_file_moves_to_the_disk(run):
    async def main():
        async with aiofiles.tempfile.SpooledTemporaryFile(10, "w+") as f:
            await f.write("one\n")
            assert f.name is None
            await f.write("two\n" * 10)
            assert isinstance(f.fileno(), int)
            await f.seek(0)
            assert [line async for line in f] == ["one\n"] + ["two\n"] * 10

    run(main())
    assert tempfile.gettempdir()


def test_standard_streams(python):
    out = python(
        """
        import os, hoop
        from hoop import files as aiofiles
        r, w = os.pipe()
        os.dup2(r, 0); os.write(w, b"one\\ntwo\\nthree"); os.close(w); os.close(r)
        async def main():
            print("first", end=" ")
            await aiofiles.stdout.write("second ")
            assert await aiofiles.stdin.readline() == "one\\n"
            assert [line async for line in aiofiles.stdin] == ["two\\n", "three"]
            await aiofiles.stdout.flush()
            await aiofiles.stdout_bytes.write(b"third")
            await aiofiles.stdout_bytes.flush()
        hoop.run(main())
        """
    )
    assert out == "first second third"


def test_a_read_of_standard_input_does_not_hold_up_the_end(python):
    out = python(
        """
        import os, asyncio, hoop
        from hoop import files as aiofiles
        r, w = os.pipe()
        os.dup2(r, 0)
        async def main():
            asyncio.create_task(aiofiles.stdin.read())
            await asyncio.sleep(0.05)
        hoop.run(main())
        print("ended")
        """
    )
    assert out == "ended\n"


def test_threads_for_files_end_with_their_loop(loop, tmp_path):
    loop.run_until_complete(asyncio.wait_for(hoop.write_bytes(tmp_path / "x", b"x"), 5))
    loop.close()  # the fixtures look for threads
