"""A seed decides everything: the same trace in another process, with other hashes, on another Python."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
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
        if len(runs) == 4:
            raise leaving

    with pytest.raises(leaving) as caught:
        hoop.sim.explore(main, seeds=20)
    assert caught.value.__notes__ == ["sim: seed 2 ended so"]
    assert len(runs) == 4


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
    assert seen == [0.0] * 4  # the first runs twice


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


class Owner:
    """Takes its objects out of a set in its finalizer."""

    found: set[Any]

    def __init__(self, objects: list[Any], failed: list[KeyError]) -> None:
        self.objects = objects
        self.failed = failed
        self.own = self

    def __del__(self) -> None:
        for one in self.objects:
            try:
                self.found.remove(one)
            except KeyError as exc:
                self.failed.append(exc)


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


class Token:
    """Has an object that the collector does not know."""

    __slots__ = ()


HASHES = """
import asyncio, gc, sys
sys.path.insert(0, sys.argv[1])
from test_replay import Early, Itself, Late, Scope, Token

early, late, slotted = Early(), [], []
found = {early: 1}
tokens = [Token() for _ in range(20)]
found.update(dict.fromkeys(tokens, 4))
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
    for one in tokens:
        assert found[one] == 4
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


@pytest.mark.parametrize("cls", [Node, Leaf, Last])
def test_a_finalizer_takes_objects_out_of_a_set(cls):
    """Of a cycle the collector calls the finalizers in the order in which the objects were made."""
    failed: list[KeyError] = []

    async def main() -> None:
        for _ in range(5):
            objects = [cls()]
            owner = Owner(objects, failed)
            objects.append(cls())
            for one in objects:
                one.other = one
            owner.found = set(objects)
            del owner, objects, one
        gc.collect()

    hoop.sim.run(main)
    assert failed == []


@pytest.mark.parametrize("cls", [Node, Leaf, Last])
def test_an_object_that_a_finalizer_brings_back_keeps_its_hash(cls):
    kept = []

    class Keeping:
        def __init__(self, one: Any) -> None:
            self.found = {one}
            one.other = self

        def __del__(self) -> None:
            kept.append(self.found)

    async def main() -> None:
        for _ in range(20):
            Keeping(cls())
        gc.collect()
        assert len(kept) == 20
        for found in kept:
            (one,) = found
            assert one in found

    hoop.sim.run(main)
    for found in kept:
        (one,) = found
        assert one in found


# ---- what a process does once --------------------------------------------------------------------------


class OwnTask(asyncio.Task):
    """A task of asyncio's own class."""


class NamedTask(asyncio.Task):
    """One that hands the arguments on."""

    def __init__(self, coro: Any, **options: Any) -> None:
        super().__init__(coro, **options)


async def tasks_of_all_kinds() -> list[str]:
    class Local(asyncio.Task):
        pass

    async def nothing() -> None:
        pass

    kinds: list[Any] = [asyncio.Task, OwnTask, NamedTask, Local, asyncio.tasks._PyTask]
    tasks = [kind(nothing()) for kind in [hoop.Task, *kinds]]
    named = [kind(nothing(), name="mine") for kind in kinds]
    await asyncio.wait(tasks + named)
    assert {task.get_name() for task in named} == {"mine"}
    return [task.get_name() for task in tasks]


def test_tasks_of_all_classes_are_named_together_and_anew_in_each_run():
    expected = [f"Task-{n}" for n in range(2, 8)]
    for _ in range(2):
        assert hoop.sim.run(tasks_of_all_kinds) == expected


def test_a_deadlock_of_asyncio_s_own_tasks_is_the_same_in_both_runs():
    async def main() -> None:
        await asyncio.wait([asyncio.Task(asyncio.Event().wait()) for _ in range(3)])

    with pytest.raises(hoop.sim.Deadlock):
        hoop.sim.explore(main, seeds=2)


class Listener:
    """Has methods that are called back."""

    def hear(self) -> None: ...

    def see(self) -> None: ...


async def handles() -> list[Any]:
    return [asyncio.get_running_loop().call_soon(int) for _ in range(30)]


async def coroutines() -> list[Any]:
    return [asyncio.sleep(0) for _ in range(30)]


async def coroutines_of_hoop() -> list[Any]:
    return [hoop.sleep(0) for _ in range(30)]


async def methods() -> list[Any]:
    listeners = [Listener() for _ in range(15)]
    return [method for one in listeners for method in (one.hear, one.see)]


@pytest.mark.parametrize("made", [handles, coroutines, coroutines_of_hoop, methods])
def test_a_set_has_the_same_order_each_time(made):
    async def main() -> list[int]:
        kept.append([await made() for _ in range(len(kept))])  # other addresses for the next ones
        objects = await made()
        order = [objects.index(one) for one in set(objects)]
        close([objects])
        return order

    def close(all_objects: list[list[Any]]) -> None:
        for one in itertools.chain(*all_objects):
            if asyncio.iscoroutine(one):
                one.close()

    kept: list[list[list[Any]]] = []
    orders = [hoop.sim.run(main, seed=1) for _ in range(5)]
    for each in kept:
        close(each)
    assert orders == [orders[0]] * 5


@pytest.mark.parametrize("as_completed", [asyncio.as_completed, hoop.as_completed])
def test_as_completed_takes_coroutines_in_the_same_order_each_time(as_completed):
    async def main() -> list[int]:
        return [await one for one in as_completed([asyncio.sleep(1, n) for n in range(20)])]

    first = hoop.sim.run(main, seed=1)
    for n in range(5):
        kept = [asyncio.sleep(n) for _ in range(5 * n + 1)]
        assert hoop.sim.run(main, seed=1) == first
        for one in kept:
            one.close()


def test_generators_that_are_left_end_in_the_same_order_each_time():
    async def main() -> list[int]:
        async def count(n: int) -> AsyncIterator[int]:
            try:
                yield n
            finally:
                ended.append(n)

        ended: list[int] = []
        kept.append([count(n) for n in range(20)])
        for one in kept[-1]:
            await anext(one)
        return ended

    kept: list[Any] = []
    orders = [hoop.sim.run(main, seed=1) for _ in range(5)]
    assert orders == [orders[0]] * 5
    assert len(orders[0]) == 20


def test_what_was_hashed_before_the_first_run_keeps_its_hash():
    command = [sys.executable, "-c", BEFORE]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


BEFORE = """
import asyncio

class Listener:
    def hear(self): ...

async def wait(): ...

def count(): yield

listener = Listener()
found = {wait(), count(), listener.hear, len, asyncio.sleep(0)}

import hoop.sim

async def main():
    assert all(one in found for one in list(found))
    assert listener.hear in found

for _ in range(2):
    hoop.sim.run(main)
    assert all(one in found for one in list(found))
    assert listener.hear in found
for one in found:
    if asyncio.iscoroutine(one):
        one.close()
print("done")
"""
