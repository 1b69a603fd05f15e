"""The election of raft.py: its two bugs are found within 200 seeds, and without them it passes."""

from __future__ import annotations

import functools

import pytest
import raft

import hoop.sim


def first_failing_seed(main, start):
    for seed in range(start, start + 200):
        try:
            hoop.sim.run(main, seed=seed, disk=raft.disk())
        except AssertionError:
            return seed
    raise AssertionError("no seed has failed")


@pytest.mark.parametrize(
    ("syncs", "checks", "start"), [(False, True, 3), (True, False, 20)], ids=["syncs", "checks"]
)
def test_a_planted_bug_is_found(syncs, checks, start):
    main = functools.partial(raft.elect, 3, syncs, checks)
    seed = first_failing_seed(main, start)
    with pytest.raises(AssertionError, match="a term has two leaders") as caught:
        hoop.sim.explore(main, seeds=[seed], disk=raft.disk(), shrink_seconds=0.1)
    notes = "\n".join(caught.value.__notes__)
    assert f"seed {seed} failed" in notes
    assert "power losses" in notes


@pytest.mark.parametrize(("size", "seeds"), [(3, 4), (5, 2)])
def test_the_election_passes(size, seeds):
    main = functools.partial(raft.elect, size, True, True)
    hoop.sim.explore(main, seeds=seeds, order="mix", disk=raft.disk())
