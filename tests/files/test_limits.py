"""The limits of files: far positions, files of /proc, O_DIRECT, memory under hostile code, whole files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import mmap
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from test_files import cold

import hoop
from hoop.disk import call as calls
from hoop.disk import source as core

FAR = 2**63 - 1


async def result_of(call, *args):
    """The result of a call, or its exception."""
    try:
        result = call(*args)
        return await result if hasattr(result, "__await__") else result
    except (OSError, ValueError, TypeError, OverflowError) as exc:
        return type(exc), getattr(exc, "errno", None)


# ---- positions ----


@pytest.mark.parametrize("mode", ["rb", "r+b", "w+b", "ab", "r", "r+"])
def test_a_position_that_no_file_can_have_is_refused_at_the_seek(run, tmp_path, mode):
    paths = [tmp_path / "ours", tmp_path / "theirs"]
    steps = [
        *[("seek", FAR), ("tell",), ("seek", 10), ("seek", FAR, 1), ("seek", FAR, 2), ("tell",)],
        *[("seek", -FAR - 1), ("seek", -FAR - 1, 1), ("seek", -200, 2), ("seek", FAR + 1)],
        *[("seek", FAR), ("write", b"abc"), ("flush",), ("truncate", FAR), ("truncate", -1)],
        *[("seek", FAR - 1), ("write", b"abc"), ("flush",), ("seek", 0), ("read", 3)],
        *[("seek", 2**62), ("tell",), ("seek", 2**40), ("tell",), ("close",)],
    ]
    text = "b" not in mode

    async def main():
        for path in paths:
            path.write_bytes(b"x" * 100)
        ours = await hoop.open(paths[0], mode)
        with open(paths[1], mode) as theirs:
            for name, *args in steps:
                if text and name == "seek" and (args[0] < 0 or args[0] > FAR or len(args) > 1):
                    continue  # io.TextIOWrapper's own
                if text and name == "write":
                    args = ["abc"]
                got = await result_of(getattr(ours, name), *args)
                assert got == await result_of(getattr(theirs, name), *args), (name, args)

    run(main())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_write_that_would_end_beyond_the_last_position_is_refused(run, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a file system whose files have every position")

    async def main():
        async with hoop.open(folder / "file", "w+b") as f:
            assert await f.seek(FAR) == FAR
            with pytest.raises(OSError, match="File too large"):
                await f.write(b"x")
            assert await f.tell() == FAR

    try:
        run(main())
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_of_more_characters_than_there_can_be_is_everything(run, tmp_path):
    (tmp_path / "file").write_text("text")

    async def main():
        for size in 1 << 62, FAR:
            async with hoop.open(tmp_path / "file") as f:
                assert await f.read(size) == "text"
            async with hoop.open(tmp_path / "file", "rb") as f:
                assert await f.read(size) == b"text"
                assert await f.readline(size) == b""

    run(main())


# ---- files of /proc ----


@pytest.mark.parametrize(
    ("mode", "options"), [("w", {}), ("wb", {"buffering": 0}), ("r+", {}), ("a", {})]
)
def test_a_file_that_takes_nothing_by_its_offset_is_written_where_it_stands(run, mode, options):
    before = Path("/proc/self/comm").read_text()
    written = []

    def write_stock(value):
        with open("/proc/self/comm", mode, **options) as f:
            f.write(value)

    async def main():
        for name in "first", "second":
            value = name.encode() if "b" in mode else name
            async with hoop.open("/proc/self/comm", mode, **options) as f:
                assert await f.write(value) == len(name)
            written.append(Path("/proc/self/comm").read_text())

    async def expect():
        try:
            write_stock(b"stock" if "b" in mode else "stock")
        except OSError as exc:
            with pytest.raises(OSError, match=exc.strerror):
                await main()
        else:
            await main()
            assert written == ["first\n", "second\n"]

    try:
        run(expect())
    finally:
        with open("/proc/self/comm", "w") as f:
            f.write(before)


def test_a_childs_uid_map_can_be_written(run):
    child = subprocess.Popen(
        ["unshare", "-U", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    async def main():
        async with hoop.open(f"/proc/{child.pid}/uid_map", "w") as f:
            await f.write("0 0 1\n")

    try:
        child.stdin.write(b"x")
        child.stdin.flush()
        if child.stdout.read(1) != b"x" or os.geteuid() != 0:
            pytest.skip("only root may make a user namespace here")
        run(main())
        assert Path(f"/proc/{child.pid}/uid_map").read_text().split() == ["0", "0", "1"]
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


# ---- O_DIRECT ----


def test_an_unbuffered_file_past_the_cache_moves_the_users_own_memory(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"Q" * 16384)

    def opener(name, flags):
        return os.open(name, flags | os.O_DIRECT)

    try:
        os.close(opener(path, os.O_RDWR))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")

    async def main():
        memory = mmap.mmap(-1, 4096)
        async with hoop.open(path, "r+b", buffering=0, opener=opener) as f:
            assert await f.readinto(memory) == 4096
            assert memory[:] == b"Q" * 4096
            memory[:] = b"d" * 4096
            assert await f.tell() == 4096
            wrote = [asyncio.ensure_future(f.write(memory)) for _ in range(2)]
            assert await asyncio.gather(*wrote) == [4096, 4096]
            assert await f.tell() == 12288
            task = asyncio.ensure_future(f.readinto(memory))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            unaligned = await result_of(f.write, b"odd")
            with open(path, "r+b", buffering=0, opener=opener) as stock:
                assert unaligned == await result_of(stock.write, b"odd")
        memory.close()  # nobody holds it

    run(main())
    assert path.read_bytes() == b"Q" * 4096 + b"d" * 8192 + b"Q" * 4096


# ---- memory ----


class Lender(bytearray):
    """A buffer, or a number, that runs code when it is asked for."""

    def __init__(self, action):
        super().__init__(b"12345678")
        self.action = action

    if sys.version_info >= (3, 12):

        def __buffer__(self, flags):
            self.action()
            return super().__buffer__(flags)


class Number:
    def __init__(self, action, value=5):
        self.action = action
        self.value = value

    def __index__(self):
        self.action()
        return self.value


@pytest.mark.parametrize(
    "operation", ["read", "read1", "readline", "readinto", "write", "seek", "peek"]
)
@pytest.mark.parametrize("is_cold", [False, True])
def test_a_file_closed_by_what_an_operation_is_given_is_closed(run, tmp_path, operation, is_cold):
    (tmp_path / "file").write_bytes(b"line\n" * 1000)

    async def main():
        f = await hoop.open(tmp_path / "file", "r+b")
        if is_cold:
            cold(f)
        await f.read(3)
        argument = Lender if operation in ("readinto", "write") else Number
        buffer = f.buffer
        got = await result_of(getattr(buffer, operation), argument(buffer.close))
        if buffer.closed:
            assert got == (ValueError, None)
        await f.close()

    run(main())


def test_objects_of_the_core_made_without_their_makers_do_no_harm(run):
    async def main():
        loop = asyncio.get_running_loop()
        for kind in (core.FillCall, core.DrainCall, core.OwnedCall, core.FileBuffer):
            with pytest.raises(TypeError, match="cannot create"):
                kind.__new__(kind)
        for kind in (calls.SystemCall, calls.OpenCall, calls.ReadCall, calls.StatusCall):
            with pytest.raises(TypeError, match="cannot create"):
                kind.__new__(kind)
        for name in ("perform", "finish", "abandon", "forgo", "taken", "drop", "gone", "bytes"):
            made = calls.CloseCall.__new__(calls.CloseCall)
            for args in (), (1,), (b"x", True):
                with contextlib.suppress(
                    TypeError, ValueError, RuntimeError, OSError, AttributeError, BufferError
                ):
                    getattr(made, name)(*args)
            with pytest.raises(RuntimeError):
                made.call(loop, loop._file_pool)
            del made
        source = core.LineSource()
        source.next_line = True
        with pytest.raises(NotImplementedError):
            source.__anext__()
        gc.collect()

    run(main())


def test_a_buffer_is_made_once(run, tmp_path):
    (tmp_path / "file").touch()

    async def main():
        async with hoop.open(tmp_path / "file") as f:
            with pytest.raises(ValueError, match="made once"):
                f.buffer.__init__(
                    asyncio.get_running_loop(),
                    *[None, 5, "x", "r", True, True, False, False, True, 1, 1, 1],
                )

    run(main())


# ---- replacing a file whole ----


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Mode, owner, group of the old file; mode and group of what user 1000 of group 5000 makes of it.
        ((0o660, 1001, 5000), (0o660, 5000)),
        ((0o4755, 0, 0), (0o755, 1000)),
        ((0o6775, 1001, 5000), (0o775, 5000)),
        ((0o2755, 1000, 5000), (0o2755, 5000)),
        ((0o640, 1001, 77), (0o600, 1000)),
        ((0o2674, 1000, 77), (0o644, 1000)),
    ],
)
def test_a_file_replaced_by_another_user_keeps_what_it_may(python, before, after):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    # Not below tmp_path: each pytest that starts makes the folder of all of them private again.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        path = folder / "file"
        path.write_bytes(b"old")
        mode, uid, gid = before
        os.chown(path, uid, gid)
        path.chmod(mode)
        python(
            f"""
            import os, hoop
            async def main():
                os.setgroups([5000]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
                await hoop.write_bytes({str(path)!r}, b"new", atomic=True)
            hoop.run(main())
            """
        )
        status = path.stat()
        assert path.read_bytes() == b"new"
        assert (oct(stat.S_IMODE(status.st_mode)), status.st_gid) == (oct(after[0]), after[1])
        assert status.st_uid == 1000


def test_what_is_no_regular_file_is_not_replaced(run, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    async def main():
        with pytest.raises(OSError, match="Only a regular file") as raised:
            await hoop.write_bytes(tmp_path / "fifo", b"x", atomic=True)
        assert raised.value.errno == errno.EINVAL

    run(main())
    assert os.listdir(tmp_path) == ["fifo"]
