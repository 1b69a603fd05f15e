"""Messages about dropped tasks and futures: from a finaliser, and when the interpreter ends."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

LEFT_PENDING = """
    import asyncio, builtins, logging, sys

    async def wait():
        await asyncio.get_running_loop().create_future()

    async def wait_long():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0)

    if sys.argv[2] == "asyncio":
        loop = asyncio.new_event_loop()
    else:
        import hoop
        loop = hoop.new_event_loop(sys.argv[2])
    keep = sys.argv[1]
    tasks = [loop.create_task(wait_long() if keep == "finally" else wait()) for _ in range(5)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    if keep == "no task":
        del tasks
    if keep == "loop in sys":
        sys.keep = loop
    if keep == "tasks in sys":
        sys.keep = tasks
    if keep == "both in sys":
        sys.keep = loop, tasks
    if keep == "loop in builtins":
        builtins.keep = loop
    if keep == "loop in asyncio":
        asyncio.keep = loop
    if keep == "loop in logging":
        logging.keep = loop
    if keep == "loop in a thread":
        import threading, time
        threading.Thread(target=loop.run_forever, daemon=True).start()
        while not loop.is_running():
            time.sleep(0.001)
"""

KEPT = [
    "all",
    "finally",
    "no task",
    "loop in sys",
    "tasks in sys",
    "both in sys",
    "loop in builtins",
    "loop in asyncio",
    "loop in logging",
    "loop in a thread",
]


def said(kept: str, loop: str) -> Counter[str]:
    """The standard error of a program that leaves tasks pending, without addresses."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LEFT_PENDING), kept, loop],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    lines = [re.sub(" at 0x[0-9a-f]+", "", line) for line in done.stderr.splitlines()]
    return Counter(line for line in lines if not line.startswith(("task:", " ", "Traceback")))


@pytest.mark.parametrize("kept", KEPT)
def test_tasks_pending_at_exit_say_what_they_say_on_asyncio(driver, kept):
    assert said(kept, driver) == said(kept, "asyncio")


def test_an_endless_chain_of_tasks_does_not_keep_the_interpreter_from_its_exit(driver, python):
    python(
        f"""
        import asyncio, hoop, sys
        loop = sys.keep = hoop.new_event_loop({driver!r})

        async def again():
            try:
                await asyncio.sleep(100)
            finally:
                loop.create_task(again())
        loop.create_task(again())
        loop.call_soon(loop.stop)
        loop.run_forever()
        """
    )


# ---- an exception handler that raises ---------------------------------------------------------------


@pytest.fixture
def unraisable(monkeypatch):
    """The events of sys.unraisablehook; sys.excepthook must see none."""
    told: list[tuple[type, str]] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda what: told.append((what.exc_type, what.object.__name__))
    )
    monkeypatch.setattr(sys, "excepthook", lambda *args: told.append((args[0], "excepthook")))
    return told


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("what", ["task", "future", "pending"])
def test_what_the_handler_raises_in_a_finaliser_goes_to_the_unraisable_hook(
    loop, unraisable, error, what
):
    def handler(loop, context):
        raise error

    async def fail():
        raise ZeroDivisionError

    async def wait():
        await loop.create_future()

    async def main():
        if what == "task":
            loop.create_task(fail())
            await asyncio.sleep(0)
        elif what == "future":
            future = loop.create_future()
            future.set_exception(ZeroDivisionError())
            del future
        else:
            loop.create_task(wait())
            await asyncio.sleep(0)
            loop._let_go_of_tasks()
        gc.collect()
        return "went on"

    loop.set_exception_handler(handler)
    assert loop.run_until_complete(main()) == "went on"
    assert unraisable == [(error, "call_exception_handler")]
