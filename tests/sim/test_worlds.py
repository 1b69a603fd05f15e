"""The strategy for Hypothesis draws worlds, and a test that fails shows the seed."""

from __future__ import annotations

import asyncio
import sys

import pytest

import hoop.sim


async def in_order():
    order = []

    async def note(what):
        await asyncio.sleep(1)
        order.append(what)

    await asyncio.gather(note(1), note(2))
    return order


def test_worlds_are_drawn_and_the_seed_of_a_failure_is_shown(tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path)
    seen = set()

    @hypothesis.settings(database=None, max_examples=30, deadline=None)
    @hypothesis.given(hoop.sim.worlds(), hypothesis.strategies.integers(0, 9))
    def test(world, number):
        async def main():
            assert hoop.sim.now() == 0
            return await in_order(), number

        order, same = world.run(main)
        assert same == number
        seen.add(tuple(order))
        assert order == [1, 2]

    with pytest.raises(AssertionError) as caught:
        test()
    shown = next(line for line in caught.value.__notes__ if "SeededWorld(seed=" in line)
    seed = int(shown.partition("SeededWorld(seed=")[2].partition(")")[0])
    assert seen == {(1, 2), (2, 1)}
    orders = {tuple(hoop.sim.run(in_order, seed=seed, order="mix")) for _ in range(2)}
    assert orders == {(2, 1)}


def test_it_says_that_hypothesis_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        hoop.sim.worlds()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="order must be one of"):
        hoop.sim.worlds(order="any")
    with pytest.raises(ValueError, match="limit must be greater than 0"):
        hoop.sim.worlds(limit=0)
