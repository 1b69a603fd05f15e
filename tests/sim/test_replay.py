"""A seed decides everything: the same trace in another process, with other hashes, on another Python."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import hoop
import hoop.sim
from hoop.sim.search.exploring import Exploration
from hoop.sim.settings import Settings

PROGRAM = Path(__file__).parent / "traced.py"


def traced(order: str, hashing: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hashing}
    command = [sys.executable, str(PROGRAM), order]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


# The sum of each order's trace. If you change the steps that hoop takes, take the new sums from the failures.
# No version of Python may change them.
SUMS = {
    "fifo": 2221366321,
    "wakes": 1198076784,
    "starts": 2999761794,
    "single": 256967691,
    "pct": 2731383501,
}


@pytest.mark.parametrize("order", SUMS)
def test_the_same_seed_gives_the_same_trace_in_each_process_and_python(order):
    first = traced(order, "1")
    assert first == traced(order, "2")
    assert zlib.crc32(first.encode()) == SUMS[order]


async def sets_of_tasks() -> None:
    """Cancels tasks in the order of a set."""

    async def wait() -> None:
        await asyncio.sleep(100)

    tasks = {asyncio.create_task(wait()) for _ in range(20)}
    await asyncio.sleep(1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_sets_of_tasks_have_the_same_order_each_time():
    Exploration(sets_of_tasks, Settings(), range(20)).run()
    kept = []
    for seed in range(20):
        traces: list[list[str]] = [[], []]
        for trace in traces:
            kept.append([object() for _ in range(seed * 7)])  # other addresses for the tasks
            hoop.sim.run(sets_of_tasks, seed=seed, trace=trace)
        assert traces[0] == traces[1]


def test_other_seeds_give_other_traces():
    traces = set()
    for seed in range(10):
        trace: list[str] = []
        hoop.sim.run(sets_of_tasks, seed=seed, trace=trace)
        traces.add(tuple(trace))
    assert len(traces) == 10


def test_a_run_that_differs_is_reported_with_the_place():
    runs = []

    async def main() -> None:
        runs.append(1)
        await asyncio.sleep(1)
        await asyncio.sleep(len(runs))

    with pytest.raises(hoop.sim.NotDeterministic) as caught:
        hoop.sim.explore(main, seeds=3)
    text = str(caught.value)
    assert "seed 0 ran in two ways" in text
    assert "both:   1000000001 step Task-1" in text
    assert "first:  2000000002 timer" in text
    assert "second: 3000000002 timer" in text


def test_a_run_that_ends_in_another_way_is_reported():
    runs = []

    async def main() -> None:
        runs.append(1)
        assert len(runs) != 2, "the second run"

    with pytest.raises(hoop.sim.NotDeterministic, match="second: AssertionError: the second run"):
        hoop.sim.explore(main, seeds=1)


def test_all_seeds_run_and_the_first_that_failed_is_told():
    async def main() -> None:
        order = []

        async def note(name: str) -> None:
            await asyncio.sleep(1)
            order.append(name)

        await asyncio.gather(note("a"), note("b"))
        assert order == ["a", "b"]

    with pytest.raises(AssertionError) as caught:
        hoop.sim.explore(main, seeds=20)
    (note,) = caught.value.__notes__
    assert "of 20 seeds" in note
    seed = int(note.split()[2])
    with pytest.raises(AssertionError):
        hoop.sim.run(main, seed=seed)
    for passed in range(seed):
        hoop.sim.run(main, seed=passed)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_leaves_the_loop_ends_the_exploration(leaving):
    runs = []

    async def main() -> None:
        runs.append(1)
        if len(runs) == 5:
            raise leaving

    with pytest.raises(leaving) as caught:
        hoop.sim.explore(main, seeds=20)
    assert caught.value.__notes__ == ["sim: seed 2 ended so"]
    assert len(runs) == 5


def test_a_run_that_is_cancelled_is_a_failure():
    async def main() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError) as caught:
        hoop.sim.explore(main, seeds=5)
    assert "5 of 5 seeds" in caught.value.__notes__[0]


def test_seeds_may_be_given_one_by_one():
    seen = []

    async def main() -> None:
        seen.append(hoop.sim.now())

    hoop.sim.explore(main, seeds=[5, 5, 9])
    assert seen == [0.0] * 5  # the first runs twice more


class OwnProtocol(asyncio.Protocol):
    pass


@pytest.mark.parametrize("seed", [1, 2])
def test_a_set_of_protocols_is_ordered_by_the_seed(seed):
    kept = []  # so that no address comes again

    async def main():
        made = [OwnProtocol() for _ in range(50)]
        kept.append(made)
        slotted = asyncio.Protocol()  # nobody can refer to it weakly
        assert slotted in {slotted}
        return [made.index(each) for each in set(made)]

    first, again, other = (hoop.sim.run(main, seed=number) for number in (seed, seed, seed + 2))
    assert first == again != other


def test_files_of_the_real_disk_are_read_alike_whether_they_are_cached_or_not(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))

    async def read():
        assert len(await hoop.read_bytes(path)) == 100_000
        async with hoop.open(path, "rb") as file:
            assert await hoop.pread(file.fileno(), 1, 5) == b"\0"
            assert len(await file.read(10)) == 10
            assert len(await file.read()) == 99_990

    async def main():
        await asyncio.gather(read(), read())

    traces: list[list[str]] = [[], [], []]
    for trace in traces:
        hoop.sim.run(main, seed=1, trace=trace)
        hoop.run(read())  # a real loop takes what is cached
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if trace is traces[1]:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert traces[0] == traces[1] == traces[2]


# ---- sets of a program's own objects -------------------------------------------------------------------


class Scope:
    """Has no weak references, as the scopes of anyio."""

    __slots__ = ("name",)


class Node:
    """Takes weak references, and may be part of a cycle."""

    __slots__ = ("__weakref__", "other")


class Leaf:
    """Has no weak references, and may be part of a cycle."""

    __slots__ = ("name", "other")


class Last:
    """Hashes itself in its finalizer."""

    __slots__ = ("__weakref__", "other")

    def __del__(self) -> None:
        hash(self)


class Hashing:
    """Hashes an object in its finalizer."""

    def __init__(self, other: Node | Leaf | Last) -> None:
        self.other = other
        other.other = self

    def __del__(self) -> None:
        hash(self.other)


class Itself(type):
    """Makes classes that are their own class, as h11 does."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        made = super().__new__(cls, name, bases, members)
        if bases:
            made.__class__ = made
        return made


async def sets_of_objects() -> list[list[str]]:
    """The names of objects in the order of sets that have them."""

    class Job:
        name: str

    class Task:
        name: str

        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = object.__hash__

    orders = []
    for cls in (Scope, Job, Task, asyncio.DatagramProtocol):
        objects: list[Any] = [cls() for _ in range(10)]
        names = {id(one): f"{n}" for n, one in enumerate(objects)}
        orders.append([names[id(one)] for one in set(objects)])
    return orders


@pytest.mark.parametrize("order", ["fifo", "wakes"])
def test_sets_of_objects_have_the_same_order_each_time(order):
    kept = []
    for seed in range(5):
        first = hoop.sim.run(sets_of_objects, seed=seed, order=order)
        kept.append([Scope() for _ in range(seed * 7 + 1)])  # other addresses for the objects
        assert hoop.sim.run(sets_of_objects, seed=seed, order=order) == first


def test_sets_of_objects_have_another_order_in_each_seed():
    assert len({str(hoop.sim.run(sets_of_objects, seed=seed)) for seed in range(5)}) == 5


class Early:
    """Has an object before the first run."""


class Late:
    """Has none."""


HASHES = """
import asyncio, gc, sys
sys.path.insert(0, sys.argv[1])
from test_replay import Early, Itself, Late, Scope

early, late, slotted = Early(), [], []
found = {early: 1}
if sys.argv[2] == "frozen":
    gc.freeze()

import hoop.sim

async def main():
    class Local(Early):
        pass

    itself = Itself("Me", (Itself,), {})
    made = [Early(), Scope(), Local(), Late(), object(), itself, asyncio.Task, asyncio.Future()]
    numbers = [hash(one) for one in made]
    assert found[early] == 1
    for one in late + slotted:
        assert found[one] == 2
    late.append(made[2])
    slotted.append(made[1])
    found.update({made[1]: 2, made[2]: 2, itself: 3})
    await asyncio.sleep(1)
    assert [hash(one) for one in made] == numbers
    assert found[itself] == 3
    assert object.__hash__(early) == hash(early)

for seed in range(3):
    hoop.sim.run(main, seed=seed)
    one, other = Scope(), Late()  # these get their hashes outside of a run
    late.append(other)
    slotted.append(one)
    found.update({one: 2, other: 2})
    for one in late + slotted:
        assert found[one] == 2
assert found[early] == 1
print("done")
"""


@pytest.mark.parametrize("heap", ["usual", "frozen"])
def test_an_object_keeps_its_hash_in_and_outside_of_runs(heap):
    command = [sys.executable, "-c", HASHES, str(Path(__file__).parent), heap]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="asan keeps freed memory")
def test_an_object_gets_a_hash_of_its_own_where_another_one_has_died():
    addresses, numbers = set(), []

    def made() -> Scope:
        one = Scope()
        addresses.add(id(one))
        numbers.append(hash(one))
        return one

    async def main() -> None:
        while len(addresses) == len(numbers) < 10_000:
            with contextlib.suppress(TypeError):
                int(made())  # it dies when this exception is on its way

    hoop.sim.run(main)
    assert len(addresses) < len(numbers) == len(set(numbers))


@pytest.mark.parametrize("cls", [Node, Leaf, Last])
def test_an_object_that_a_finalizer_hashed_leaves_no_hash_behind(cls):
    async def main() -> list[int]:
        objects = [cls() for _ in range(100)]
        names = {id(one): n for n, one in enumerate(objects)}
        return [names[id(one)] for one in set(objects)]

    async def collect() -> None:
        for _ in range(100):
            Hashing(cls())
        gc.collect()

    first = hoop.sim.run(main)
    hoop.sim.run(collect)
    kept = []
    for _ in range(10):
        assert hoop.sim.run(main) == first
        kept.append([cls() for _ in range(10)])  # other addresses for the objects
