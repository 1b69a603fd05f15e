"""Servers and clients of libraries, and a database of ours, pass in a simulation: see libraries.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import libraries
import pytest

import hoop.sim

SCRIPT = Path(__file__).parent / "simulate.py"


@pytest.mark.parametrize("faults", ["", " faults"])
@pytest.mark.parametrize("name", list(libraries.USES))
def test_a_program_passes_and_has_one_trace(name, faults):
    needs, _ = libraries.USES[name]
    for library in needs:
        pytest.importorskip(library)
    main, settings = libraries.prepare(name + faults)
    hoop.sim.explore(main, seeds=1, **settings)  # it runs that seed twice


def test_the_trace_is_the_same_in_each_process():
    """That of database.py depends on no library, and iterates over no set of strings."""
    command = [
        sys.executable,
        str(SCRIPT),
        "--sums",
        "--programs",
        "database faults",
        "--seeds",
        "3",
    ]

    def sums(hashing: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hashing}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return run.stdout

    found = sums("1")
    assert len(set(found.split())) > 3
    assert found == sums("2")
