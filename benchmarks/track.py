"""Counts the instructions of an operation before and after a change, with valgrind's callgrind.

The question it answers: did a change make an operation longer or shorter? The count hardly varies from run
to run and does not depend on other programs, so small steps show. The question it cannot answer: how long
does an operation take? A cache miss, a missed branch or a system call counts like any other instruction.
The kernel's work is not counted at all.

It compares the build here with a commit: the last one if the core has changed since, or else the one before
it. That commit is built in build/track, with the same Python. Each row runs at two sizes in processes of
their own. The difference of the counts, divided by the difference of the sizes, leaves out the
interpreter's start and all preparation. With --observed each row also runs after hoop.observe.start().
Then only the loop's thread counts, for valgrind makes the observer look far too often for the work done.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from loops import HOOP, describe_python
from processes import UNAVAILABLE, worker
from rows import SCHEDULING, Contestant, Row

ROOT = Path(__file__).resolve().parent.parent
CORE = ("src", "setup.py")
SMALL, LARGE = 2_000, 12_000
TIMEOUT_S = 300


# ---- the two builds ----


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.decode().strip()}")
    return done.stdout


def choose_commit(named: str | None) -> str:
    """Return the full name of the commit to compare with."""
    if named is None:
        changed = git("status", "--porcelain", "--", *CORE).strip()
        named = "HEAD" if changed else "HEAD~1"
    return git("rev-parse", "--verify", f"{named}^{{commit}}").decode().strip()


def build(commit: str) -> Path:
    """Return the source folder of that commit with its core compiled, as it was left if it is there."""
    tag = f"{commit[:12]}-{sys.implementation.cache_tag}"
    folder = ROOT / "build" / "track" / tag
    if not (folder / ".built").exists():
        print(f"building {commit[:12]}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tarfile.open(fileobj=BytesIO(git("archive", "--format=tar", commit))) as archive:
            archive.extractall(folder, filter="data")
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{commit[:12]} does not build:\n{done.stderr[-2000:]}")
        (folder / ".built").touch()
    return folder / "src"


# ---- counting ----


def count_once(source: Path, row: Row, contestant: Contestant, operations: int) -> int | None:
    """Return the instructions of a process that does so many operations, or None if it cannot."""
    parameters = {**row.parameters, **contestant.parameters, "operations": operations}
    with TemporaryDirectory() as folder:
        output = Path(folder) / "counts"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
        command += ["--separate-threads=yes"]
        command += worker("count", contestant.loop, contestant.what, parameters)
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode == UNAVAILABLE:
            return None
        thread = Path(f"{output}-01")  # The first thread has the loop.
        totals = thread.exists() and re.search(r"^totals: (\d+)", thread.read_text(), re.MULTILINE)
        if done.returncode != 0 or not totals:
            raise SystemExit(f"{row.name} failed under valgrind:\n{done.stderr[-2000:]}")
        return int(totals[1])


def count(source: Path, row: Row, contestant: Contestant) -> float | None:
    """Return the instructions of one operation, or None if it cannot be done there."""
    small = count_once(source, row, contestant, SMALL)
    large = count_once(source, row, contestant, LARGE)
    return None if small is None or large is None else (large - small) / (LARGE - SMALL)


def observed(contestant: Contestant) -> Contestant:
    return dataclasses.replace(contestant, loop=f"{contestant.loop}-observed")


def entries(rows: str | None, loop: str) -> list[tuple[Row, Contestant]]:
    """Return what is to be counted: each row as it is on this loop, and hoop's own way if there is one."""
    wanted = rows.split(",") if rows else [row.name for row in SCHEDULING if not row.once]
    by_name = {row.name: row for row in SCHEDULING}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(unknown)}; there are: {', '.join(by_name)}")
    return [
        (by_name[name], c) for name in wanted for c in by_name[name].contestants if c.loop == loop
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", help="the commit to compare with (default: see above)")
    parser.add_argument("--rows", help="comma-separated rows (default: all about scheduling)")
    parser.add_argument("--loop", default=HOOP[0], choices=HOOP, help="default: %(default)s")
    parser.add_argument("--observed", action="store_true", help="count also with hoop.observe on")
    parser.add_argument(
        "--limit", type=float, metavar="PERCENT", help="fail if an operation got longer by more"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    chosen = entries(arguments.rows, arguments.loop)
    commit = choose_commit(arguments.commit)
    before, here = build(commit), ROOT / "src"
    ways = ["here", "observed"] if arguments.observed else ["here"]
    print(f"{describe_python()}, {arguments.loop}: instructions per operation\n")
    print(f"| row | {commit[:12]} |", *(f"{way} | change |" for way in ways))
    print("| --- | --- |", *("--- | --- |" for _ in ways))
    longer = []
    for row, contestant in chosen:
        name = f"{row.name}{contestant.label.removeprefix(contestant.loop)}"
        base = count(before, row, contestant)
        print(f"| {name} | {shown(base)} |", end="", flush=True)
        for way in ways:
            entry = observed(contestant) if way == "observed" else contestant
            now = count(here, row, entry)
            percent = (now / base - 1) * 100 if now is not None and base is not None else None
            change = "-" if percent is None else f"{percent:+.2f} %"
            print(f" {shown(now)} | {change} |", end="", flush=True)
            if arguments.limit is not None and percent is not None and percent > arguments.limit:
                longer.append(f"{name} ({way})")
        print()
    if longer:
        raise SystemExit(f"longer by more than {arguments.limit} %: {', '.join(longer)}")


def shown(operation: float | None) -> str:
    return "not there" if operation is None else f"{operation:,.0f}"


if __name__ == "__main__":
    main()
