"""Prints a run's results: what went wrong, a table of the modules, and the final count."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from pathlib import Path
from typing import TextIO

from supervisor import ModuleRun, Result
from verdict import WRONG

COLUMNS = ("ran", "passed", "skipped", "excepted", "stock", "failed", "hung", "crashed")
HEADINGS = {
    "failed": "FAILED",
    "hung": "HUNG",
    "crashed": "CRASHED",
    "surprise": "UNEXPECTEDLY PASSES",
    "stock": "fails on stock asyncio too",
    "excepted": "excepted",
    "skipped": "skipped",
    "passed": "passed",
}


def count(runs: list[ModuleRun]) -> Counter[str]:
    """How many tests had each outcome; ``ran`` is all that were not skipped."""
    counts = Counter(result.outcome for run in runs for result in run.results)
    counts["ran"] = counts.total() - counts["skipped"]
    return counts


def print_details(runs: list[ModuleRun], verbose: bool, out: TextIO) -> None:
    """List the tests that did not simply pass, worst first; with ``verbose``, say why."""
    for outcome in (*reversed(WRONG), "stock", *(("excepted", "skipped") if verbose else ())):
        results = [r for run in runs for r in run.results if r.outcome == outcome]
        for result in results:
            print(f"{HEADINGS[outcome]}: {result.id}{_gist(result)}", file=out)
            if verbose and outcome != "skipped":
                for line in result.detail.splitlines():
                    print(f"    {line}", file=out)


def _gist(result: Result) -> str:
    """The one line of a result's detail that says most."""
    lines = [line.strip() for line in result.detail.splitlines() if line.strip()]
    if not lines:
        return ""
    if result.outcome in ("hung", "crashed", "excepted", "surprise"):
        return f": {lines[0][:160]}"
    return f": {lines[-1][:160]}"


def print_summary(runs: list[ModuleRun], loop: str, out: TextIO) -> None:
    """Print the table and, alone on the last line, the count that decides."""
    width = max([len(run.module) for run in runs] + [len("module")])
    print(f"\n{loop} on Python {platform.python_version()}\n", file=out)
    print("module".ljust(width) + "".join(f"{c:>9}" for c in COLUMNS) + "   seconds", file=out)
    for run in [*runs, ModuleRun("total", seconds=sum(run.seconds for run in runs))]:
        counts = count(runs if run.module == "total" else [run])
        counts["failed"] += counts["surprise"]
        cells = "".join(f"{counts[column]:9}" for column in COLUMNS)
        print(f"{run.module:{width}}{cells}{run.seconds:10.1f}", file=out)
    print(f"\n{final_line(runs)}", file=out)


def final_line(runs: list[ModuleRun]) -> str:
    """The line that decides: ``N passed, M failed`` and, if any were, ``, K skipped``."""
    counts = count(runs)
    wrong = sum(counts[outcome] for outcome in WRONG)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"{counts['passed']} passed, {wrong} failed{skipped}"


def write_json(runs: list[ModuleRun], loop: str, path: Path) -> None:
    """Write every result to a file, for other programs to read."""
    document = {
        "loop": loop,
        "python": platform.python_version(),
        "counts": count(runs),
        "modules": [dataclasses.asdict(run) for run in runs],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
