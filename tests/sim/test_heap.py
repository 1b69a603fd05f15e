"""The collector: what a program has frozen stays so, and nothing else is frozen after an exploration."""

from __future__ import annotations

import asyncio
import gc

import pytest

import hoop.sim
from hoop.sim.search.heap import FROZEN_MIN


async def main():
    await asyncio.sleep(1)


def explore():
    hoop.sim.explore(main, seeds=3)


def cancel_each():
    hoop.sim.cancel_each(main)


@pytest.mark.parametrize("search", [explore, cancel_each])
def test_what_the_program_has_frozen_stays_frozen(search):
    gc.freeze()
    before = gc.get_freeze_count()
    assert before > FROZEN_MIN
    search()
    assert gc.get_freeze_count() > before - FROZEN_MIN


@pytest.mark.parametrize("search", [explore, cancel_each])
def test_nothing_is_frozen_afterwards_if_nothing_was_before(search):
    gc.unfreeze()
    try:
        search()
        assert gc.get_freeze_count() < FROZEN_MIN
    finally:
        gc.collect()
        gc.freeze()  # as conftest.py has done
