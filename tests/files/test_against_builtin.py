"""Operations on hoop's files give the same as on the builtin's: results, exceptions, content.

Sequences of operations are drawn at random, with the seed in the test's name. They are done to two files of
the same content, one opened by io.open(), one by hoop.open(). Each sequence runs with data from the kernel's
cache and, `cold`, with every read made by an op.
"""

from __future__ import annotations

import functools
import io
import os
import random
import sys

import pytest

import hoop

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1", "ascii", "shift_jis"]
ENDS = ["\n", "\r", "\r\n", "\n\r", ""]
ALPHABET = "abc xyz 0123 éßñ 日本語 🎈 "


@functools.cache
def letters_of(letters: str) -> str:
    """Many of these letters in a random order, of which lines are cut: drawing each anew takes long."""
    return "".join(random.Random(letters).choices(letters, k=1 << 18))


def random_text(rng: random.Random, encoding: str, n: int) -> str:
    if encoding in ("latin-1", "ascii", "shift_jis"):
        letters = "abc xyz 0123 " + ("éßñ" if encoding == "latin-1" else "")
        letters += "日本語" if encoding == "shift_jis" else ""
    else:
        letters = ALPHABET
    many = letters_of(letters)
    lines = []
    for _ in range(n):
        length = rng.choice([0, 1, 5, 80, rng.randrange(300)])
        if rng.random() < 0.01:
            length = 20000
        at = rng.randrange(len(many) - length)
        lines.append(many[at : at + length] + rng.choice(ENDS))
    return "".join(lines)


async def outcome(call, *args):
    """The outcome of an operation: its result or its exception."""
    try:
        result = call(*args)
        if hasattr(result, "__await__"):
            result = await result
    except StopAsyncIteration:
        return "end"
    except Exception as exc:
        return type(exc), str(exc), getattr(exc, "errno", None)
    return bytes(result) if isinstance(result, (bytearray, memoryview)) else result


def binary_operation(rng: random.Random, size: int):
    n = rng.choice([0, 1, 7, 100, 4096, 10000, 70000])
    blob = rng.randbytes(rng.choice([0, 1, 10, 5000, 40000]))
    return rng.choice(
        [
            ("read", n),
            ("read", n),
            ("read", -1),
            ("read",),
            ("read", -7),
            ("readline",),
            ("readline",),
            ("readline", n),
            ("readlines",),
            ("readlines", n),
            ("readinto", n),
            ("seek", rng.randrange(size + 100)),
            ("seek", rng.randrange(size + 100)),
            ("seek", -min(n, size), 2),
            ("seek", n, 1),
            ("seek", -3),
            ("seek", 0, 9),
            ("seek", n, os.SEEK_DATA),
            ("seek", n, os.SEEK_HOLE),
            ("tell",),
            ("tell",),
            ("write", blob),
            ("write", blob),
            ("write", "text"),
            ("writelines", [blob, b"x"]),
            ("flush",),
            ("truncate",),
            ("truncate", rng.randrange(size + 100)),
        ]
    )


def text_operation(rng: random.Random, size: int, told: int):
    n = rng.choice([0, 1, 7, 100, 4096, 10000, 70000])
    text = random_text(rng, "ascii", rng.choice([0, 1, 3, 100]))
    return rng.choice(
        [
            ("read", n),
            ("read", n),
            ("read",),
            ("read", None),
            ("readline",),
            ("readline",),
            ("readline",),
            ("readline", n),
            ("tell",),
            ("tell",),
            ("tell",),
            ("seek", told),
            ("seek", told),
            ("seek", 0),
            ("seek", 0, 2),
            ("seek", 5, 1),
            ("seek", 0, 1),
            ("seek", -3),
            ("write", text),
            ("write", text),
            ("write", b"bytes"),
            ("writelines", [text, "x"]),
            ("flush",),
            ("truncate",),
            ("truncate", rng.randrange(size + 100)),
        ]
    )


async def do(f, name, *args):
    if name == "readinto":
        target = bytearray(args[0])
        got = await outcome(f.readinto, target)
        return got, bytes(target)
    return await outcome(getattr(f, name), *args)


async def compare(folder, content, mode, options, operations, cold):
    """Do the same to both files; return how many operations were done."""
    ours, theirs = folder / "ours", folder / "theirs"
    for path in (ours, theirs):
        path.write_bytes(content)
        if "x" in mode:
            path.unlink()
    done = 0
    with open(theirs, mode, **options) as g:
        async with hoop.open(ours, mode, **options) as f:
            if cold:
                f.buffer.asks_cache = False
            told = 0
            while True:
                try:
                    operation = operations.send((len(content), told) if done else None)
                except StopIteration:
                    break
                expected = await do(g, *operation)
                assert await do(f, *operation) == expected, operation
                if operation[0] == "tell" and isinstance(expected, int):
                    told = expected
                if "b" not in mode:
                    assert f.newlines == g.newlines, operation
                done += 1
    assert ours.read_bytes() == theirs.read_bytes()
    assert f.closed
    assert await do(f, "flush") == await do(g, "flush")
    return done


# Before Python 3.13 the builtin's text files lose their way when they are read right after a write.
FLUSHED = sys.version_info < (3, 13)


def drawn(rng: random.Random, draw, count: int, **first):
    where = tuple(first.values())
    for _ in range(count):
        operation = draw(rng, *where)
        size_and_told = yield operation
        if FLUSHED and operation[0].startswith("write"):
            size_and_told = yield ("flush",)
        where = size_and_told[: len(where)]


@pytest.mark.parametrize("cold", [False, True], ids=["cached", "cold"])
@pytest.mark.parametrize("mode", ["rb", "rb+", "wb", "wb+", "ab", "ab+", "xb"])
def test_binary_files_do_what_the_builtins_do(run, tmp_path, mode, cold):
    for seed in range(6):
        rng = random.Random(f"{mode} {seed}")
        content = b"".join(
            rng.randbytes(rng.randrange(200)) + b"\n" for _ in range(rng.choice([0, 1, 30, 3000]))
        )
        options = {"buffering": rng.choice([-1, -1, 2, 100, 8192])}
        operations = drawn(rng, binary_operation, 40, size=len(content))
        assert run(compare(tmp_path, content, mode, options, operations, cold)) > 10, seed


def test_a_seek_that_makes_no_sense_sends_nothing(run, tmp_path):
    def operations():
        yield ("write", b"x")
        yield ("seek", 3)
        yield ("write", b"yz")
        yield ("seek", 0, 9)
        yield ("tell",)  # of a file that is appended to, this depends on what was sent
        yield ("flush",)
        yield ("tell",)

    assert run(compare(tmp_path, b"content", "ab+", {}, operations(), False)) == 7


@pytest.mark.parametrize("cold", [False, True], ids=["cached", "cold"])
@pytest.mark.parametrize("mode", ["r", "r+", "w", "w+", "a", "a+", "x"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_files_do_what_the_builtins_do(run, tmp_path, mode, encoding, cold):
    for seed in range(2):
        rng = random.Random(f"{mode} {encoding} {seed}")
        content = random_text(rng, encoding, rng.choice([0, 1, 30, 2000])).encode(encoding)
        errors = rng.choice(["strict", "replace", "ignore", "surrogateescape"])
        if errors != "strict" and rng.random() < 0.5:
            at = rng.randrange(len(content) + 1)
            content = content[:at] + b"\xff\xfe\x80" + content[at:]
        options = {
            "encoding": encoding,
            "errors": errors,
            "newline": rng.choice([None, "", "\n", "\r", "\r\n"]),
            "buffering": rng.choice([-1, -1, 1, 100]),
        }
        operations = drawn(rng, text_operation, 30, size=len(content), told=0)
        assert run(compare(tmp_path, content, mode, options, operations, cold)) > 10, seed


@pytest.mark.parametrize("cold", [False, True], ids=["cached", "cold"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"], ids=repr)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_async_for_gives_the_lines_of_for(run, tmp_path, encoding, newline, cold):
    rng = random.Random(f"{encoding} {newline}")
    path = tmp_path / "lines"
    path.write_bytes(random_text(rng, encoding, 4000).encode(encoding))

    async def lines():
        async with hoop.open(path, encoding=encoding, newline=newline) as f:
            if cold:
                f.buffer.asks_cache = False
            return [line async for line in f], f.newlines

    with open(path, encoding=encoding, newline=newline) as g:
        expected = list(g)
    assert run(lines()) == (expected, g.newlines)


@pytest.mark.parametrize("cold", [False, True], ids=["cached", "cold"])
def test_async_for_gives_lines_of_bytes(run, tmp_path, cold):
    path = tmp_path / "lines"
    rng = random.Random(1)
    path.write_bytes(
        b"".join(b"x" * rng.choice([0, 10, 300000]) + b"\r\n" for _ in range(20)) + b"end"
    )

    async def lines():
        async with hoop.open(path, "rb") as f:
            if cold:
                f.buffer.asks_cache = False
            return [line async for line in f]

    with open(path, "rb") as g:
        assert run(lines()) == list(g)


# ---- arguments and errors -----------------------------------------------------------------------------

WRONG_ARGUMENTS = [
    ("r+w",),
    ("",),
    ("b",),
    ("rw",),
    ("rbt",),
    ("rr",),
    ("q",),
    ("U",),
    (7,),
    ("r", 0),
    ("rb", -1, "utf-8"),
    ("rb", -1, None, "strict"),
    ("rb", -1, None, None, "\n"),
    ("r", "x"),
    ("r", -1, "no-such-encoding"),
    ("r", -1, None, None, "x"),
    ("r", -1, 5),
]


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=repr)
def test_wrong_arguments_raise_what_open_raises(run, tmp_path, arguments):
    path = tmp_path / "file"
    path.write_text("x")

    async def ours():
        async with hoop.open(path, *arguments) as f:
            await f.read()

    def theirs():
        with open(path, *arguments) as f:
            f.read()

    with pytest.raises(Exception) as expected:  # noqa: PT011
        theirs()
    with pytest.raises(expected.type) as raised:
        run(ours())
    assert str(raised.value) == str(expected.value)


def wrong_files(folder):
    (folder / "file").write_text("x")
    (folder / "loop").symlink_to("loop")
    return [
        (folder, "r"),
        (folder, "wb"),
        (folder / "missing", "r"),
        (folder / "missing" / "x", "w"),
        (folder / "file" / "below", "r"),
        (folder / "file", "x"),
        (folder / "loop", "rb"),
        (folder / ("n" * 300), "r"),
        (str(folder) + "/nul\0byte", "r"),
        ("", "r"),
        (b"", "rb"),
        (987654, "r"),
        (-1, "r"),
        (1.5, "r"),
        (None, "r"),
        (object(), "r"),
    ]


@pytest.mark.parametrize("i", range(16))
@pytest.mark.parametrize("again", [False, True], ids=["", "known-folder"])
def test_what_cannot_be_opened_raises_what_open_raises(run, tmp_path, i, again):
    path, mode = wrong_files(tmp_path)[i]

    async def ours():
        if again:
            async with hoop.open(tmp_path / "file"):
                pass
        await hoop.open(path, mode)

    with pytest.raises(Exception) as expected:  # noqa: PT011
        open(path, mode)  # noqa: SIM115
    with pytest.raises(expected.type) as raised:
        run(ours())
    told, meant = raised.value, expected.value
    if not isinstance(meant, TypeError):
        assert str(told) == str(meant)
    assert getattr(told, "errno", None) == getattr(meant, "errno", None)
    assert getattr(told, "filename", None) == getattr(meant, "filename", None)


READING = [("read",), ("read", 1), ("readline",), ("readlines",), ("tell",), ("seek", 0)]
WRITING = [("write", b"x"), ("writelines", [b"x"]), ("truncate",), ("flush",)]
ASKING = [("fileno",), ("isatty",), ("readable",), ("writable",), ("seekable",)]
BYTES = [("read1",), ("readinto", 1), ("peek",)]


@pytest.mark.parametrize("mode", ["rb", "wb", "r", "w"])
def test_operations_the_mode_does_not_allow_raise_what_the_builtin_raises(run, tmp_path, mode):
    async def both(closed):
        path = tmp_path / "file"
        path.write_text("some text")
        g = open(path, mode)  # noqa: SIM115
        f = await hoop.open(path, mode)
        if closed:
            g.close()
            await f.close()
        operations = [*READING, *WRITING, *ASKING]
        if mode == "rb":
            operations += BYTES
        for operation in operations:
            if operation[0].startswith("write") and "b" not in mode:
                operation = (operation[0], "x" if operation[0] == "write" else ["x"])
            expected = await do(g, *operation)
            if operation[0] == "fileno" and not closed:
                continue
            assert await do(f, *operation) == expected, operation
        g.close()
        await f.close()

    run(both(closed=False))
    run(both(closed=True))


def test_unsupported_is_the_builtins_exception(run, tmp_path):
    (tmp_path / "file").touch()

    async def write_to_a_reader():
        async with hoop.open(tmp_path / "file") as f:
            with pytest.raises(io.UnsupportedOperation, match="not writable"):
                await f.write("x")

    run(write_to_a_reader())
