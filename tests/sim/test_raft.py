"""The election of raft.py: its two bugs are found within 200 seeds, and without them it passes."""

from __future__ import annotations

import functools

import pytest
import raft

import hoop.sim


def first_failing_seed(main):
    for seed in range(200):
        try:
            hoop.sim.run(main, seed=seed, disk=raft.disk())
        except AssertionError:
            return seed
    raise AssertionError("no seed has failed")


@pytest.mark.parametrize(
    "wrong", [{"syncs": False, "checks": True}, {"syncs": True, "checks": False}]
)
def test_a_planted_bug_is_found(wrong):
    main = functools.partial(raft.elect, 3, wrong["syncs"], wrong["checks"])
    seed = first_failing_seed(main)
    with pytest.raises(AssertionError, match="a term has two leaders") as caught:
        hoop.sim.explore(main, seeds=[seed], disk=raft.disk(), shrink_seconds=0.2)
    notes = "\n".join(caught.value.__notes__)
    assert f"seed {seed} failed" in notes
    assert "power losses" in notes


@pytest.mark.parametrize(("size", "seeds"), [(3, 10), (5, 4)])
def test_the_election_passes(size, seeds):
    main = functools.partial(raft.elect, size, True, True)
    hoop.sim.explore(main, seeds=seeds, order="mix", disk=raft.disk())
