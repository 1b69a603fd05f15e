"""Actions on pipes, child processes, files, signals, threads and descriptors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from typing import Any

from hostile import Callback, buffer_of, hostile_bytes, hostile_int, hostile_str
from network import Fuzzed, Line
from world import World, action, payload

import hoop

CHILDREN_MAX = 2
THREADS_MAX = 3
LINE = b"a line of a file\n"


# ---- watched descriptors ----


def watched_pair(world: World) -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
        world.cleanups.append(lambda end=end: (unwatch(world, end), end.close()))
        world.add("watched", end)
    return pair


def unwatch(world: World, end: socket.socket) -> None:
    if end.fileno() >= 0:
        world.loop.remove_reader(end)
        world.loop.remove_writer(end)


@action()
def make_watched(world: World) -> None:
    watched_pair(world)


@action(2)
def watch(world: World) -> None:
    end, loop = world.get("watched"), world.loop
    add = world.dice.choice((loop.add_reader, loop.add_writer))
    add(hostile_int(world, end.fileno()), Watched(world, end))


class Watched(Callback):
    """Called for a watched descriptor: takes what there is, mostly, and acts."""

    def __init__(self, world: World, end: socket.socket) -> None:
        super().__init__(world)
        self.end = end

    def __call__(self, *args: Any) -> None:
        if self.world.chance(0.7):
            try:
                self.end.recv(1000)
            except OSError:
                pass
        if self.world.chance(0.4):
            unwatch(self.world, self.end)
        super().__call__()


@action(2)
def feed_watched(world: World) -> None:
    world.get("watched").send(b"news")


@action(2)
def unwatch_one(world: World) -> None:
    unwatch(world, world.get("watched"))


@action()
def close_watched(world: World) -> None:
    end = world.get("watched")
    if world.chance(0.8):
        unwatch(world, end)
        end.close()


# ---- pipes ----


def connect_pipe(world: World, line: Line, reading: bool, end: int) -> None:
    loop = world.loop
    pipe = os.fdopen(end, "rb" if reading else "wb", 0)
    world.cleanups.append(pipe.close)
    connect = loop.connect_read_pipe if reading else loop.connect_write_pipe
    world.spawn(connect(lambda: Fuzzed(world, line), pipe))


@action()
def make_pipe(world: World) -> None:
    reading, writing = os.pipe()
    one, other = Line.pair()
    connect_pipe(world, one, True, reading)
    connect_pipe(world, other, False, writing)


# ---- child processes ----


class ChildProtocol(asyncio.SubprocessProtocol):
    """Acts in each of its methods."""

    def __init__(self, world: World) -> None:
        self.world = world

    def connection_made(self, transport: Any) -> None:
        self.world.add("children", transport)
        self.world.act("child made")
        self.world.may_raise()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.world.act("child data")
        self.world.may_raise()

    def pipe_connection_lost(self, fd: int, exc: Any) -> None:
        self.world.act("child pipe lost")
        self.world.may_raise()

    def process_exited(self) -> None:
        self.world.act("child exited")
        self.world.may_raise()

    def connection_lost(self, exc: Any) -> None:
        self.world.act("child lost")
        self.world.may_raise()


def may_have_child(world: World) -> bool:
    world.children += 1
    return world.children <= CHILDREN_MAX


@action()
def spawn_child(world: World) -> None:
    if may_have_child(world):
        program = world.dice.choice(("/bin/cat", "/bin/true", "/nonexistent", "/"))
        arguments = [
            hostile_str(world, program),
            *[hostile_bytes(world, b"-")] * (program == "/bin/cat"),
        ]
        world.spawn(world.loop.subprocess_exec(lambda: ChildProtocol(world), *arguments))


@action()
def communicate(world: World) -> None:
    async def run() -> None:
        child = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        world.add("children", child)
        try:
            sent = payload(0, world.dice.randrange(100_000))
            got, _ = await child.communicate(sent)
            if got != sent[: len(got)]:
                world.wrong("a child did not send back what it was sent")
        finally:
            if child.returncode is None:
                child.kill()

    if may_have_child(world):
        world.spawn(run())


@action()
def signal_child(world: World) -> None:
    child = world.get("children")
    world.dice.choice((child.kill, child.terminate, child.__repr__))()


@action()
def close_child(world: World) -> None:
    child = world.get("children")
    if hasattr(child, "get_pipe_transport"):
        child.get_pipe_transport(hostile_int(world, world.dice.randrange(3)))
        child.close()


# ---- files ----


async def use_file(world: World) -> None:
    path = world.folder / f"file-{world.dice.randrange(4)}"
    mode = world.dice.choice(("wb", "w", "a", "r+b", "rb", "r"))
    if "r" in mode and not path.exists():
        path.write_bytes(LINE * world.dice.choice((0, 3, 1000)))
    options: dict[str, Any] = {}
    if "b" in mode and world.chance(0.3):
        options["buffering"] = world.dice.choice((0, 10, 5000))
    async with hoop.open(path, hostile_str(world, mode), **options) as file:
        world.add("files", file)
        for _ in range(world.dice.randrange(5)):
            await one_of_file(world, file)
            world.act("file")
            world.may_raise()


async def one_of_file(world: World, file: Any) -> None:
    kind = world.dice.randrange(8)
    size = hostile_int(world, world.dice.choice((-1, 0, 1, 100, 20_000)))
    if kind == 0:
        await file.read(size)
    elif kind == 1:
        await file.readline()
    elif kind == 2:
        async for _ in file:
            world.act("line")
            if world.chance(0.3):
                break
    elif kind == 3 and isinstance(file, hoop.TextFile):
        await file.write(hostile_str(world, "text\n" * world.dice.choice((1, 1000))))
    elif kind == 3:
        await file.write(buffer_of(world, LINE * world.dice.choice((1, 1000))))
    elif kind == 4:
        await file.seek(hostile_int(world, 0))
    elif kind == 5:
        await file.flush()
    elif kind == 6 and hasattr(file, "readinto"):
        await file.readinto(bytearray(1000))
    else:
        await file.tell()


@action()
def make_file_task(world: World) -> None:
    world.spawn(use_file(world))


@action()
def use_file_of_another(world: World) -> None:
    world.spawn(one_of_file(world, world.get("files")))


@action()
def close_file_of_another(world: World) -> None:
    world.spawn(world.get("files").close())


@action()
def whole_file(world: World) -> None:
    path = hoop.Path(hostile_str(world, str(world.folder / "whole")))

    async def use() -> None:
        await path.write_bytes(buffer_of(world, LINE * 100))
        await path.read_bytes()

    world.spawn(use())


# ---- signals ----


@action()
def handle_signal(world: World) -> None:
    if world.loop.is_running():
        world.loop.add_signal_handler(signal.SIGUSR1, Callback(world))
        world.cleanups.append(lambda: world.loop.remove_signal_handler(signal.SIGUSR1))
        os.kill(os.getpid(), signal.SIGUSR1)


@action()
def signal_in_the_middle(world: World) -> None:
    """A handler that runs wherever the interpreter looks for signals, and acts."""

    def handler(number: int, frame: Any) -> None:
        world.act("signal handler")
        if world.chance(0.05) and not world.ending:
            world.disturbed = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR2, handler)
    if before is signal.SIG_DFL:
        world.cleanups.append(lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))
    signal.raise_signal(signal.SIGUSR2)


# ---- threads ----


@action()
def thread(world: World) -> None:
    if len(world.threads) < THREADS_MAX:
        times = world.dice.randrange(1, 30)
        thread = threading.Thread(target=lambda: [world.call_from_thread() for _ in range(times)])
        world.threads.append(thread)
        thread.start()


@action()
def executor(world: World) -> None:
    world.spawn(asyncio.to_thread(world.call_from_thread))


@action()
def name_lookup(world: World) -> None:
    host = hostile_str(world, world.dice.choice(("127.0.0.1", "localhost", "::1", "a\0b", "")))
    world.spawn(world.loop.getaddrinfo(host, hostile_int(world, 80)))
