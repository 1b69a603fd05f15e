"""Some runs of the fuzzer with fixed seeds: `make fuzz` has as many as one wants, with sanitizers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIRST_SEED = 1
SEEDS = 3
FUEL = 250


def test_random_programs_break_nothing(driver):
    command = [sys.executable, str(Path(__file__).parent / "worker.py")]
    done = subprocess.run(
        [*command, driver, str(FUEL), str(FIRST_SEED), str(SEEDS)],
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert wrong == [], done.stdout
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("done\n")
