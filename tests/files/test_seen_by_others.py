"""Files as audit hooks (PEP 578) and blockbuster see them."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

import hoop
from hoop import files as aiofiles

events: list | None = None


def hook(name, args):
    if events is not None and (name == "open" or name.startswith("os.")):
        events.append((name, args))


@pytest.fixture(scope="module", autouse=True)
def audited():
    """Hooks cannot be taken out again: this one is quiet while nobody listens."""
    sys.addaudithook(hook)


async def seen(operation):
    """The events that an operation raises, stock or ours."""
    global events
    events = []
    try:
        result = operation()
        if hasattr(result, "__await__"):
            await result
        elif hasattr(result, "__aiter__"):
            async for _ in result:
                pass
        return events
    finally:
        events = None


async def close_at_once(opening):
    await (await opening).close()


PAIRS = [
    ("open w", lambda: close_at_once(hoop.open("x", "w")), lambda: open("x", "w").close()),
    ("open rb", lambda: close_at_once(hoop.open(b"x", "rb")), lambda: open(b"x", "rb").close()),
    ("open a+", lambda: close_at_once(hoop.open("x", "a+")), lambda: open("x", "a+").close()),
    (
        "open Path",
        lambda: close_at_once(hoop.Path("x").open()),
        lambda: pathlib.Path("x").open().close(),
    ),
    (
        "opener",
        lambda: close_at_once(hoop.open("x", opener=os.open)),
        lambda: open("x", opener=os.open).close(),
    ),
    (
        "write_bytes",
        lambda: hoop.Path("x").write_bytes(b"1"),
        lambda: pathlib.Path("x").write_bytes(b"1"),
    ),
    ("read_bytes", lambda: hoop.Path("x").read_bytes(), lambda: pathlib.Path("x").read_bytes()),
    ("read again", lambda: hoop.read_bytes("x"), lambda: pathlib.Path("x").read_bytes()),
    ("read_text", lambda: hoop.Path("x").read_text(), lambda: pathlib.Path("x").read_text()),
    ("chmod", lambda: hoop.Path("x").chmod(0o600), lambda: pathlib.Path("x").chmod(0o600)),
    ("mkdir", lambda: hoop.Path("d").mkdir(), lambda: pathlib.Path("d").mkdir()),
    ("rmdir", lambda: hoop.Path("d").rmdir(), lambda: pathlib.Path("d").rmdir()),
    ("mkdir mode", lambda: aiofiles.os.mkdir(b"d", 0o700), lambda: os.mkdir(b"d", 0o700)),
    ("listdir", lambda: aiofiles.os.listdir("d"), lambda: os.listdir("d")),
    ("iterdir", lambda: hoop.Path("d").iterdir(), lambda: list(pathlib.Path("d").iterdir())),
    ("rmdir", lambda: aiofiles.os.rmdir("d"), lambda: os.rmdir("d")),
    ("symlink", lambda: hoop.Path("l").symlink_to("x"), lambda: pathlib.Path("l").symlink_to("x")),
    ("unlink", lambda: hoop.Path("l").unlink(), lambda: pathlib.Path("l").unlink()),
    ("rename", lambda: hoop.Path("x").rename("y"), lambda: pathlib.Path("x").rename("y")),
    ("replace", lambda: aiofiles.os.replace("y", b"x"), lambda: os.replace("y", b"x")),
    ("remove", lambda: aiofiles.os.remove("x"), lambda: os.remove("x")),
    ("missing", lambda: aiofiles.os.remove("x"), lambda: os.remove("x")),
]


def test_audit_hooks_see_what_they_see_of_the_stock_functions(run, tmp_path, monkeypatch):
    folders = [tmp_path / "ours", tmp_path / "theirs"]

    async def main():
        for folder in folders:
            folder.mkdir()
        for name, *operations in PAIRS:
            got = []
            for folder, operation in zip(folders, operations, strict=True):
                monkeypatch.chdir(folder)
                try:
                    got.append(await seen(operation))
                except FileNotFoundError:
                    got.append(FileNotFoundError)
            assert got[0] == got[1], name

    run(main())


def test_an_audit_hook_can_refuse(python, tmp_path):
    (tmp_path / "file").write_text("kept")
    out = python(
        f"""
        import hoop, sys
        def hook(name, args):
            if name in refused:
                raise PermissionError(name)
        refused = ()
        sys.addaudithook(hook)
        async def main():
            global refused
            path = hoop.Path({str(tmp_path / "file")!r})
            await path.read_bytes()
            refused = "open", "os.remove", "os.rename"
            for call in path.read_bytes, path.unlink, lambda: path.rename("x"), path.read_text:
                try:
                    await call()
                except PermissionError as exc:
                    print(exc)
        hoop.run(main())
        """
    )
    assert out.split() == ["open", "os.remove", "os.rename", "open"]


def test_a_tool_that_replaces_ios_methods_does_not_meet_hoops_files(run, tmp_path):
    """blockbuster puts functions that raise into io.TextIOWrapper's own dictionary."""
    blockbuster = pytest.importorskip("blockbuster")
    path = tmp_path / "file"

    async def main():
        with blockbuster.blockbuster_ctx():
            async with hoop.open(path, "w") as f:
                await f.write("line\n" * 100)
                await f.flush()
            async with hoop.open(path) as f:
                assert await f.readline() == "line\n"
                assert await f.read(5) == "line\n"
                assert len([line async for line in f]) == 98
            async with hoop.open(path, "r+") as f:
                f.buffer.asks_cache = False
                assert len(await f.read()) == 500
            assert len(await hoop.read_text(path)) == 500

    run(main())


def test_blockbuster_may_come_before_the_first_file(python):
    """After `import hoop` alone: what the files need of io was taken from it before blockbuster came."""
    pytest.importorskip("blockbuster")
    printed = python(
        """
        import hoop
        from blockbuster import blockbuster_ctx
        async def main():
            async with hoop.open("/etc/hostname") as file:
                print(type(await file.read()).__name__)
        with blockbuster_ctx():
            hoop.run(main())
        """
    )
    assert printed == "str\n"
