"""hoop.StreamReader, fed by hand: every way to read, at the end, with errors, limits and cancellation."""

from __future__ import annotations

import asyncio
import collections
import copy
import gc
import inspect
import random
import re
import sys
import warnings
import weakref

import pytest
from waiters import cancelled, started

import hoop


class FakeTransport:
    """Notes how it is paused and resumed."""

    def __init__(self, can_pause: bool = True) -> None:
        self.can_pause = can_pause
        self.calls: list[str] = []

    def pause_reading(self):
        if not self.can_pause:
            raise NotImplementedError
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")


def fed(*chunks: bytes, eof: bool = True, **options) -> hoop.StreamReader:
    reader = hoop.StreamReader(**options)
    for chunk in chunks:
        reader.feed_data(chunk)
    if eof:
        reader.feed_eof()
    return reader


# ---- what it is ----------------------------------------------------------------------------------


def test_it_passes_for_asyncio_s(run):
    async def main():
        reader = hoop.StreamReader()
        assert isinstance(reader, asyncio.StreamReader)
        assert type(reader) is hoop.StreamReader
        for name in ("read", "readline", "readexactly", "readuntil"):
            assert inspect.iscoroutinefunction(getattr(reader, name)) or sys.version_info < (3, 12)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's, from 3.14 on
                assert asyncio.iscoroutinefunction(getattr(reader, name))
        coro = reader.readuntil(b"x")
        assert asyncio.iscoroutine(coro)
        coro.close()
        reader.anything = 1
        assert vars(reader) == {"anything": 1}
        assert weakref.ref(reader)() is reader
        assert copy.copy(reader)._limit == reader._limit

    run(main())


def test_repr(run):
    async def main():
        reader = fed(b"abc", limit=100)
        assert repr(reader) == "<StreamReader 3 bytes eof limit=100>"
        assert repr(hoop.StreamReader()) == "<StreamReader>"
        reader = hoop.StreamReader()
        reader.set_exception(ValueError("x"))
        assert repr(reader) == "<StreamReader exception=ValueError('x')>"

    run(main())


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(run, limit):
    async def main():
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            hoop.StreamReader(limit=limit)
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            hoop.StreamReader().readline(limit=limit)

    run(main())


@pytest.mark.parametrize("limit", [sys.maxsize, 1 << 80, float("inf")])
def test_a_limit_may_be_as_large_as_one_likes(run, limit):
    async def main():
        reader = fed(b"x" * 300_000, b"\n", limit=limit)
        reader._transport = FakeTransport()
        assert len(await reader.readline()) == 300_001
        assert reader._limit == limit

    run(main())


def test_without_a_loop_it_takes_the_running_one(run):
    async def main():
        assert hoop.StreamReader()._loop is asyncio.get_running_loop()

    run(main())


def test_in_debug_mode_it_knows_where_it_was_made(run):
    async def main():
        assert hoop.StreamReader()._source_traceback[-1].name == "main"

    run(main(), debug=True)


# ---- reading -------------------------------------------------------------------------------------


def test_what_is_there_is_read_without_suspending(run):
    async def main():
        reader = fed(b"one\ntwo\nthree|four;rest", eof=False)
        for coro, result in (
            (reader.read(0), b""),
            (reader.readline(), b"one\n"),
            (reader.read(2), b"tw"),
            (reader.readexactly(2), b"o\n"),
            (reader.readuntil(b"|"), b"three|"),
            (reader.readuntil((b";", b"u")), b"fou"),
            (reader.read(100), b"r;rest"),
        ):
            with pytest.raises(StopIteration) as end:
                coro.send(None)
            assert end.value.value == result

    run(main())


def test_a_packet_that_is_read_whole_is_not_copied(run):
    async def main():
        reader = hoop.StreamReader()
        packet = b"a packet"
        reader.feed_data(packet)
        assert await reader.read(100) is packet
        task, *_ = await started(reader.read(8))
        reader.feed_data(packet)
        assert await task is packet

    run(main())


def test_to_the_end(run):
    async def main():
        reader = hoop.StreamReader(limit=4)
        reader.set_transport(transport := FakeTransport())
        task, *_ = await started(reader.read())
        for n in range(100):
            reader.feed_data(b"%03d" % n)
            if n % 10 == 0:
                await asyncio.sleep(0)
        reader.feed_eof()
        assert await task == b"".join(b"%03d" % n for n in range(100))
        assert transport.calls == []
        assert reader.at_eof()
        assert await reader.read() == b""
        assert await reader.read(5) == b""
        assert await reader.readline() == b""

    run(main())


def test_lines(run):
    async def main():
        reader = hoop.StreamReader()

        async def feed():
            for piece in (b"a", b"b\nc", b"\n\n", b"d"):
                reader.feed_data(piece)
                await asyncio.sleep(0)
            reader.feed_eof()

        task = asyncio.create_task(feed())
        assert [line async for line in reader] == [b"ab\n", b"c\n", b"\n", b"d"]
        await task
        assert reader.at_eof()

    run(main())


def test_exactly(run):
    async def main():
        reader = hoop.StreamReader(limit=1)
        reader.set_transport(FakeTransport())
        task, *_ = await started(reader.readexactly(6))
        waiter = reader._waiter
        for piece in (b"ab", b"cd"):
            reader.feed_data(piece)
            await asyncio.sleep(0)
            assert reader._waiter is waiter  # not woken for less
        reader.feed_data(b"efg")
        assert await task == b"abcdef"
        assert await reader.readexactly(0) == b""
        task, *_ = await started(reader.readexactly(3))
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert (caught.value.partial, caught.value.expected) == (b"g", 3)
        assert reader.at_eof()
        with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
            await reader.readexactly(-1)

    run(main())


@pytest.mark.parametrize("separator", [b"", (), (b"a", b"")])
def test_separators_that_are_none(run, separator):
    async def main():
        with pytest.raises(ValueError, match="Separator should"):
            await fed(b"ab").readuntil(separator)

    run(main())


class Hostile(bytes):
    """Bytes that give themselves back, and lie of what is in them."""

    def __bytes__(self):
        return self

    def __getitem__(self, i):
        return b"xyz"

    def __len__(self):
        return 1000


class HostileTuple(tuple):
    """Separators that are there when asked, and not when counted."""

    def __bool__(self):
        return True

    def __iter__(self):
        return iter(())


def test_a_separator_is_what_its_memory_holds(run):
    async def main():
        assert await fed(b"hello x world").readuntil(Hostile(b"x")) == b"hello x"
        with pytest.raises(ValueError, match="at least one element"):
            await fed(b"hello").readuntil(HostileTuple((b"x",)))

    run(main())


def test_other_separators(run):
    async def main():
        reader = fed(b"one--two==-three", eof=False)
        assert await reader.readuntil(bytearray(b"--")) == b"one--"
        assert await reader.readuntil((memoryview(b"==-"), b"==")) == b"two=="
        for wrong in ("-", 45, [45]):
            with pytest.raises(TypeError, match="integer or bytes-like object"):
                await reader.readuntil(wrong)
        for piece in (b"=", b"+", b"=", b"=+"):
            task, *_ = await started(reader.readuntil((b"==+", b"=+=+")))
            reader.feed_data(piece)
            await asyncio.sleep(0)
            if piece != b"=+":
                assert await cancelled_after(task)
        assert await task == b"-three=+==+"

    run(main())


async def cancelled_after(task) -> bool:
    task.cancel()
    return await cancelled(task)


def test_a_limit_for_one_call(run):
    async def main():
        reader = hoop.StreamReader(limit=4)
        reader.feed_data(b"a longer line\nshort\nan even longer line\n")
        assert await reader.readline(limit=100) == b"a longer line\n"
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(limit=3)
        assert str(caught.value) == "Separator is found, but chunk is longer than limit"
        assert caught.value.consumed == 5
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline(limit=4)
        assert await reader.readuntil(b"even", limit=20) == b"an even"
        with pytest.raises(ValueError, match="Separator is found"):
            await reader.readline()
        task, *_ = await started(reader.readline(limit=7))
        reader.feed_data(b"8 bytes!")
        with pytest.raises(ValueError, match="Separator is not found, and chunk exceed the limit"):
            await task
        assert reader._buffer == b""

    run(main())


def test_an_error_is_raised_by_every_read(run):
    async def main():
        reader = hoop.StreamReader()
        tasks = await started(reader.readuntil())
        error = ValueError("broken")
        reader.set_exception(error)
        assert reader.exception() is error
        assert await asyncio.gather(*tasks, return_exceptions=True) == [error]
        for coro in (reader.read(1), reader.read(), reader.readline(), reader.readexactly(0)):
            with pytest.raises(ValueError, match="broken"):
                await coro

    run(main())


def test_two_cannot_wait(run):
    async def main():
        reader = hoop.StreamReader()
        (task,) = await started(reader.read(1))
        for coro, name in (
            (reader.read(), "read"),
            (reader.readline(), "readuntil"),
            (reader.readexactly(1), "readexactly"),
        ):
            with pytest.raises(RuntimeError, match=rf"{name}\(\) called while another coroutine"):
                await coro
        reader.feed_data(b"x")
        assert await task == b"x"

    run(main())


def test_nobody_feeds_after_the_end(run):
    async def main():
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            fed(b"x").feed_data(b"y")
        reader = hoop.StreamReader()
        reader.set_transport(FakeTransport())
        with pytest.raises(AssertionError, match="Transport already set"):
            reader.set_transport(FakeTransport())

    run(main())


def test_anything_that_a_bytearray_takes_can_be_fed(run):
    async def main():
        reader = hoop.StreamReader()
        source = bytearray(b"abc")
        reader.feed_data(source)
        source[:] = b"xyz"
        reader.feed_data(memoryview(b"def"))
        reader.feed_data([103, 104])
        reader.feed_data(b"")
        with pytest.raises(TypeError):
            reader.feed_data(3)
        with pytest.raises(TypeError):
            reader.feed_data("x")
        assert await reader.read(100) == b"abcdefgh"

    run(main())


def test_numbers(run):
    async def main():
        reader = fed(b"abcdef")
        assert await reader.read(True) == b"a"
        assert await reader.read(n=1) == b"b"
        assert await reader.read(1 << 100) == b"cdef"
        with pytest.raises(TypeError):
            await reader.read("1")
        with pytest.raises(TypeError):
            await reader.readexactly(1.0)

    run(main())


# ---- the buffer ----------------------------------------------------------------------------------


def test_the_buffer_can_be_looked_at_and_changed(run):
    async def main():
        reader = hoop.StreamReader()
        assert reader._buffer == b""
        reader.feed_data(b"0123456789")
        buffer = reader._buffer
        assert type(buffer) is bytearray
        assert await reader.read(2) == b"01"
        assert buffer == b"23456789"
        del buffer[:3]
        assert await reader.readexactly(2) == b"56"
        buffer.clear()
        reader.feed_data(b"more")
        assert buffer == b"more"
        assert reader._buffer is buffer
        assert await reader.read(100) == b"more"
        reader.feed_data(b"again")
        reader._buffer = bytearray(b"something else\n")
        assert await reader.readline() == b"something else\n"

    run(main())


def test_a_buffer_in_the_middle_of_a_packet(run):
    async def main():
        for pieces in ([b"abcdef"], [b"ab", b"cdef"]):
            reader = hoop.StreamReader()
            for piece in pieces:
                reader.feed_data(piece)
            assert await reader.read(1) == b"a"
            assert reader._buffer == b"bcdef"
            assert await reader.read(1) == b"b"
            assert reader._buffer == b"cdef"

    run(main())


def test_much_and_in_small_pieces(run):
    async def main():
        reader = hoop.StreamReader(limit=1 << 20)
        rng = random.Random(1)
        sent, got = bytearray(), bytearray()
        for _ in range(3000):
            piece = rng.randbytes(rng.randrange(1, 200))
            sent += piece
            reader.feed_data(piece)
            n = rng.randrange(1, 200)
            if rng.random() < 0.9 and len(sent) - len(got) >= n:
                got += await reader.readexactly(n)
        reader.feed_eof()
        got += await reader.read()
        assert got == sent

    run(main())


# ---- flow control --------------------------------------------------------------------------------


def test_the_transport_is_paused_and_resumed(run):
    async def main():
        reader = hoop.StreamReader(limit=10)
        reader.set_transport(transport := FakeTransport())
        reader.feed_data(b"x" * 20)
        assert transport.calls == []
        reader.feed_data(b"x")
        assert transport.calls == ["pause"]
        assert reader._paused
        reader.feed_data(b"x" * 50)
        assert transport.calls == ["pause"]
        await reader.read(60)
        assert transport.calls == ["pause"]
        await reader.readexactly(1)
        assert transport.calls == ["pause", "resume"]
        assert not reader._paused

    run(main())


def test_a_read_of_more_than_fits_resumes_it(run):
    async def main():
        reader = hoop.StreamReader(limit=10)
        reader.set_transport(transport := FakeTransport())
        reader.feed_data(b"x" * 30)
        task, *_ = await started(reader.readexactly(100))
        assert transport.calls == ["pause", "resume"]
        reader.feed_data(b"x" * 60)
        assert transport.calls == ["pause", "resume"]  # somebody waits for it
        task.cancel()
        assert await cancelled(task)
        reader.feed_data(b"x" * 9)
        assert transport.calls == ["pause", "resume", "pause"]
        task, *_ = await started(reader.readexactly(100))
        reader.feed_data(b"y")
        assert await task == b"x" * 99 + b"y"

    run(main())


def test_a_transport_that_cannot_be_paused(run):
    async def main():
        reader = hoop.StreamReader(limit=1)
        reader.set_transport(FakeTransport(can_pause=False))
        reader.feed_data(b"x" * 30)
        assert reader._transport is None
        reader.feed_data(b"x" * 30)
        assert len(await reader.read(100)) == 60

    run(main())


# ---- cancellation --------------------------------------------------------------------------------

READS = {
    "read": (lambda reader: reader.read(100), b"ab\n"),
    "read to the end": (lambda reader: reader.read(), b"ab\n"),
    "readline": (lambda reader: reader.readline(), b"ab\n"),
    "readuntil": (lambda reader: reader.readuntil((b"\n", b"|")), b"ab\n"),
    "readexactly": (lambda reader: reader.readexactly(3), b"ab\n"),
    "next": (lambda reader: anext(reader), b"ab\n"),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("when", ["before", "waiting", "part", "woken", "closed"])
def test_a_cancelled_read_has_taken_nothing(run, name, when):
    async def main():
        read, result = READS[name]
        reader = hoop.StreamReader()

        async def task():
            return await read(reader)

        reading = asyncio.create_task(task())
        if when != "before":
            await asyncio.sleep(0)
        if when in ("part", "closed"):
            reader.feed_data(b"a")
            if name != "read":
                await asyncio.sleep(0)
        if when == "woken":
            reader.feed_data(b"ab\n")
            if name == "read to the end":
                reader.feed_eof()
        if when == "closed":
            coro = read(reader)
            if name != "read":
                reading.cancel()
                assert await cancelled(reading)
                assert coro.send(None) is not None
                coro.close()
                reading = asyncio.create_task(task())
        reading.cancel()
        assert await cancelled(reading)
        if when == "closed" and name == "read":
            coro.close()
        assert reader._waiter is None
        if when != "woken":
            reader.feed_data(b"b\n" if when in ("part", "closed") else b"ab\n")
        if not reader._eof:
            reader.feed_eof()
        assert await read(reader) == result
        assert reader.at_eof()

    run(main())


def test_one_that_was_woken_does_not_disturb_the_next(run):
    """asyncio's read() forgets whoever began to wait in the meantime."""

    async def main():
        reader = hoop.StreamReader()
        (first,) = await started(reader.read(10))
        reader.feed_data(b"one")
        assert await reader.read(10) == b"one"  # quicker than the one that was woken
        second = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader.feed_data(b"two")
        assert sorted(await asyncio.gather(first, second)) == [b"", b"two"]

    run(main())


def test_a_reader_that_is_dropped_while_read_is_freed(run):
    async def main():
        reader = hoop.StreamReader()
        (task,) = await started(reader.read(10))
        reader.me = reader
        gone = weakref.ref(reader)
        del reader
        task.cancel()
        assert await cancelled(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

    run(main())


# ---- subclasses ----------------------------------------------------------------------------------


def test_a_subclass_s_methods_are_called(run):
    class Reader(hoop.StreamReader):
        async def readuntil(self, separator=b"\n", **options):
            return b"<" + await super().readuntil(separator, **options) + b">"

    class Lines(hoop.StreamReader):
        async def readline(self):
            return (await super().readline()).upper()

    async def main():
        reader = Reader(limit=4)
        assert type(reader) is reader.__class__ is Reader
        reader.feed_data(b"one\ntwo\nthree\nfour\nrest")
        assert await reader.readline() == b"<one\n>"
        assert await anext(reader) == b"<two\n>"
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer"):
            await reader.readline()
        assert await reader.readline(limit=4) == b"<four\n>"
        reader.feed_eof()
        assert await reader.readline() == b"rest"
        lines = Lines()
        lines.feed_data(b"a\nb\nc")
        lines.feed_eof()
        assert [line async for line in lines] == [b"A\n", b"B\n", b"C"]

    run(main())


def test_what_is_put_on_a_reader_is_called(run):
    async def main():
        reader = hoop.StreamReader()

        async def readuntil(separator=b"\n"):
            return b"mine"

        reader.readuntil = readuntil
        assert await reader.readline() == b"mine"

    run(main())


# ---- like asyncio's ------------------------------------------------------------------------------

PIECES = (b"a", b"bc", b"\n", b"d\n", b"|", b"e|f\nghij", b"k" * 7, b"l" * 25, b"\r", b"\r\n")


def random_script(rng: random.Random) -> list[tuple]:
    """Steps to do with a reader. At most one read waits at any time."""
    script: list[tuple] = []
    for _ in range(rng.randrange(5, 25)):
        separators = [b"\n", b"|", b"\r\n", b"ef|"]
        separator = rng.choice(separators)
        if sys.version_info >= (3, 13) and rng.random() < 0.4:
            separator = tuple(rng.sample(separators, rng.randrange(1, 4)))
        step = rng.choice(
            [
                *[("feed", rng.choice(PIECES))] * 7,
                ("feed and cancel", rng.choice(PIECES)),
                ("cancel",),
                ("read", rng.choice([0, 1, 3, 10, 100])),
                ("readexactly", rng.choice([-1, 0, 1, 3, 10, 40])),
                ("readline",),
                ("readuntil", separator),
                ("__anext__",),
                *([("eof",)] if rng.random() < 0.3 else []),
                *([("error",)] if rng.random() < 0.2 else []),
                *([("look",)] if rng.random() < 0.2 else []),
            ]
        )
        script.append(step)
    return [*script, ("eof",), ("look",), ("read", -1)]


async def outcome(task) -> object:
    try:
        return await task
    except BaseException as exc:
        return type(exc), exc.args, getattr(exc, "consumed", None), type(exc.__context__)


async def play(reader, script: list[tuple]) -> list[object]:
    """Do the steps; return what came of them."""
    task = None
    seen: list[object] = []
    reader.set_transport(FakeTransport())
    for name, *args in script:
        if name == "eof":
            reader.feed_eof()
        elif name == "error":
            reader.set_exception(ValueError("broken"))
        elif name == "look":
            seen.append(bytes(reader._buffer))
        elif name.startswith("feed"):
            if not reader._eof:
                reader.feed_data(*args)
        elif name != "cancel" and task is None:
            task = asyncio.ensure_future(outcome(getattr(reader, name)(*args)))
        if "cancel" in name and task is not None:
            task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        if task is not None and task.done():
            seen.append((name, await task))
            task = None
        seen.append((reader.at_eof(), reader.exception() is None, task is None))
        if task is None and type(reader) is hoop.StreamReader and not reader._eof:
            held = int((re.findall(r"(\d+) bytes", repr(reader)) or [0])[0])
            assert reader._paused or held <= 2 * reader._limit
            assert not reader._paused or held > reader._limit
    assert task is None
    return seen


@pytest.mark.parametrize("seed", range(8))
def test_the_same_script_has_the_same_results(run, seed):
    async def main():
        rng = random.Random(seed)
        results = collections.Counter()
        for _ in range(60):
            script = random_script(rng)
            limit = rng.choice([1, 5, 9, 100])
            ours = await play(hoop.StreamReader(limit), script)
            theirs = await play(asyncio.StreamReader(limit), script)
            assert ours == theirs, script
            results[repr(theirs[-1])] += 1
        assert results

    run(main())


def test_on_asyncio_s_loop_too():
    async def main():
        rng = random.Random(100)
        for _ in range(60):
            script = random_script(rng)
            ours = await play(hoop.StreamReader(9), script)
            theirs = await play(asyncio.StreamReader(9), script)
            assert ours == theirs, script
        reader = hoop.StreamReader()
        (task,) = await started(reader.readline())
        assert type(reader._waiter) is asyncio.Future
        reader.feed_data(b"x\n")
        assert await task == b"x\n"

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_a_future_that_somebody_keeps_is_not_used_again(run):
    async def main():
        reader = hoop.StreamReader()
        kept = []
        for n in range(6):
            (task,) = await started(reader.read(10))
            if n % 2:
                kept.append(reader._waiter)
            assert reader._waiter not in kept[:-1]
            assert not reader._waiter.done()
            reader.feed_data(b"%d" % n)
            assert await task == b"%d" % n
        assert [future.result() for future in kept] == [None] * 3
        assert reader._waiter is None

    run(main())


def test_callbacks_and_cancellation_of_one_wait_are_not_those_of_the_next(run):
    async def main():
        reader = hoop.StreamReader()
        called = []
        for n in range(4):
            (task,) = await started(reader.readexactly(1))
            reader._waiter.add_done_callback(lambda future: called.append(future.cancelled()))
            if n % 2:
                task.cancel()
                assert await cancelled(task)
            else:
                reader.feed_data(b"x")
                await task
        await asyncio.sleep(0)
        assert called == [False, True, False, True]

    run(main())


def test_a_line_longer_than_the_buffer_pauses_once_it_was_refused(run):
    async def main():
        reader = hoop.StreamReader(limit=10)
        reader.set_transport(transport := FakeTransport())
        (task,) = await started(reader.readuntil(b"|"))
        reader.feed_data(b"x" * 30)
        assert transport.calls == []  # the one who waits looks first
        with pytest.raises(asyncio.LimitOverrunError):
            await task
        assert transport.calls == ["pause"]
        (task,) = await started(reader.readuntil(b"|", limit=100))
        assert transport.calls == ["pause", "resume"]
        reader.feed_data(b"x" * 60 + b"|" + b"y" * 30)
        assert await task == b"x" * 90 + b"|"
        assert transport.calls == ["pause", "resume", "pause"]
        assert await reader.read(25) == b"y" * 25
        assert transport.calls == ["pause", "resume", "pause", "resume"]

    run(main())
