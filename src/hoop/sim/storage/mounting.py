"""The time in which a world uses a disk: its calls of hoop's files, and the loss of its power."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import os
import stat
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from hoop.disk import call as disk_call
from hoop.disk.call import SystemCall
from hoop.disk.pool import Job
from hoop.disk.source import look_at
from hoop.files import opening
from hoop.sim import calls
from hoop.sim.calls import real
from hoop.sim.driver import Script
from hoop.sim.errors import PowerLoss, SimError, Unsimulated
from hoop.sim.event_loop import SimEventLoop, SimFilePool
from hoop.sim.net.network import Network
from hoop.sim.storage.disks import Disk, check_number
from hoop.sim.storage.openings import Openings
from hoop.sim.storage.paths import with_paths
from hoop.sim.storage.posix import Functions
from hoop.sim.storage.tree import File
from hoop.sim.swaps import is_inside

ENDING = 60.0  # virtual seconds that tasks may take to end without power

# ---- hoop's files ----------------------------------------------------------------------------------


READ, WRITE, FSYNC, FALLOCATE, OPENAT, STATX = 22, 23, 3, 17, 18, 21
RENAMEAT, UNLINKAT, MKDIRAT, FTRUNCATE = 35, 36, 37, 55
NO_FOLLOW, REMOVE_FOLDER, EMPTY_PATH = 0x100, 0x200, 0x1000


class DiskPool(SimFilePool):
    """Makes the calls of files on a simulated disk."""

    def __init__(self, loop: SimEventLoop, disk: Disk, network: Network) -> None:
        super().__init__(loop, 1)
        self.disk = disk
        self.functions = Functions(disk, network)

    def _delay(self, job: Job) -> float:
        return self.disk.delay(isinstance(job, SystemCall) and calls.facts(job)[0] == FSYNC)

    def _submit_alone(self, job: Job, stop: Callable[[], bool] | None) -> None:
        """Have a job done that may wait for ever on a real pipe: then it would wait here."""
        file = getattr(stop, "__self__", None)
        if stop is not None and not (file is not None and _never_waits(file.fileno())):
            raise Unsimulated("waiting for a pipe or a terminal", "replace it by a queue")
        self.submit(job)

    def complain(self, error: BaseException) -> None:
        """Tell the loop's exception handler of an error, unless the power is the reason."""
        if not isinstance(error, PowerLoss) and not self.disk.without_power:
            super().complain(error)

    def _do(self, job: Job) -> None:
        if job not in self._unfinished:
            return
        if not isinstance(job, SystemCall) or calls.closes(job):
            job.perform()
        else:
            try:
                self._perform(job)
            except OSError as exc:
                calls.answer(job, -(exc.errno or errno.EIO))
            except PowerLoss:
                calls.answer(job, -errno.EIO)
        self._finish(job)

    def _perform(self, op: SystemCall) -> None:
        code, fd, flags, keep, length, offset, address = calls.facts(op)
        disk, functions = self.disk, self.functions
        if code == OPENAT:
            self.functions.may_fail("open()", keep)
            calls.answer(op, disk.open(keep, flags, length, fd))
        elif code == STATX:
            calls.answer_status(
                op,
                functions.fields(
                    fd if not keep[0] else keep[0],
                    None if not keep[0] else fd,
                    not flags & NO_FOLLOW,
                ),
            )
        elif code == RENAMEAT:
            target_fd = length - (1 << 32) if length >> 31 else length
            functions.rename(*keep, src_dir_fd=fd, dst_dir_fd=target_fd)
            calls.answer(op, 0)
        elif code == UNLINKAT:
            (functions.rmdir if flags & REMOVE_FOLDER else functions.unlink)(keep, dir_fd=fd)
            calls.answer(op, 0)
        elif code == MKDIRAT:
            functions.mkdir(keep, length, dir_fd=fd)
            calls.answer(op, 0)
        elif code == FSYNC:
            disk.fsync(fd)
            calls.answer(op, 0)
        else:
            self._perform_on(op, disk.of_descriptor(fd), code, fd, length, offset, address)

    def _perform_on(
        self, op: SystemCall, node: Any, code: int, fd: int, length: int, offset: int, address: int
    ) -> None:
        disk = self.disk
        if not isinstance(node, File):
            if disk.without_power:
                raise PowerLoss(disk.last)
            calls.make(op, length)
        elif code == READ:
            calls.make(op, disk.read_length(length))
        elif code == WRITE:
            done = disk.write_to(fd, node, offset, length, lambda n: calls.make(op, n))
            calls.answer(op, done)
        elif code == FTRUNCATE:
            disk.truncate(node, offset, lambda: calls.make(op, length))
        else:
            assert code == FALLOCATE
            disk.changes("write")
            disk.reserve(node, offset, address)
            calls.make(op, length)
            node.wrote(node.size(), None)


def _never_waits(fd: int) -> bool:
    mode = real(os.fstat, fd).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))


def _device_of_files() -> int:
    """The device of the files' descriptors, which are all on this machine."""
    fd = os.memfd_create("hoop-sim-disk")
    try:
        device: int = look_at(fd)[2]
        return device
    finally:
        os.close(fd)


@contextlib.contextmanager
def _past_caches() -> Iterator[None]:
    """Have each call on the real disk take its virtual time.

    Otherwise the seed would draw that time only for what the kernel has not cached, and for folders that no
    world before has used.
    """
    new_buffer: Any = opening.FileBuffer
    learn, read_at_once = opening._learn, disk_call.read_at_once

    def uncached_buffer(*args: Any) -> Any:
        buffer = new_buffer(*args)
        buffer.asks_cache = buffer.asks_cache and not is_inside()
        return buffer

    async def learn_nothing(name: bytes, fd: int) -> None:
        if not is_inside():
            await learn(name, fd)

    def read_later(fd: int, size: int, offset: int) -> Any:
        return None if is_inside() else read_at_once(fd, size, offset)

    changes: list[tuple[Any, str, Any]] = [
        (opening, "folders", _NoFolders()),
        (opening, "FileBuffer", uncached_buffer),
        (opening, "_learn", learn_nothing),
        (disk_call, "read_at_once", read_later),
    ]
    before = [getattr(module, name) for module, name, _ in changes]
    devices = disk_call.devices()
    known = dict(devices)
    devices.clear()
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(changes, before, strict=True):
            setattr(module, name, value)
        devices.clear()
        devices.update(known)


class _NoFolders(dict[bytes, int]):
    """Keeps no folder, so that no file is opened past the disk."""

    def __setitem__(self, key: bytes, value: int) -> None:
        pass


_mounted: Disk | None = None
_turned: Functions | None = None  # in the place of those of os


@contextlib.contextmanager
def mounted(
    disk: Disk | None,
    loop: SimEventLoop,
    script: Script,
    network: Network,
    others: dict[Any, Callable[..., Any]],
) -> Iterator[None]:
    """Let a world use a disk, or the real one. Raises PowerLoss if its power was lost.

    `others` are functions to be called in the place of further builtin functions.
    """
    global _mounted, _turned
    if disk is None:
        calls.turn(with_paths(network, {**Openings(network).table(), **others}))
        try:
            with _past_caches():
                yield
        finally:
            calls.turn_back()
        return
    disk.mount(functools.partial(_stop, loop), script, loop.injected)
    loop.parameters["disk"] = repr(disk)
    before = opening.folders, disk_call.open_waiting
    devices = disk_call.devices()
    known = dict(devices)
    loop._file_pool = DiskPool(loop, disk, network)
    _turned = functions = Functions(disk, network)
    calls.turn(with_paths(network, {**functions.table(), **others}))
    opening.folders = _NoFolders()
    devices.clear()
    devices[_device_of_files()] = True
    disk_call.open_waiting = functions.open_waiting
    _mounted = disk
    writes_code = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # or a first import would be an operation of the disk
    try:
        yield
        if disk.without_power:
            raise PowerLoss(disk.last)
    except BaseException:
        if disk.without_power:
            raise PowerLoss(disk.last) from None
        raise
    finally:
        _mounted = _turned = None
        sys.dont_write_bytecode = writes_code
        opening.folders, disk_call.open_waiting = before
        devices.clear()
        devices.update(known)
        calls.turn_back()
        disk.unmount()


def mounted_disk() -> Disk | None:
    """The disk that the code has which runs now, or None."""
    return _mounted


def use(disk: Disk) -> None:
    """The code that runs from now on has this disk, which is that of its host."""
    global _mounted
    assert _turned is not None
    _mounted = _turned.disk = disk


def _stop(loop: SimEventLoop) -> None:
    """End a run whose power has gone. Its tasks' exceptions are no news then."""
    loop.set_exception_handler(_say_nothing)
    loop.stop()


def _say_nothing(loop: object, context: object) -> None:
    pass


def disk() -> Disk:
    """Return the disk of the world that runs. Raises RuntimeError if it has none.

    hoop.sim.disk().fail("fsync", OSError(errno.EIO, "I/O error"))
    """
    if _mounted is None:
        raise RuntimeError("no simulation with a disk runs")
    return _mounted


async def until_power_loss(
    program: Coroutine[Any, Any, object], *, after: int | None = None
) -> bool:
    """Run a coroutine until the power goes, and return when it is back. Returns whether the coroutine ended.

    The power goes before an operation that the seed chooses, or before the one of number `after` from now on.
    It goes at the latest when the coroutine has ended. Then the disk loses what no sync has made durable, or
    parts of it. All tasks that the coroutine has started are cancelled, without power: they can change
    nothing any more. Raises what the coroutine raises before that.

        saved = await hoop.sim.until_power_loss(save(state))
        assert await load() in ((state,) if saved else (before, state))
    """
    if not asyncio.iscoroutine(program):
        raise TypeError(f"a coroutine is needed, not {type(program).__name__}")
    try:
        used = disk()
        if after is not None:
            check_number("after", after)
    except (RuntimeError, TypeError, ValueError):
        program.close()
        raise
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks()
    before, lost = used.on_loss, loop.create_future()
    if after is None:
        after = used.choose_moment()
    used.power_loss_after = used.operations + after
    used.on_loss = functools.partial(_tell, loop, lost)
    task = loop.create_task(program)
    handler = loop.get_exception_handler()
    try:
        await asyncio.wait([task, lost], return_when=asyncio.FIRST_COMPLETED)
        ended = task.done() and not used.without_power
        if ended:
            task.result()
            used.go_dark("the end")
        loop.parameters["power lost before"] = used.last  # type: ignore[attr-defined]
        await _end_tasks(others)
        if not task.cancelled():
            task.exception()
        _collect()
        return ended
    finally:
        if not task.done():
            task.cancel()
        loop.set_exception_handler(handler)
        used.on_loss = before
        used.boot()


def _collect() -> None:
    """Have all end that the program has left, before the power is back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(0)  # a world collects nothing else, so all that it has made is young


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Tell that the power has gone. The exceptions of the program's tasks are no news then."""
    loop.set_exception_handler(_say_nothing)
    if not future.done():
        future.set_result(None)


async def _end_tasks(but: set[asyncio.Task[Any]]) -> None:
    """Cancel all tasks but these, and wait for their end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENDING
    while tasks := asyncio.all_tasks() - but:
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=1)
        for task in done:
            if not task.cancelled():
                task.exception()
        if loop.time() > deadline:
            names = ", ".join(sorted(task.get_name() for task in tasks))
            raise SimError(f"these tasks do not end, though the power is lost: {names}")
