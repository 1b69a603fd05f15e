"""A simulated disk loses in a power loss what no sync has made durable, and nothing else."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import os

import pytest

import hoop
import hoop.sim
from hoop import files as aiofiles

OLD, NEW = "old " * 300, "new " * 500


def disk_with(text=OLD, **options):
    """A disk with a file."""
    disk = hoop.sim.Disk(**options)
    disk.write("/data/state", text.encode())
    return disk


async def sync_folder(path):
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        await hoop.fsync(fd)
    finally:
        os.close(fd)


# ---- a planted bug, and its corrected twin ---------------------------------------------------------


async def save(steps):
    """Save a new state. Each step that is left out is a bug."""
    name = "/data/state.new" if "other name" in steps else "/data/state"
    async with hoop.open(name, "w") as file:
        await file.write(NEW)
        if "sync" in steps:
            await file.fsync()
    if "other name" in steps:
        await aiofiles.os.replace(name, "/data/state")
    if "sync folder" in steps:
        await sync_folder("/data")


def saves(steps, use=save):
    """A program that saves until the power goes, and then reads."""

    async def main():
        saved = await hoop.sim.until_power_loss(use(steps))
        text = await hoop.read_text("/data/state", errors="replace")
        assert text == NEW or (text == OLD and not saved), (
            "neither old nor new, or the new one lost"
        )

    return main


RIGHT = ("other name", "sync", "sync folder")


def until_it_fails(main):
    """Run up to 200 seeds."""
    for first in range(0, 200, 20):
        seeds = range(first, first + 20)
        hoop.sim.explore(main, seeds=seeds, disk=disk_with(), shrink_seconds=0)


@pytest.mark.parametrize("missing", RIGHT)
def test_a_half_written_file_is_found(missing):
    steps = [step for step in RIGHT if step != missing]
    with pytest.raises(AssertionError, match="neither old nor new"):
        until_it_fails(saves(steps))


@pytest.mark.parametrize("order", ["fifo", "wakes", "mix"])
def test_the_corrected_twin_passes(order):
    hoop.sim.explore(saves(RIGHT), seeds=50, order=order, disk=disk_with())


async def save_by_hoop(steps):
    await hoop.write_text("/data/state", NEW, atomic=True)


async def save_by_os(steps):
    with open("/data/state.new", "w") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file)
    os.replace("/data/state.new", "/data/state")
    fd = os.open("/data", os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("use", [save_by_hoop, save_by_os])
def test_what_saves_rightly_passes(use):
    hoop.sim.explore(saves((), use), seeds=50, disk=disk_with())


def test_a_journal_that_is_synced_loses_only_its_last_record():
    async def append():
        async with hoop.open("/data/journal", "ab") as file:
            await sync_folder("/data")
            for number in range(20):
                await file.write(b"%0500d\n" % number)
                await file.fsync()
                written.append(number)

    async def main():
        written.clear()
        await hoop.sim.until_power_loss(append())
        try:
            data = await hoop.read_bytes("/data/journal")
        except FileNotFoundError:
            data = b""
        assert data.startswith(b"".join(b"%0500d\n" % n for n in written))
        assert len(data) <= 501 * (len(written) + 1)
        ends[len(data) % 501 != 0] += 1
        hoop.sim.sometimes(0 < len(written) < 20, "the power went in between")

    written = []
    ends = collections.Counter()
    hoop.sim.explore(main, seeds=100, disk=disk_with())
    assert ends[True]
    assert ends[False]


# ---- what may be left -----------------------------------------------------------------------------


def ends_of(program, look, seeds=60):
    """All that a program may leave behind, by how often, if the power goes after its end."""
    found = collections.Counter()

    async def main():
        await hoop.sim.until_power_loss(program(), after=1 << 40)
        found[look()] += 1

    for seed in range(seeds):
        hoop.sim.run(main, seed=seed, disk=disk_with())
    return found


def content(path="/data/state"):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def test_a_new_file_may_be_missing_empty_torn_or_whole():
    async def write():
        async with hoop.open("/data/new", "wb") as file:
            await file.write(b"a" * 1024)

    found = ends_of(write, lambda: content("/data/new"), 200)
    zeros = b"\0" * 512
    assert {None, b"", b"a" * 512, b"a" * 1024, zeros + b"a" * 512} <= set(found)
    assert {len(end) % 512 for end in found if end is not None} == {0}


def test_writes_that_hoop_makes_are_kept_in_their_order_or_by_sectors():
    async def write():
        fd = os.open("/data/state", os.O_WRONLY)
        for letter in (b"1", b"2"):
            await hoop.pwrite(fd, letter * 600, 0)
        os.close(fd)

    found = {end[:600] for end in ends_of(write, content, 150)}
    old = OLD.encode()
    assert {old[:600], b"1" * 600, b"2" * 600, b"2" * 512 + b"1" * 88} <= found
    assert b"1" * 512 + b"2" * 88 not in found


def test_a_rename_without_a_sync_of_the_folder_may_be_lost():
    async def rename():
        os.rename("/data/state", "/data/moved")

    found = ends_of(rename, lambda: tuple(os.listdir("/data")))
    assert set(found) == {("state",), ("moved",)}


@pytest.mark.parametrize("sync", [lambda: os.sync(), None])
def test_what_is_synced_stays(sync):
    async def change():
        os.mkdir("/data/folder")
        os.rename("/data/state", "/data/folder/state")
        with open("/data/folder/new", "w") as file:
            file.write("new")
            file.flush()
            os.fsync(file)
        if sync is not None:
            sync()
            return
        for path in ("/data/folder", "/data"):
            await sync_folder(path)

    found = ends_of(change, lambda: (content("/data/folder/state"), content("/data/folder/new")))
    assert set(found) == {(OLD.encode(), b"new")}


def test_a_removed_file_may_come_back_and_a_cut_one_too():
    async def change():
        os.unlink("/data/other")
        os.truncate("/data/state", 10)

    def look():
        return os.path.exists("/data/other"), len(content())

    async def prepared():
        with open("/data/other", "w"):
            os.sync()
        await change()

    found = ends_of(prepared, look)
    assert set(found) == {(a, b) for a in (True, False) for b in (10, len(OLD))}


def test_a_file_opened_for_synchronous_writes_needs_no_sync():
    async def write():
        fd = os.open("/data/state", os.O_WRONLY | os.O_DSYNC)
        await hoop.pwrite(fd, b"x" * 700, 0)
        os.write(fd, b"y" * 700)
        os.close(fd)

    assert set(ends_of(write, content)) == {b"y" * 700 + OLD.encode()[700:]}


def test_the_real_files_are_safe(tmp_path):
    (tmp_path / "file").write_text("real")

    async def main():
        await hoop.sim.until_power_loss(hoop.write_text(tmp_path / "file", "new"))
        text = (tmp_path / "file").read_text()
        assert text in ("real", "rea", "new", "new\0", "") or not text.strip("\0")

    hoop.sim.explore(main, seeds=50, disk=hoop.sim.Disk())
    assert (tmp_path / "file").read_text() == "real"


# ---- how a run ends --------------------------------------------------------------------------------


def test_a_run_ends_by_the_power_loss_and_the_next_one_finds_the_rest():
    async def write():
        try:
            for _ in range(100):
                async with hoop.open("/data/log", "a") as file:
                    await file.write("line\n")
        finally:
            done.append(hoop.sim.now())

    done = []
    disk = disk_with(power_loss_after=5)
    with pytest.raises(hoop.sim.PowerLoss, match="operation 5, write"):
        hoop.sim.run(write, disk=disk)
    assert len(done) == 1
    assert disk.operations == 5
    left = content_in(disk)
    assert left is None or left in b"line\n" * 4
    assert disk.injected["power losses"] == 1
    hoop.sim.run(write, disk=disk)
    assert content_in(disk).endswith(b"line\n" * 100)


def content_in(disk):
    with contextlib.suppress(FileNotFoundError):
        return disk.read("/data/log")


@pytest.mark.parametrize("how", ["task", "main", "thread", "swallowed"])
def test_the_program_itself_may_cut_the_power(how):
    async def main():
        if how == "task":
            task = asyncio.ensure_future(asyncio.sleep(0))
            task.add_done_callback(lambda _: hoop.sim.disk().power_loss())
            await asyncio.sleep(10)
        elif how == "thread":
            await asyncio.to_thread(lambda: hoop.sim.disk().power_loss())
        elif how == "main":
            hoop.sim.disk().power_loss()
        else:
            with contextlib.suppress(BaseException):
                hoop.sim.disk().power_loss()
            with contextlib.suppress(BaseException):
                os.truncate("/data/state", 0)
        return 1

    with pytest.raises(hoop.sim.PowerLoss):
        hoop.sim.run(main, disk=disk_with())


def test_the_power_may_go_between_two_runs():
    async def write():
        with open("/data/log", "w") as file:
            file.write("text")

    left = set()
    for seed in range(20):
        disk = disk_with()
        hoop.sim.run(write, seed=seed, disk=disk)
        assert content_in(disk) == b"text"
        disk.power_loss()
        left.add(content_in(disk))
    assert left >= {None, b"", b"text"}


def test_tasks_without_power_can_change_nothing():
    async def work():
        async def forever():
            while True:
                try:
                    await hoop.write_text("/data/other", "x")
                except BaseException:
                    attempts.append(1)
                    with contextlib.suppress(BaseException):
                        os.rename("/data/state", "/data/elsewhere")
                    raise

        asyncio.create_task(forever())
        try:
            with open("/data/open", "w"):
                await hoop.write_text("/data/third", "x")
                await asyncio.sleep(100)
        finally:
            with contextlib.suppress(BaseException):
                os.unlink("/data/state")
            attempts.append(2)

    async def main():
        attempts.clear()
        await hoop.sim.until_power_loss(work())
        assert content() == OLD.encode()
        assert len(asyncio.all_tasks()) == 1
        await hoop.write_text("/data/after", "works again")

    attempts = []
    for seed in range(20):
        hoop.sim.run(main, seed=seed, disk=disk_with())
        assert 2 in attempts


def test_a_task_that_does_not_end_is_told():
    async def stubborn():
        while hoop.sim.now() < 100:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(3)

    async def main():
        task = asyncio.create_task(hoop.sim.until_power_loss(stubborn(), after=0))
        await asyncio.sleep(0)
        hoop.sim.disk().on_loss()
        await task

    with pytest.raises(hoop.sim.SimError, match="do not end"):
        hoop.sim.run(main, disk=disk_with())


def test_an_exception_of_the_program_comes_through():
    async def fail():
        raise ZeroDivisionError

    async def main():
        with pytest.raises(ZeroDivisionError):
            await hoop.sim.until_power_loss(fail())
        assert content() == OLD.encode()

    hoop.sim.run(main, disk=disk_with())


def test_it_needs_a_disk():
    async def main():
        coroutine = hoop.sim.until_power_loss(asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="with a disk"):
            await coroutine

    hoop.sim.run(main)


def test_no_descriptor_is_left_after_a_power_loss():
    async def work():
        async with hoop.open("/data/one", "w") as one, hoop.open("/data/state", "rb") as two:
            await one.write("x")
            await two.read()
            await one.fsync()
            with open("/data/three", "w") as three:
                three.write("y")
                await sync_folder("/data")

    async def main():
        await hoop.sim.until_power_loss(work())

    before = os.listdir("/proc/self/fd")
    for seed in range(30):
        hoop.sim.run(main, seed=seed, disk=disk_with())
    for moment in range(6):
        with contextlib.suppress(hoop.sim.PowerLoss):
            hoop.sim.run(work, disk=disk_with(power_loss_after=moment))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_errno_of_a_call_without_power():
    async def work():
        try:
            await hoop.write_text("/data/x", "")
        finally:
            with pytest.raises(OSError) as caught:  # noqa: PT011
                await aiofiles.os.rename("/data/state", "/data/y")
            assert caught.value.errno == errno.EIO

    hoop.sim.run(lambda: hoop.sim.until_power_loss(work(), after=0), disk=disk_with())


def test_the_report_says_where_the_power_went():
    with pytest.raises(AssertionError) as caught:
        hoop.sim.explore(saves(()), seeds=20, disk=disk_with(short_reads=0.5), shrink_seconds=0)
    (note,) = caught.value.__notes__
    assert "disk hoop.sim.Disk(short_reads=0.5)   power lost before " in note
    assert "1 power losses" in note
    assert "short reads" in note


def test_what_until_power_loss_refuses_leaves_the_disk_alone():
    async def main():
        with pytest.raises(TypeError, match="a coroutine is needed"):
            await hoop.sim.until_power_loss(3)
        with pytest.raises(ValueError, match="after must be 0 or greater"):
            await hoop.sim.until_power_loss(hoop.write_text("/data/f", "x"), after=-3)
        for n in range(9):
            await hoop.write_text(f"/data/{n}", "x")

    hoop.sim.run(main, disk=disk_with())
