"""Bugs that only some orders of events show are found within 200 seeds, and their corrected twins pass."""

from __future__ import annotations

import functools

import planted
import pytest

import hoop.sim

# The program, the orders that show its bug, and those that cannot.
BUGS = [
    (planted.lost_update, ("fifo", "wakes", "single", "pct"), ()),
    (planted.pool_of_connections, ("fifo", "wakes", "single", "pct"), ()),
    (planted.relies_on_first_waiter, ("wakes", "starts", "single", "pct", "mix"), ("fifo",)),
    (planted.relies_on_turn_before, ("single", "pct", "mix"), ("fifo", "wakes", "starts")),
    (planted.relies_on_order_of_start, ("starts", "single", "pct", "mix"), ("fifo", "wakes")),
    (planted.six_steps_ahead, ("single", "pct", "mix"), ("fifo", "wakes", "starts")),
    (planted.shutdown_loses_item, ("fifo", "wakes", "single", "pct"), ()),
    (planted.lock_released_twice, ("fifo", "wakes", "single", "pct"), ()),
    (planted.waiters_forgotten, ("fifo", "wakes", "single", "pct"), ()),
]
FOUND = [(program, order) for program, orders, _ in BUGS for order in orders]
HIDDEN = [(program, order) for program, _, orders in BUGS for order in orders]


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


def first_failing_seed(program, order, disk=None, **options):
    """Of 200. The rest need not run for this, as explore() would have it."""
    for seed in range(200):
        copy = None if disk is None else planted.disk()
        try:
            hoop.sim.run(program, seed=seed, order=order, disk=copy, **options)
        except Exception:
            return seed
    raise AssertionError("no seed has failed")


@pytest.mark.parametrize(("program", "order"), FOUND, ids=name_of)
def test_a_planted_bug_is_found(program, order):
    wrong = functools.partial(program, False)
    seed = first_failing_seed(wrong, order)
    with pytest.raises(BaseException) as caught:  # noqa: PT011, each bug has its own
        hoop.sim.explore(wrong, seeds=range(seed, seed + 3), order=order)
    assert not isinstance(caught.value, hoop.sim.NotDeterministic)
    notes = "\n".join(caught.value.__notes__)
    assert f"seed {seed} failed" in notes
    assert "of 3 seeds" in notes


@pytest.mark.parametrize(("program", "order"), HIDDEN, ids=name_of)
def test_an_order_that_is_not_drawn_hides_it(program, order):
    hoop.sim.explore(functools.partial(program, False), seeds=50, order=order)


@pytest.mark.parametrize("order", ["fifo", "wakes", "starts", "single", "pct"])
@pytest.mark.parametrize("program", [program for program, _, _ in BUGS], ids=name_of)
def test_the_corrected_twin_passes(program, order):
    hoop.sim.explore(functools.partial(program, True), seeds=50, order=order)


# A program that fails leaves its connections open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("program", planted.OPTIONS, ids=name_of)
def test_a_bug_that_shows_in_a_network_or_on_a_disk_is_found_and_runs_again(program):
    options = planted.OPTIONS[program]
    wrong = functools.partial(program, False)
    seed = first_failing_seed(wrong, "mix", **options)
    with pytest.raises(BaseException) as caught:  # noqa: PT011, each bug has its own
        hoop.sim.explore(wrong, seeds=[seed], order="mix", shrink_seconds=0.5, **options)
    assert not isinstance(caught.value, hoop.sim.NotDeterministic)
    notes = "\n".join(caught.value.__notes__)
    for part in (f"seed {seed} failed", "replayed: same trace", "shrunk: ", "again: "):
        assert part in notes


@pytest.mark.parametrize("program", planted.OPTIONS, ids=name_of)
def test_its_corrected_twin_passes(program):
    hoop.sim.explore(
        functools.partial(program, True), seeds=3, order="mix", **planted.OPTIONS[program]
    )
