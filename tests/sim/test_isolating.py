"""Runs in processes of their own: nothing is left of the run before, and several run at once."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time

import pytest

import hoop.sim
from hoop.sim.search.isolating import Child

left_behind: list[int] = []


async def leaves_something_behind():
    left_behind.append(1)
    await asyncio.sleep(len(left_behind))
    hoop.sim.sometimes(hoop.sim.random() > 0.5, "a great number")
    assert len(left_behind) == 1


async def two_in_order():
    order = []

    async def note(what):
        await asyncio.sleep(1)
        order.append(what)

    await asyncio.gather(note(1), note(2))
    if order != [1, 2]:
        raise KeyError(tuple(order))


def test_each_isolated_run_begins_anew():
    assert (
        str(hoop.sim.explore(leaves_something_behind, seeds=10, isolate=True)) == "10 seeds passed"
    )
    assert not left_behind
    with pytest.raises(hoop.sim.NotDeterministic):
        hoop.sim.explore(leaves_something_behind, seeds=10)
    left_behind.clear()


def test_an_isolated_failure_has_the_same_report_and_its_traceback(tmp_path):
    with pytest.raises(KeyError) as here:
        hoop.sim.explore(two_in_order, seeds=20)
    with pytest.raises(KeyError) as caught:
        hoop.sim.explore(two_in_order, seeds=20, isolate=True, trace=tmp_path / "trace")
    assert caught.value.args == here.value.args == ((2, 1),)
    where, note = caught.value.__notes__
    assert "raise KeyError(tuple(order))" in where
    kept = [line for line in note.splitlines() if "trace: " not in line]
    crc, shrunk = (next(i for i, x in enumerate(kept) if word in x) for word in ("crc", "shrunk"))
    assert kept[0] == here.value.__notes__[0].splitlines()[0]
    assert kept[crc] in here.value.__notes__[0]
    assert kept[shrunk] in here.value.__notes__[0]
    with pytest.raises(KeyError):
        hoop.sim.run(two_in_order, seed=int(kept[0].split()[2]), choices=tmp_path / "trace")


def test_workers_find_what_one_process_finds():
    titles = []
    for workers in (1, 3):
        with pytest.raises(KeyError) as caught:
            hoop.sim.explore(two_in_order, seeds=30, workers=workers)
        titles.append(caught.value.__notes__[0].splitlines()[0])
    assert titles[0] == titles[1]


def test_workers_tell_each_other_what_has_happened():
    async def main(limit):
        hoop.sim.sometimes(hoop.sim.random() < limit, "a small number")

    assert hoop.sim.explore(lambda: main(0.2), seeds=40, workers=2).runs == 40
    with pytest.raises(hoop.sim.NeverHappened, match="in 40 runs: a small number"):
        hoop.sim.explore(lambda: main(-1), seeds=40, workers=2)


def test_a_wait_that_is_interrupted_leaves_no_process():
    class Interrupted(io.BytesIO):
        def read(self, size=-1):
            raise KeyboardInterrupt

    child = Child(lambda: time.sleep(1000))
    child.pipe.close()
    child.pipe = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        child.result()
    child.end()
    child.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_an_exception_that_cannot_be_sent_is_told_in_words():
    class Local(Exception):
        pass

    async def main():
        raise Local("only here")

    with pytest.raises(hoop.sim.SimError, match=r"Local: only here") as caught:
        hoop.sim.explore(main, seeds=2, isolate=True)
    assert any("raise Local" in note for note in caught.value.__notes__)


def test_a_process_that_ends_by_itself_is_told():
    async def main():
        os._exit(7)

    with pytest.raises(hoop.sim.SimError, match="ended with code 7, and sent no result"):
        hoop.sim.explore(main, seeds=2, isolate=True)


@pytest.mark.parametrize("how", [{"isolate": True}, {"workers": 2}])
def test_what_ends_everything_ends_it_from_another_process_too(how):
    async def main():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        hoop.sim.explore(main, seeds=4, **how)
    assert "sim: seed 0 ended so" in caught.value.__notes__


def test_a_run_that_is_stuck_in_c_is_killed():
    with pytest.raises(hoop.sim.Stuck, match="was killed"):
        Child(lambda: os.kill(os.getpid(), signal.SIGKILL)).result()


@pytest.mark.parametrize(("workers", "error"), [(0, ValueError), ("2", TypeError)])
def test_wrong_workers_are_refused(workers, error):
    with pytest.raises(error, match="workers must be"):
        hoop.sim.explore(two_in_order, workers=workers)
