"""The same random programs on asyncio's own loop and on hoop: the same events in the same turns.

A failure shows the seed and the first event that differs; `programs.py` says what the events are.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import programs
import pytest

import hoop

SEEDS = 240
GROUPS = 8  # tests, each with its share of the seeds

needs_eager_tasks = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12"
)


@pytest.fixture(autouse=True)
def expected_log(logged):
    """Programs drop exceptions that nobody has seen; that they complain is tested elsewhere."""


def compare(expected_loop, expected_tasks, loop, tasks, group: int) -> None:
    """Run the programs of a group both ways. Garbage is collected between them, not during."""
    gc.disable()
    try:
        for seed in range(group, SEEDS, GROUPS):
            expected = programs.run_program(seed, expected_loop(), expected_tasks)
            gc.collect()
            found = programs.run_program(seed, loop(), tasks)
            gc.collect()
            if expected != found:
                pytest.fail(f"seed {seed}: {first_difference(expected, found)}")
    finally:
        gc.enable()


def first_difference(expected: list, found: list) -> str:
    """Where two lists of events part, with what came before."""
    same = 0
    for a, b in zip(expected, found, strict=False):
        if a != b:
            break
        same += 1
    lines = [f"    {event}" for event in expected[max(0, same - 8) : same]]
    lines += [f"  asyncio {event}" for event in expected[same : same + 2]]
    lines += [f"  hoop    {event}" for event in found[same : same + 2]]
    return "the events differ\n" + "\n".join(lines)


@pytest.fixture(params=range(GROUPS))
def group(request):
    """Which share of the seeds."""
    return request.param


def test_native_tasks(group, new_loop):
    compare(asyncio.new_event_loop, None, new_loop, None, group)


def test_native_tasks_made_by_a_factory(group, new_loop):
    theirs, ours = programs.with_tasks(asyncio.Task), programs.with_tasks(hoop.Task)
    compare(asyncio.new_event_loop, theirs, new_loop, ours, group)


@needs_eager_tasks
def test_eager_native_tasks(group, new_loop):
    theirs = programs.with_tasks(asyncio.Task, eager=True)
    ours = programs.with_tasks(hoop.Task, eager=True)
    compare(asyncio.new_event_loop, theirs, new_loop, ours, group)


def test_asyncios_tasks_on_our_loop(group, new_loop):
    theirs = programs.with_tasks(asyncio.Task)
    compare(asyncio.new_event_loop, theirs, new_loop, theirs, group)


@needs_eager_tasks
def test_asyncios_eager_tasks_on_our_loop(group, new_loop):
    theirs = programs.with_tasks(asyncio.Task, eager=True)
    compare(asyncio.new_event_loop, theirs, new_loop, theirs, group)


def test_our_tasks_on_asyncios_loop(group):
    theirs, ours = programs.with_tasks(asyncio.Task), programs.with_tasks(hoop.Task)
    compare(asyncio.new_event_loop, theirs, asyncio.new_event_loop, ours, group)


@needs_eager_tasks
def test_our_eager_tasks_on_asyncios_loop(group):
    theirs = programs.with_tasks(asyncio.Task, eager=True)
    ours = programs.with_tasks(hoop.Task, eager=True)
    compare(asyncio.new_event_loop, theirs, asyncio.new_event_loop, ours, group)
