"""Children whose pipes are being connected, or outlive them; communicate() cancelled and called again."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import signal
import sys
import weakref
from unittest import mock

import pytest
from children import children, open_descriptors
from peers import turns, until

from hoop.processes import spawn
from hoop.processes.output import OutputReader

PIPE = asyncio.subprocess.PIPE


@pytest.fixture(autouse=True)
def no_child_is_left():
    yield
    assert children() == set()
    assert spawn.count_launches() == 0


# ---- while the pipes are connected -------------------------------------------------------------------


def test_a_program_may_end_at_any_turn_of_making_a_child(run):
    """asyncio waits for ever when its task that connects the pipes is cancelled."""

    async def main(n):
        task = asyncio.create_task(
            asyncio.create_subprocess_exec("sleep", "30", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        )
        await turns(n)
        if not task.done():
            # The last steps of asyncio.run().
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            assert task.cancelled()
            return False
        task.result().kill()
        await task.result().wait()
        return True

    before = open_descriptors()
    n = 0
    while not run(main(n)):
        assert children() == set()
        assert open_descriptors() == before
        n += 1
    assert n > 5


def test_making_a_child_takes_no_task_of_its_own(run):
    async def main():
        making = asyncio.create_task(
            asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        )
        here = asyncio.current_task()
        while not making.done():
            assert asyncio.all_tasks() <= {making, here}
            await asyncio.sleep(0)
        await making.result().communicate()

    run(main())


def test_a_pipe_that_cannot_be_connected_leaves_no_child(run, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        before = open_descriptors()
        make, made = type(loop)._make_read_pipe_transport, []

        def fail_the_second_time(*args, **kwargs):
            if made:
                raise OSError("no more")
            made.append(make(*args, **kwargs))
            return made[0]

        monkeypatch.setattr(type(loop), "_make_read_pipe_transport", fail_the_second_time)
        with pytest.raises(OSError, match="no more"):
            await asyncio.create_subprocess_exec(
                "sleep", "30", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
        assert children() == set()
        await turns(2)
        assert open_descriptors() == before

    run(main())


# ---- a pipe that a grandchild keeps ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "ends"])
def test_waiting_for_a_child_is_not_waiting_for_its_children(run, how):
    script = "sleep 30 & echo $!; " + ("exit 3" if how == "ends" else "wait")

    async def main():
        child = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=PIPE, stderr=PIPE)
        grandchild = int(await child.stdout.readline())
        if how == "killed":
            child.kill()
        waits = await asyncio.wait_for(asyncio.gather(*[child.wait() for _ in range(3)]), 10)
        assert set(waits) == {-signal.SIGKILL if how == "killed" else 3}
        assert await child.wait() == child.returncode
        reading = asyncio.create_task(child.stdout.read())
        await turns(3)
        assert not reading.done()
        os.kill(grandchild, signal.SIGKILL)
        assert await reading == b""
        await until(lambda: child._transport._finished)

    run(main())


def test_the_pipes_of_a_child_that_ended_are_closed_when_it_was_waited_for(run):
    """The program that ends next would leave them to a ResourceWarning."""

    async def main():
        for _ in range(20):
            child = await asyncio.create_subprocess_exec(
                "true", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            assert await child.wait() == 0
            pipes = [child._transport.get_pipe_transport(fd) for fd in range(3)]
            assert all(pipe.is_closing() for pipe in pipes)

    run(main())


def test_a_program_may_end_before_the_grandchild_does(driver, python):
    printed = python(
        f"""
        import asyncio, hoop
        async def main():
            child = await asyncio.create_subprocess_exec(
                "sh", "-c", "sleep 30 & echo $!; wait", stdout=-1, stderr=-1)
            print((await child.stdout.readline()).decode())
            child.kill()
            await child.wait()
        import warnings
        warnings.simplefilter("error")
        hoop.run(main(), loop_factory=lambda: hoop.new_event_loop({driver!r}))
        """
    )
    os.kill(int(printed), signal.SIGKILL)


# ---- communicate(), cancelled and called again -------------------------------------------------------

SPEAKER = """
import os, sys, time
for step in sys.argv[1].split():
    if step.startswith("close"):
        os.close(int(step[-1]))
    elif step == "wait":
        sys.stdin.readline()
    else:
        fd, _, text = step.partition(":")
        os.write(int(fd), text.encode() * 1000)
"""


async def speaker(steps: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPEAKER, steps, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def cancelled_once(child: asyncio.subprocess.Process, condition) -> None:
    """Call communicate(), and cancel that when the condition holds."""
    child._feed_stdin = nothing  # it would close the child's input
    task = asyncio.create_task(child.communicate())
    await until(condition)
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del child._feed_stdin


async def nothing(_):
    return None


CASES = {
    "one has been read in part": ("1:a 2:b wait 1:c 2:d", b"a" * 1000 + b"c" * 1000),
    "one has ended": ("1:a close1 2:b wait 2:d", b"a" * 1000),
    "both have ended": ("1:a close1 2:b 2:d close2 wait", b"a" * 1000),
}


@pytest.mark.parametrize("readers", ["asyncio", "hoop"])
@pytest.mark.parametrize("case", CASES)
def test_communicate_called_again_gives_all(run, monkeypatch, readers, case):
    steps, expected = CASES[case]
    if readers == "hoop":
        import hoop

        monkeypatch.setattr(asyncio.streams, "StreamReader", hoop.StreamReader)

    async def main():
        child = await speaker(steps)
        seen = bytearray()
        protocol = child._protocol
        told, ended = protocol.pipe_data_received, protocol.pipe_connection_lost
        lost = []
        protocol.pipe_data_received = lambda fd, data: (seen.extend(data), told(fd, data))
        protocol.pipe_connection_lost = lambda fd, exc: (lost.append(fd), ended(fd, exc))
        ends = {"one has ended": [1], "both have ended": [1, 2]}.get(case, [])
        full = 3000 if case == "both have ended" else 2000
        await cancelled_once(child, lambda: len(seen) == full and sorted(lost) == ends)
        await cancelled_once(child, lambda: True)
        child.stdin.write(b"\n")
        out, err = await child.communicate()
        assert out == expected
        assert err == b"b" * 1000 + b"d" * 1000

    run(main())


def test_a_read_of_the_users_is_given_once(run):
    async def main():
        child = await asyncio.create_subprocess_exec("echo", "x", stdout=PIPE)
        assert await child.stdout.read() == b"x\n"
        assert await child.stdout.read() == b""
        assert await child.communicate() == (b"", None)
        assert await child.stdout.read() == b""

    run(main())


def test_a_read_to_the_end_that_is_cancelled_has_read_nothing(run):
    async def main():
        child = await speaker("1:a wait 1:b")
        seen = bytearray()
        protocol = child._protocol
        told = protocol.pipe_data_received
        protocol.pipe_data_received = lambda fd, data: (seen.extend(data), told(fd, data))
        reading = asyncio.create_task(child.stdout.read())
        await until(lambda: len(seen) == 1000)
        await turns(3)
        assert child.stdout._buffer == b""
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        child.stdin.write(b"\n")
        assert await child.stdout.read() == b"a" * 1000 + b"b" * 1000
        await child.wait()

    run(main())


def test_readers_of_another_kind_are_left_alone(run):
    class Mine(asyncio.StreamReader):
        pass

    class Protocol(asyncio.subprocess.SubprocessStreamProtocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.stdout = Mine(limit=10, loop=asyncio.get_running_loop())

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: Protocol(100, loop), "true", stdin=None, stderr=None
        )
        assert type(protocol.stdout) is Mine
        await transport._wait()
        await until(lambda: transport._finished)

    run(main())


# ---- a pipe that nobody reads ------------------------------------------------------------------------


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_dropped_child_does_not_keep_the_pipe_that_nobody_read(run):
    """Its reader is full and paused, so nothing in the loop needs it. asyncio closes it as well."""

    async def main():
        before = open_descriptors()
        child = await asyncio.create_subprocess_exec(
            *("head", "-c", "190000", "/dev/zero"), stdout=asyncio.subprocess.PIPE
        )
        await child.wait()
        kept = weakref.ref(child._transport)
        assert kept()._pipes[1].pipe._paused
        del child
        await until(lambda: gc.collect() >= 0 and kept() is None)  # its last calls need some turns
        assert open_descriptors() == before

    run(main())


# ---- the readers of a child's output -----------------------------------------------------------------


def outcome(call):
    """The result of a call, or the class and text of its exception."""
    try:
        return call()
    except Exception as exc:
        return type(exc).__name__, str(exc)


async def outcome_of(coroutine):
    try:
        async with asyncio.timeout(0):
            return await coroutine
    except TimeoutError:
        return "waits"
    except Exception as exc:
        return type(exc).__name__, str(exc), getattr(exc, "partial", None)


class Pausing:
    """A transport that writes down what its reader asks for."""

    def __init__(self):
        self.asked = []

    def pause_reading(self):
        self.asked.append("pause")

    def resume_reading(self):
        self.asked.append("resume")


@pytest.mark.parametrize("seed", range(30))
def test_a_child_s_reader_does_what_asyncio_s_does(run, seed):
    """Random calls on both: the same results, reprs, and requests to the transport."""
    draw = random.Random(seed)

    async def main():
        readers = [cls(limit=8) for cls in (asyncio.StreamReader, OutputReader)]
        transports = [Pausing() for _ in readers]
        for reader, transport in zip(readers, transports, strict=True):
            reader.set_transport(transport)
        for _ in range(60):
            n = draw.choice((0, 1, 3, 5, 8, 30))
            data = draw.choice((b"", b"x", b"ab\n", b"abcdefgh", b"0123456789\n", bytes(20)))
            step = draw.choice(
                (
                    *[lambda r, data=data: r.feed_data(data)] * 4,
                    lambda r, data=data: r.feed_data(bytearray(data)),
                    *[lambda r, n=n: r.read(n)] * 4,
                    lambda r, n=n: r.readexactly(n),
                    lambda r: r.readline(),
                    lambda r: r.at_eof(),
                    lambda r: bytes(r._buffer),
                    *[lambda r: r.feed_eof()] * (draw.random() < 0.1),
                    *[lambda r: r.set_exception(OSError("failed"))] * (draw.random() < 0.05),
                )
            )
            results = []
            for reader, transport in zip(readers, transports, strict=True):
                result = outcome(lambda reader=reader, step=step: step(reader))
                if asyncio.iscoroutine(result):
                    result = await outcome_of(result)
                reprs = re.sub("0x[0-9a-f]+", "", repr(reader)), list(transport.asked)
                results.append((result, *reprs))
            assert results[0] == results[1]
        rest = [await outcome_of(reader.read(100)) for reader in readers]
        assert rest[0] == rest[1]

    run(main())


def test_a_child_s_output_is_not_copied_on_its_way_to_the_task(run):
    async def main():
        reader = OutputReader()
        for n in (100_000, 5):
            data = bytes(n)
            reading = asyncio.ensure_future(reader.read(200_000))
            await turns(1)
            reader.feed_data(data)
            assert await reading is data
        assert await reader_of_a_replaced_method(reader) == b"replaced"

    async def reader_of_a_replaced_method(reader):
        with mock.patch.object(asyncio.StreamReader, "read", replaced):
            return await reader.read(10)

    async def replaced(reader, n=-1):
        return b"replaced"

    run(main())
