"""Runs hoop's own tests in simulations, by pytest in a process of its own: see in_world.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDERS = ("sync", "scheduling", "loop", "watching", "net", "streams", "tls", "files")
PROGRAMS = {f"tests of {folder}": folder for folder in FOLDERS}


def run_tests(first: int, count: int, *options: str) -> tuple[str, bool]:
    """Run tests with so many seeds. Returns what pytest says, and whether one failed, or none was there."""
    command = [sys.executable, "-m", "pytest", "-p", "in_world", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "--tb=short", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE.parent.parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
            "HOOP_SIM_SEED": str(first),
            "HOOP_SIM_SEEDS": str(count),
        },
        check=False,
    )
    return result.stdout, result.returncode != 0


def run_batch(name: str, first: int, count: int) -> str:
    """Run a folder's tests with so many seeds. Returns what pytest says if one failed, or nothing."""
    said, failed = run_tests(first, count, "-x", f"tests/{PROGRAMS[name]}")
    return said if failed else ""
