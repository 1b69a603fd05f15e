"""Runs one program with asyncio's functions and with hoop's, on both loops, and compares all that it notes.

A program is `async def program(api, note)`. `api` has the functions under test: asyncio's or hoop's. The
program notes what it sees. A clock that only `api.advance()` moves makes timers deterministic.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import types
from collections.abc import Callable
from typing import Any

import hoop

NAMES = [
    name
    for name in (
        *("Timeout", "timeout", "timeout_at", "TaskGroup"),
        *("gather", "shield", "wait", "wait_for", "as_completed"),
    )
    if getattr(hoop, name) is not getattr(asyncio, name)
]
STOCK = {name: getattr(asyncio, name) for name in NAMES}
OURS = {name: getattr(hoop, name) for name in NAMES}
TURNS_MAX = 60


def describe(exc: BaseException | None, seen: tuple[int, ...] = ()) -> Any:
    """An exception with all that hangs on it, as something that can be compared."""
    if exc is None:
        return None
    if id(exc) in seen:
        return "..."
    seen = (*seen, id(exc))
    facts: list[Any] = [type(exc).__name__, [repr(a) for a in exc.args[:1]]]
    if isinstance(exc, BaseExceptionGroup):
        facts.append([describe(one, seen) for one in exc.exceptions])
    for name in ("__cause__", "__context__"):
        if getattr(exc, name) is not None:
            facts.append((name, describe(getattr(exc, name), seen)))
    facts.append(exc.__suppress_context__)
    return facts


def end_of(future: asyncio.Future[Any]) -> Any:
    """How a future has ended, or that it has not."""
    if not future.done():
        return "pending"
    try:
        return ("result", future.result())
    except BaseException as exc:
        return describe(exc)


class Seen(list):
    """The facts that a program notes."""

    def note(self, *facts: Any) -> None:
        self.append(facts)


def play(make_loop: Callable[[], Any], functions: dict[str, Any], program: Any, cancel_at: Any):
    """Run a program, and cancel it at the beginning of some turns. Returns what there was to see."""
    seen = Seen()
    now = [1000.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    api = types.SimpleNamespace(**functions, advance=advance)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda loop, context: seen.note(
                "handler", context["message"][:20], describe(context.get("exception"))
            )
        )
        task = loop.create_task(program(api, seen.note))
        turn = 0
        while not task.done() and turn < TURNS_MAX:
            if turn in cancel_at:
                seen.note("cancel", task.cancel(f"at {turn}"))
            await asyncio.sleep(0)
            turn += 1
        seen.note("turns", turn)
        seen.note("end", end_of(task), task.cancelling())
        for left in asyncio.all_tasks() - {asyncio.current_task()}:
            left.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop = make_loop()
    gc.disable()  # its finalizers would note something now and then
    try:
        loop.time = lambda: now[0]
        loop.run_until_complete(main())
    finally:
        loop.close()
        gc.enable()
    return in_order(seen)


def in_order(facts: list[Any]) -> list[Any]:
    """Sort neighbours that are cancellations: a group cancels its tasks in no particular order."""
    grouped = itertools.groupby(facts, lambda fact: "cancelled" in fact[1:2])
    return [f for same, some in grouped for f in (sorted(some, key=repr) if same else some)]


def compare(
    new_loop: Callable[[], Any], program: Any, cancel_at: tuple[int, ...] = ()
) -> list[Any]:
    """Play a program in all four ways. All have to see the same."""
    expected = play(asyncio.new_event_loop, STOCK, program, cancel_at)
    for make, functions in itertools.product((new_loop, asyncio.new_event_loop), (OURS, STOCK)):
        found = play(make, functions, program, cancel_at)
        assert found == expected, (make, functions is OURS)
    return expected


def compare_everywhere(new_loop: Callable[[], Any], program: Any) -> None:
    """Compare without a cancellation, with one in each turn, and with another in a later turn."""
    facts = compare(new_loop, program)
    (turns,) = [fact[1] for fact in facts if fact[0] == "turns"]
    assert turns < TURNS_MAX
    for first in range(turns + 1):
        compare(new_loop, program, (first,))
        for second in range(first + 1, min(first + 3, turns + 1)):
            compare(new_loop, program, (first, second))
