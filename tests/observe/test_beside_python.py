"""Python 3.14 has `python -m asyncio pstree PID` and `ps PID`: of a process on hoop, neither side crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 has these commands")

PROGRAM = """
    import _asyncio, asyncio, os, sys
    import hoop

    async def wait_for_ever():
        await asyncio.sleep(1000)

    async def churn():
        while True:
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(asyncio.sleep(0))

    async def main():
        loop = asyncio.get_running_loop()
        theirs = _asyncio.Task(wait_for_ever(), loop=loop, name="theirs")
        ours = loop.create_task(wait_for_ever(), name="ours")
        churning = loop.create_task(churn())
        asked = asyncio.Event()
        loop.add_reader(0, asked.set)
        print("ready", flush=True)
        await asked.wait()
        for task in (ours, theirs, churning):
            task.cancel()
        await asyncio.gather(ours, theirs, churning, return_exceptions=True)

    hoop.run(main(), loop_factory=lambda: hoop.new_event_loop(sys.argv[1]))
    """


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python as a command."""
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=30, check=False
    )


def test_pstree_and_ps(driver, tmp_path, monkeypatch):
    """They know the layout of asyncio's own tasks alone. `hoop tree` shows all."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), driver],
        env={**os.environ, "HOOP_OBSERVE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    pid = str(child.pid)
    looks = [command("asyncio", name, pid) for _ in range(3) for name in ("pstree", "ps")]
    ours = command("hoop", "tree", pid)
    _, errors = child.communicate("\n")
    assert (child.returncode, errors) == (0, "")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout.count("wait_for_ever") == 2
    for look in looks:
        assert look.returncode >= 0, look.stderr
        if "ermission" in look.stderr:
            pytest.skip("this user may not look into other processes")
        assert (
            look.returncode or "wait_for_ever" in look.stdout
        )  # a look at a moment of change fails
        assert "churn" not in look.stdout
